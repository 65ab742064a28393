"""`GET /api/totals` and `…/{name}`: sums over typed tables, and whether what must hold does."""

from datetime import datetime
from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Path, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from api_gateway.http.openapi import reply
from api_gateway.http.problems import HEAD, INVALID, NOT_FOUND, UNAVAILABLE, HttpProblem
from api_gateway.queries.ledger import Ledger
from api_gateway.queries.parameters import NAME, Cursor, Moment, Reader, json_response, read_cursor
from api_gateway.queries.pipelines import Pipelines
from api_gateway.queries.total_views import TotalView
from api_gateway.queries.typed_views import page_query, read_page, read_view, view_name, where
from api_gateway.schemas import RowColumn, RowPage
from shared.auth.scopes import Scope
from shared.contracts.errors import Problem
from shared.contracts.totals import TotalPage, TotalState
from shared.pipelines.typed_tables import DATA_SCHEMA, quoted

_NAME_CHARS_MAX: Final = 63
# Each is a query over a whole table, one after the other.
_TOTALS_MAX: Final = 20
_ROWS_MAX: Final = 500
_CURSOR_CHARS_MAX: Final = 4_000
_NOT_FOUND: Final = "There is no total of this name."

_COUNTS: Final = """
    SELECT count(*) FILTER (WHERE holds) AS holding, count(*) FILTER (WHERE holds IS NOT TRUE) AS failing
    FROM {view} AS own {conditions}
"""


class TotalCursor(Cursor, frozen=True, tag="totals"):
    """The last total of a page."""

    name: Annotated[str, msgspec.Meta(max_length=_NAME_CHARS_MAX, pattern=NAME)]


class TotalRowCursor(Cursor, frozen=True, tag="total"):
    """The key of the last row of a page, each value as text, or null."""

    key: Annotated[tuple[str | None, ...], msgspec.Meta(max_length=50)]


class TotalQuery(BaseModel):
    """The parameters of both."""

    model_config = ConfigDict(extra="forbid")

    since: Moment | None = Field(
        None,
        description="rows that changed at this moment or later (RFC 3339); of the sums of a table with money what came "
        "in in the hour of this moment or later",
    )
    limit: int = Field(50, ge=1, le=_ROWS_MAX)
    cursor: str | None = Field(None, max_length=_CURSOR_CHARS_MAX, description="`next` of the page before")


class Totals:
    """Reads totals of active versions. One of a pipeline with a source that is not the caller's is not found."""

    def __init__(self, ledger: Ledger, pipelines: Pipelines) -> None:
        """Nothing is read here."""
        self._ledger = ledger
        self._pipelines = pipelines

    async def page(self, scope: Scope, *, since: datetime | None, after: TotalCursor | None, limit: int) -> TotalPage:
        """Return up to `limit` totals by name, with how many of their rows hold. Raises as `rows`."""
        found = [
            (total, state)
            async for state, rules in self._pipelines.covered(scope)
            for total in rules.totals
            if after is None or total.name > after.name
        ]
        found.sort(key=lambda pair: pair[0].name)
        limit = min(limit, _TOTALS_MAX)
        items = [await self._state(total, state["name"], state["version"], since) for total, state in found[:limit]]
        return TotalPage(items, TotalCursor(items[-1].name).encode() if len(found) > limit else None)

    async def rows(
        self, name: str, scope: Scope, *, since: datetime | None, after: TotalRowCursor | None, limit: int
    ) -> RowPage:
        """Return up to `limit` rows of a total: those that do not hold first, then in the order of the groups.

        Raises:
            HttpProblem: there is no such total, or the cursor is none of it. UnavailableError.
        """
        async for _, rules in self._pipelines.covered(scope):
            for total in rules.totals:
                if total.name == name:
                    query, parameters = rows_query(total, since, after)
                    page = await read_page(self._ledger, query, *parameters, limit=limit)
                    next_cursor = TotalRowCursor(page.last).encode() if page.more else None
                    columns = [RowColumn(column, kind) for column, kind in total.columns.items()]
                    return RowPage([msgspec.Raw(row) for row in page.rows], next_cursor, columns)
        raise HttpProblem(NOT_FOUND, _NOT_FOUND)

    async def _state(self, total: TotalView, pipeline: str, version: int | None, since: datetime | None) -> TotalState:
        holding = failing = None
        if total.is_checked:
            conditions, parameters = _since(total, since, number=1)
            query = _COUNTS.format(view=view_name(total.name), conditions=where(conditions))
            [row] = await read_view(self._ledger, query, *parameters)
            holding, failing = row["holding"], row["failing"]
        return TotalState(
            name=total.name,
            view=f"{DATA_SCHEMA}.{total.name}",
            of=total.of,
            pipeline=pipeline,
            version=version,
            must=total.must,
            holding=holding,
            failing=failing,
        )


def rows_query(total: TotalView, since: datetime | None, after: TotalRowCursor | None) -> tuple[str, list[object]]:
    """Return the query of a page, and its parameters from $3 on. Raises HttpProblem: the cursor is another total's."""
    conditions, parameters = _since(total, since, number=3)
    order = [_ordered(total, name, f"own.{quoted(name)}") for name in total.key]
    if after is not None:
        if len(after.key) != len(total.key):
            problem = Problem("/query/cursor", "must be `next` of a page before")
            raise HttpProblem(INVALID, "The cursor is not one of ours.", errors=[problem])
        given = [
            _ordered(total, name, f"${number}::text::{total.columns[name]}")
            for number, name in enumerate(total.key, 3 + len(parameters))
        ]
        # As rows are sorted, which a comparison of lists of values is not: null after every value.
        conditions.append(f"record_gt(ROW({', '.join(order)}), ROW({', '.join(given)}))")
        parameters += after.key
    return page_query(total.name, total.columns, total.key, order=order, conditions=conditions), parameters


def _ordered(total: TotalView, name: str, expression: str) -> str:
    """Return an expression as it is compared: texts by their bytes, whatever collation their column has."""
    return f'{expression} COLLATE "C"' if total.columns[name] == "text" else expression


def _since(total: TotalView, since: datetime | None, *, number: int) -> tuple[list[str], list[object]]:
    if since is None:
        return [], []
    return [total.since.format(f"${number}::timestamptz")], [since]


def total_router(totals: Totals) -> APIRouter:
    """Return the routes."""
    router = APIRouter(prefix="/api/totals", tags=["queries"], default_response_class=Response)

    @router.get(
        "",
        operation_id="listTotals",
        summary="List the totals, and whether they hold",
        responses=reply(TotalPage, NOT_FOUND, INVALID, HEAD, UNAVAILABLE, example={"items": [_EXAMPLE], "next": None}),
    )
    async def list_totals(caller: Reader, query: Annotated[TotalQuery, Query()]) -> Response:
        """The totals of active versions by name, of pipelines for all of whose sources the API key is.

        Of each `[[total]]` the rows that hold, and that do not, are counted. At most 20 are on a page.
        """
        after = read_cursor(query.cursor, TotalCursor)
        return json_response(await totals.page(caller.scope, since=query.since, after=after, limit=query.limit))

    @router.get(
        "/{name}",
        operation_id="listTotalRows",
        summary="Read the rows of a total",
        responses=reply(RowPage, NOT_FOUND, INVALID, HEAD, UNAVAILABLE, example=_ROWS_EXAMPLE),
    )
    async def list_rows(
        caller: Reader,
        name: Annotated[str, Path(max_length=_NAME_CHARS_MAX, pattern=NAME, examples=["order_sums"])],
        query: Annotated[TotalQuery, Query()],
    ) -> Response:
        """The rows of the view `data.{name}`: of a `[[total]]`, those that do not hold first; or of `TABLE_totals`.

        Sums and counts are texts. The total is not found unless the API key is for all sources of its pipeline.
        """
        after = read_cursor(query.cursor, TotalRowCursor)
        page = await totals.rows(name, caller.scope, since=query.since, after=after, limit=query.limit)
        return json_response(page)

    return router


_EXAMPLE: Final[dict[str, Any]] = {
    "name": "order_sums",
    "view": "data.order_sums",
    "of": "orders",
    "pipeline": "shop",
    "version": 3,
    "must": ["paid <= owed"],
    "holding": 41,
    "failing": 1,
}
_ROW_EXAMPLE: Final[dict[str, Any]] = {
    "day": "2026-11-23",
    "currency": "EUR",
    "rows": "204",
    "owed": "1099.50",
    "paid": "1100.00",
    "holds": False,
    "_loaded_at": "2026-11-23T08:00:00.123456+00:00",
}
_ROWS_EXAMPLE: Final[dict[str, Any]] = {
    "items": [_ROW_EXAMPLE],
    "next": None,
    "columns": [
        {"name": "day", "type": "date"},
        {"name": "currency", "type": "text"},
        {"name": "rows", "type": "bigint"},
        {"name": "owed", "type": "numeric"},
        {"name": "paid", "type": "numeric"},
        {"name": "holds", "type": "boolean"},
        {"name": "_loaded_at", "type": "timestamptz"},
    ],
}
