"""`GET /api/tables/{name}`: the rows of a typed table, as the view of it shows them."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Path, Query, Request, Response

from api_gateway.http.openapi import reply
from api_gateway.http.problems import HEAD, INVALID, NOT_FOUND, UNAVAILABLE, HttpProblem
from api_gateway.queries.ledger import Ledger
from api_gateway.queries.parameters import NAME, Cursor, Reader, json_response, read_cursor
from api_gateway.queries.pipelines import Pipelines
from api_gateway.queries.typed_views import page_query, read_page
from api_gateway.schemas import PipelineTable, RowColumn, RowPage
from shared.auth.scopes import Scope
from shared.contracts.errors import Problem
from shared.pipelines.typed_tables import EVENT, LOADED_AT, PART, PIPELINE, quoted

_ROWS_MAX: Final = 500
_CURSOR_CHARS_MAX: Final = 4_000
_OF_EVERY_ROW: Final = {each.name: each.sql_type for each in (EVENT, PART, PIPELINE, LOADED_AT)}
_OWN_PARAMETERS: Final = frozenset({"limit", "cursor"})


class RowCursor(Cursor, frozen=True, tag="rows"):
    """The key of the last row of a page, each value as text."""

    key: Annotated[tuple[str, ...], msgspec.Meta(max_length=50)]


class Tables:
    """Reads rows of typed tables. A table of a pipeline with a source that is not the caller's is not found."""

    def __init__(self, ledger: Ledger, pipelines: Pipelines) -> None:
        """Nothing is read here."""
        self._ledger = ledger
        self._pipelines = pipelines

    async def page(
        self, name: str, scope: Scope, filters: Mapping[str, str], *, after: RowCursor | None, limit: int
    ) -> RowPage:
        """Return up to `limit` rows whose key columns have the values of `filters`, in the order of the key.

        Raises:
            HttpProblem: there is no such table, or a filter is none. UnavailableError.
        """
        table = await self._pipelines.table(name, scope)
        query, parameters = rows_query(table, filters, after)
        page = await read_page(self._ledger, query, *parameters, limit=limit)
        return RowPage(
            [msgspec.Raw(row) for row in page.rows],
            RowCursor(page.last).encode() if page.more else None,
            [RowColumn(column, kind) for column, kind in _columns_of(table).items()],
        )


def rows_query(table: PipelineTable, filters: Mapping[str, str], after: RowCursor | None) -> tuple[str, list[str]]:
    """Return the query of a page, and its parameters from $3 on. Raises HttpProblem: a filter or the cursor is none."""
    columns = _columns_of(table)
    key = table.key
    if filters.keys() - set(key):
        problem = Problem("/query", f"may name the columns of the key alone: {', '.join(key)}")
        raise HttpProblem(INVALID, "A parameter is none of this table's.", errors=[problem])
    if after is not None and len(after.key) != len(key):
        raise HttpProblem(INVALID, "The cursor is not one of ours.", errors=[Problem("/query/cursor", _CURSOR)])
    parameters = [*filters.values(), *(after.key if after else ())]
    places = iter(range(3, 3 + len(parameters)))

    def given(name: str) -> str:
        return f"${next(places)}::text::{columns[name]}"

    conditions = [f"{quoted(name)} = {given(name)}" for name in filters]
    if after is not None:
        conditions.append(f"({_listed(key)}) > ({', '.join(given(name) for name in key)})")
    order = [f"own.{quoted(name)}" for name in key]
    return page_query(table.name, columns, key, order=order, conditions=conditions), parameters


def table_router(tables: Tables) -> APIRouter:
    """Return the route."""
    router = APIRouter(prefix="/api/tables", tags=["queries"], default_response_class=Response)

    @router.get(
        "/{name}",
        operation_id="listTableRows",
        summary="Read the rows of a typed table",
        responses=reply(RowPage, NOT_FOUND, INVALID, HEAD, UNAVAILABLE, example=_EXAMPLE),
    )
    async def list_rows(
        request: Request,
        caller: Reader,
        name: Annotated[str, Path(max_length=63, pattern=NAME, examples=["orders"])],
        limit: Annotated[int, Query(ge=1, le=_ROWS_MAX)] = 50,
        cursor: Annotated[
            str | None, Query(max_length=_CURSOR_CHARS_MAX, description="`next` of the page before")
        ] = None,
    ) -> Response:
        """The rows of the view `data.{name}` in the order of the key. Amounts and long whole numbers are texts.

        Each column of the key is a parameter, which rows must equal. The table is not found unless the API key is for
        all sources of its pipeline.
        """
        filters = {key: value for key, value in request.query_params.items() if key not in _OWN_PARAMETERS}
        if any("\x00" in value for value in filters.values()):
            raise HttpProblem(INVALID, "A parameter is no text.", errors=[Problem("/query", "must not hold U+0000")])
        after = read_cursor(cursor, RowCursor)
        return json_response(await tables.page(name, caller.scope, filters, after=after, limit=limit))

    return router


_CURSOR: Final = "must be `next` of a page before"
_EXAMPLE: Final[dict[str, Any]] = {
    "items": [
        {
            "id": "o-1",
            "gross": "10.99",
            "currency": "EUR",
            "_event": "4711",
            "_part": 0,
            "_pipeline": 3,
            "_loaded_at": "2026-11-23T08:00:00.123456+00:00",
        }
    ],
    "next": None,
    "columns": [
        {"name": name, "type": kind}
        for name, kind in ({"id": "text", "gross": "numeric", "currency": "text"} | _OF_EVERY_ROW).items()
    ],
}


def _columns_of(table: PipelineTable) -> dict[str, str]:
    """Return the columns of a view with their types."""
    return table.columns | _OF_EVERY_ROW


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"own.{quoted(name)}" for name in names)
