"""`GET /api/sources`: who has sent events."""

from typing import Annotated, Final

from fastapi import APIRouter, Query, Response
from msgspec import Meta
from pydantic import BaseModel, ConfigDict, Field

from api_gateway.http.openapi import reply
from api_gateway.http.problems import INVALID, UNAVAILABLE
from api_gateway.queries.ledger import Ledger, scope_parameters
from api_gateway.queries.parameters import Cursor, Reader, json_response, read_cursor
from api_gateway.schemas import SourcePage
from shared.auth.scopes import Scope
from shared.contracts.record import Source

_SOURCES_MAX: Final = 1_000

# Runs along the primary key. $3 and $4 are a scope, see `scope_parameters`.
_PAGE: Final = """
    SELECT id, name, created_at FROM ingestion_sources
    WHERE id > $1 AND ($3::text[] IS NULL OR name = ANY($3) OR name ^@ ANY($4::text[]))
    ORDER BY id LIMIT $2
"""


class SourceCursor(Cursor, frozen=True, tag="sources"):
    """The last source of a page."""

    id: Annotated[int, Meta(ge=0, lt=2**31)]


class SourceQuery(BaseModel):
    """The parameters of `GET /api/sources`."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(_SOURCES_MAX, ge=1, le=_SOURCES_MAX)
    cursor: str | None = Field(None, max_length=64, description="`next` of the page before")


class Sources:
    """Reads sources."""

    def __init__(self, ledger: Ledger) -> None:
        """Nothing is read here."""
        self._ledger = ledger

    async def page(self, scope: Scope, *, after: SourceCursor | None, limit: int) -> SourcePage:
        """Return up to `limit` sources of a scope, oldest first. Raises UnavailableError."""
        rows = await self._ledger.rows(_PAGE, after.id if after else 0, limit + 1, *scope_parameters(scope))
        items = [Source(**row) for row in rows[:limit]]
        return SourcePage(items, SourceCursor(items[-1].id).encode() if len(rows) > limit else None)


def source_router(sources: Sources) -> APIRouter:
    """Return the route."""
    router = APIRouter(prefix="/api", tags=["queries"], default_response_class=Response)

    @router.get(
        "/sources",
        operation_id="listSources",
        summary="List the sources",
        responses=reply(SourcePage, INVALID, UNAVAILABLE),
    )
    async def list_sources(caller: Reader, query: Annotated[SourceQuery, Query()]) -> Response:
        """Who has sent events, in the order of their first one; those that the API key is for."""
        after = read_cursor(query.cursor, SourceCursor)
        return json_response(await sources.page(caller.scope, after=after, limit=query.limit))

    return router
