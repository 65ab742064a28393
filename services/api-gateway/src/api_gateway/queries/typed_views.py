"""Pages of a view of schema `data`, whatever its columns are."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import asyncpg

from api_gateway.http.problems import INVALID, NOT_FOUND, HttpProblem
from api_gateway.queries.ledger import Ledger
from shared.contracts.errors import Problem, UnavailableError
from shared.pipelines.typed_tables import DATA_SCHEMA, quoted

# A reader of JSON may make a binary float of a number, and of a long one another number.
_SHOWN_AS_TEXT: Final = frozenset({"numeric", "bigint"})
_NO_VIEW: Final = "42P01"
_BAD_VALUE: Final = "22"

# Up to $1 rows in the order of their keys, and how many were `found` before the page was cut where it would grow beyond
# $2 bytes.
_PAGE: Final = """
    SELECT * FROM (
        SELECT *, sum(octet_length(shown)) OVER (ORDER BY place) - octet_length(shown) AS bytes_before,
               count(*) OVER () AS found
        FROM (SELECT row_number() OVER (ORDER BY {order}) AS place, ARRAY[{key}]::text[] AS key,
                     (SELECT row_to_json(one)::text FROM (SELECT {columns}) AS one) AS shown
              FROM (SELECT * FROM {view} AS own {conditions} ORDER BY {order} LIMIT $1) AS own) AS portion
    ) AS counted
    WHERE bytes_before + octet_length(shown) <= $2 OR bytes_before = 0
    ORDER BY place
"""


class ViewPage(NamedTuple):
    """Rows as JSON, the key of the last of them (texts and nulls), and whether there are more."""

    rows: list[bytes]
    last: tuple[Any, ...]
    more: bool


def page_query(
    view: str, columns: Mapping[str, str], key: Sequence[str], *, order: Sequence[str], conditions: Sequence[str]
) -> str:
    """Return the query of a page; $1 and $2 are given by `read_page`, and the conditions may use those after them.

    `columns`: names and types in SQL. `order`: expressions over the row `own`.
    """
    return _PAGE.format(
        order=", ".join(order),
        key=", ".join(f"own.{quoted(name)}::text" for name in key),
        columns=", ".join(
            f"own.{quoted(name)}{'::text' if kind in _SHOWN_AS_TEXT else ''} AS {quoted(name)}"
            for name, kind in columns.items()
        ),
        view=view_name(view),
        conditions=where(conditions),
    )


def view_name(view: str) -> str:
    """Return the name of a view as SQL takes it."""
    return f"{DATA_SCHEMA}.{quoted(view)}"


def where(conditions: Sequence[str]) -> str:
    """Return a clause; empty where there is no condition."""
    return "WHERE " + " AND ".join(conditions) if conditions else ""


async def read_page(ledger: Ledger, query: str, *parameters: object, limit: int) -> ViewPage:
    """Return up to `limit` rows. Raises HttpProblem (no view, or a parameter is none) or UnavailableError."""
    rows = await read_view(ledger, query, limit + 1, ledger.page_bytes_max, *parameters)
    shown = rows[:limit]
    more = bool(shown) and rows[0]["found"] > len(shown)
    return ViewPage([row["shown"].encode() for row in shown], tuple(shown[-1]["key"]) if shown else (), more)


async def read_view(ledger: Ledger, query: str, *parameters: object) -> list[asyncpg.Record]:
    """Return the rows of a query over a view. Raises as `read_page`."""
    try:
        return await ledger.rows(query, *parameters)
    except UnavailableError as error:
        raise _problem_of(error) or error from error


def _problem_of(error: UnavailableError) -> HttpProblem | None:
    """Return what the caller, or who applies pipelines, can do about an error of PostgreSQL; None: nothing."""
    cause = error.__cause__
    sqlstate = cause.sqlstate if isinstance(cause, asyncpg.PostgresError) else ""
    if sqlstate == _NO_VIEW:
        return HttpProblem(NOT_FOUND, "There is no table of this name.")
    if sqlstate and sqlstate.startswith(_BAD_VALUE):
        problem = Problem("/query", "a value is none of its column's type")
        return HttpProblem(INVALID, "A parameter is none of this table's.", errors=[problem])
    return None
