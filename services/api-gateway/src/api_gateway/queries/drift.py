"""`GET /api/drift`: what events held that the version of their pipeline does not read."""

from datetime import datetime
from typing import Annotated, Final

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from api_gateway.http.openapi import reply
from api_gateway.http.problems import INVALID, NOT_FOUND, UNAVAILABLE
from api_gateway.queries.ledger import Ledger
from api_gateway.queries.parameters import NAME, Moment, Reader, json_response
from api_gateway.queries.pipelines import Pipelines
from shared.auth.scopes import Scope
from shared.contracts.drift import DriftItem, DriftKind, DriftReport

_ITEMS_MAX: Final = 1_000
_NAME_CHARS_MAX: Final = 40

# The versions of pipeline $1, or of all, for which something was counted from the hour of $2 on.
_VERSIONS: Final = """
    SELECT version.id FROM pipelines AS version
    WHERE ($1::text IS NULL OR version.name = $1) AND EXISTS (
        SELECT FROM drifts
        WHERE pipeline_id = version.id
          AND hour > coalesce($2::timestamptz, now() - interval '7 days') - interval '1 hour')
"""
# Of the versions $1 from the hour of $2 on, the $3 places with the most events.
_DRIFT: Final = """
    SELECT version.name AS pipeline, version.version, counted.kind, counted.place, counted.events, counted.first_hour,
           counted.last_hour, raw.event_id AS example
    FROM (
        SELECT pipeline_id, kind, place, sum(events)::bigint AS events, min(hour) AS first_hour, max(hour) AS last_hour,
               max(example) AS example
        FROM drifts
        WHERE pipeline_id = ANY($1::int[])
          AND hour > coalesce($2::timestamptz, now() - interval '7 days') - interval '1 hour'
        GROUP BY pipeline_id, kind, place
        ORDER BY events DESC, pipeline_id, kind, place LIMIT $3
    ) AS counted
    JOIN pipelines AS version ON version.id = counted.pipeline_id
    LEFT JOIN raw_events AS raw ON raw.id = counted.example
    ORDER BY counted.events DESC, counted.pipeline_id, counted.kind, counted.place
"""


class DriftQuery(BaseModel):
    """The parameters of `GET /api/drift`."""

    model_config = ConfigDict(extra="forbid")

    pipeline: str | None = Field(None, max_length=_NAME_CHARS_MAX, pattern=NAME, examples=["shop"])
    since: Moment | None = Field(
        None, description="of events that came in in the hour of this moment or later (RFC 3339); else of seven days"
    )
    limit: int = Field(100, ge=1, le=_ITEMS_MAX)


class Drifts:
    """Reads what was counted. What concerns a pipeline with a source that is not the caller's is left out."""

    def __init__(self, ledger: Ledger, pipelines: Pipelines) -> None:
        """Nothing is read here."""
        self._ledger = ledger
        self._pipelines = pipelines

    async def report(self, scope: Scope, *, pipeline: str | None, since: datetime | None, limit: int) -> DriftReport:
        """Return the `limit` places with the most events, of one pipeline or of all.

        Raises:
            HttpProblem: there is no such pipeline, or it has a source beyond the scope. UnavailableError.
        """
        if pipeline is not None:
            await self._pipelines.check_covered(pipeline, scope)
        versions = await self._ledger.rows(_VERSIONS, pipeline, since)
        readable = [row["id"] for row in versions if await self._pipelines.covers_version(scope, row["id"])]
        rows = await self._ledger.rows(_DRIFT, readable, since, limit) if readable else []
        return DriftReport([DriftItem(**dict(row) | {"kind": DriftKind(row["kind"]).label}) for row in rows])


def drift_router(drifts: Drifts) -> APIRouter:
    """Return the route."""
    router = APIRouter(prefix="/api", tags=["queries"], default_response_class=Response)

    @router.get(
        "/drift",
        operation_id="getDrift",
        summary="List what pipelines do not read",
        responses=reply(DriftReport, NOT_FOUND, INVALID, UNAVAILABLE, example={"items": [_EXAMPLE]}),
    )
    async def get_drift(caller: Reader, query: Annotated[DriftQuery, Query()]) -> Response:
        """The types and members of events that the version which ran did not read, those of the most events first.

        A pipeline is shown where the API key is for all of its sources. No value is shown, and counts may lack the last
        seconds before a processor was killed.
        """
        report = await drifts.report(caller.scope, pipeline=query.pipeline, since=query.since, limit=query.limit)
        return json_response(report)

    return router


_EXAMPLE: Final = {
    "pipeline": "shop",
    "version": 3,
    "kind": "unknown_member",
    "place": "/order/discount",
    "events": 1204,
    "first_hour": "2026-11-23T08:00:00Z",
    "last_hour": "2026-11-23T10:00:00Z",
    "example": "019ab2f0-7c10-7000-8000-0123456789ab",
}
