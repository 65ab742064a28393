"""The audit: what the doors answered beside what the ledger holds, for one hour."""

from datetime import datetime
from typing import Annotated, Final, Protocol

import msgspec
from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

from api_gateway.exchange import admitted
from api_gateway.openapi import reply
from api_gateway.paging import AuditPosition, read_audit_cursor
from api_gateway.problems import INVALID, UNAVAILABLE, RefusalError
from api_gateway.views import AuditPage
from shared.auth.authenticator import Caller
from shared.auth.scopes import Scope
from shared.contracts.errors import UnavailableError
from shared.contracts.event import source_problem
from shared.contracts.moment import read_moment_of_query
from shared.contracts.outcome import Problem
from shared.contracts.receipt import OTHER_SOURCES, UNREADABLE_SOURCE

_LINES_MAX: Final = 5_000
_CURSOR_CHARS_MAX: Final = 400


def _hour(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)


def _countable_source(name: str) -> str:
    if name not in {UNREADABLE_SOURCE, OTHER_SOURCES} and (problem := source_problem(name)):
        raise ValueError(problem)
    return name


class AuditQuery(BaseModel):
    """The page of `GET /api/audit`."""

    model_config = ConfigDict(extra="forbid")

    hour: Annotated[AwareDatetime, BeforeValidator(read_moment_of_query), AfterValidator(_hour)] = Field(
        description="any moment of the hour, in which the events came in (RFC 3339)", examples=["2026-11-23T08:00:00Z"]
    )
    source: Annotated[str, AfterValidator(_countable_source)] | None = Field(None, examples=["manual-demo"])
    limit: int = Field(1_000, ge=1, le=_LINES_MAX)
    cursor: str | None = Field(None, max_length=_CURSOR_CHARS_MAX, description="`next` of the page before")


class Books(Protocol):
    """The ledger, as the audit sees it. Raises UnavailableError where it cannot answer now."""

    async def audit(
        self, hour: datetime, scope: Scope, *, source: str | None, after: AuditPosition | None, limit: int
    ) -> AuditPage:
        """Return a page of the lines of an hour, by source and channel, of a source or a scope; without queues."""


class Lanes(Protocol):
    """The queues between the services."""

    async def depths(self) -> dict[str, int]:
        """Return how many messages wait in each. Raises UnavailableError."""


def _auditor(request: Request) -> Caller:
    """Return who asks. Raises RightMissingError."""
    caller = admitted(request.scope)[1]
    caller.check_right("audit")
    return caller


def audit_router(books: Books, lanes: Lanes, *, receipt_seconds: float) -> APIRouter:
    """Return the route."""
    router = APIRouter(prefix="/api", tags=["queries"], default_response_class=Response)

    @router.get(
        "/audit",
        operation_id="getAudit",
        summary="Compare what was answered with what is stored",
        responses=reply(AuditPage, INVALID, UNAVAILABLE),
    )
    async def get_audit(
        caller: Annotated[Caller, Depends(_auditor)], query: Annotated[AuditQuery, Query()]
    ) -> Response:
        """The books of one hour, by source and channel. `etlpay audit` asks for hours and judges them.

        They are those of the sources that the API key is for.
        """
        if query.source is not None:
            caller.check_source(query.source, "/query/source")
        # The queues first: what is no longer in them must be in the books that are read afterwards.
        queues = await _depths(lanes)
        page = await books.audit(
            query.hour, caller.scope, source=query.source, after=_after(query.cursor), limit=query.limit
        )
        answer = msgspec.structs.replace(page, queues=queues, receipt_seconds=receipt_seconds)
        return Response(msgspec.json.encode(answer), media_type="application/json")

    return router


async def _depths(lanes: Lanes) -> dict[str, int] | None:
    try:
        return await lanes.depths()
    except UnavailableError:
        return None


def _after(cursor: str | None) -> AuditPosition | None:
    if cursor is None:
        return None
    try:
        return read_audit_cursor(cursor)
    except ValueError as error:
        problem = Problem("/query/cursor", "must be `next` of a page before")
        raise RefusalError(INVALID, "The cursor is not one of ours.", errors=[problem]) from error
