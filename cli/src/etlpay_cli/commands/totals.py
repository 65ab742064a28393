"""`etlpay totals`: shows the sums of typed tables, and whether what must hold does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final
from urllib.parse import quote

import msgspec
import typer

from etlpay_cli import console
from etlpay_cli.commands.invocation import LimitOption, ask, moment_before
from etlpay_cli.commands.pipeline import JsonOption
from etlpay_cli.errors import ERROR
from shared.contracts.totals import TotalPage, TotalState

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_HOLDS: Final = "holds"
_PATH: Final = "/api/totals"


class _Rows(msgspec.Struct):
    items: list[dict[str, Any]]
    next: str | None


def totals(
    name: Annotated[str | None, typer.Argument(help="The name of a total, or TABLE_totals; else all of them.")] = None,
    *,
    since: Annotated[
        str | None, typer.Option(help="Only what changed, or of TABLE_totals what came in, since: 24h, 7d.")
    ] = None,
    limit: LimitOption = 100,
    as_json: JsonOption = False,
) -> None:
    """Show control totals, those that do not hold first. Exit code 1: one does not hold."""
    parameters: dict[str, str | int] = {} if since is None else {"since": moment_before(since)}
    if name is None:
        _show_states(list(_states(parameters)), as_json=as_json)
    else:
        _show_rows(_rows(name, parameters, limit), as_json=as_json)


def _show_states(states: list[TotalState], *, as_json: bool) -> None:
    if as_json:
        console.print_json({"items": states})
    else:
        console.show_table(
            ("total", "pipeline", "of", "hold", "do not hold"),
            [
                (each.name, f"{each.pipeline}@{each.version}", each.of, _number(each.holding), _number(each.failing))
                for each in states
            ],
            numbers={"hold", "do not hold"},
            marked={number for number, each in enumerate(states) if each.failing},
        )
    raise typer.Exit(ERROR if any(each.failing for each in states) else 0)


def _show_rows(rows: _Rows, *, as_json: bool) -> None:
    failing = {number for number, row in enumerate(rows.items) if row.get(_HOLDS) is False}
    if as_json:
        console.print_json(rows)
    else:
        columns = tuple(dict.fromkeys(column for row in rows.items for column in row))
        shown = [tuple(_text(row.get(column)) for column in columns) for row in rows.items]
        console.show_table(columns, shown, numbers=set(), marked=failing)
        if rows.next is not None:
            console.print_warning("there are more rows; --limit shows more")
    raise typer.Exit(ERROR if failing else 0)


def _states(parameters: Mapping[str, str | int]) -> Iterator[TotalState]:
    page = ask(_PATH, parameters, TotalPage)
    yield from page.items
    while page.next is not None:
        page = ask(_PATH, {**parameters, "cursor": page.next}, TotalPage)
        yield from page.items


def _rows(name: str, parameters: Mapping[str, str | int], limit: int) -> _Rows:
    """Return up to `limit` rows: a page of large rows may have fewer."""
    path = f"{_PATH}/{quote(name, safe='')}"
    rows = ask(path, {**parameters, "limit": limit}, _Rows)
    while rows.next is not None and len(rows.items) < limit:
        page = ask(path, {**parameters, "limit": limit - len(rows.items), "cursor": rows.next}, _Rows)
        rows = _Rows(rows.items + page.items, page.next)
    return rows


def _number(count: int | None) -> str:
    return "-" if count is None else str(count)


def _text(value: object) -> str:
    if value is None:
        return "-"
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
