"""Lint what must hold for a whole file, and the views over several tables. Pure."""

from collections.abc import Iterator
from typing import Final

from shared.pipelines.document.problems import Steps
from shared.pipelines.document.words import Document
from shared.pipelines.linting.issues import ORDERED, Issue, repeated, table_named, unknown_columns, unknown_name
from shared.pipelines.linting.sums import must_issues, sums_issues, varying_currencies
from shared.pipelines.model import Complete, FileCheck, Pipeline, Rows, Table

RULES: Final = ("unique", "listed", "ascending", "complete", "filled", "rows", "sum")
NUMBERS_MAX: Final = 1_000_000
"""Numbers that a group may have to go through."""


def file_check_issues(pipeline: Pipeline) -> Iterator[Issue]:
    """Yield what is wrong with the checks of whole files."""
    for number, check in enumerate(pipeline.file_check):
        steps: Steps = ("file_check", number)
        given = [rule for rule in RULES if getattr(check, rule) is not None]
        if len(given) != 1:
            told = "has none" if not given else f"has {' and '.join(given)}"
            yield Issue(steps, f"must have exactly one rule of {', '.join(RULES)}; this one {told}")
            continue
        yield from _companion_issues(steps, check, given[0])
        yield from _table_issues(steps, check, given[0], pipeline)


def _companion_issues(steps: Steps, check: FileCheck, rule: str) -> Iterator[Issue]:
    """Yield keys that belong to another rule, and those that a rule lacks."""
    belongs: Document = {
        "in": ({"listed"}, check.in_ is not None),
        "by": ({"ascending"}, bool(check.by)),
        "share": ({"complete", "filled"}, check.share != 1),
        "must": ({"sum"}, bool(check.must)),
    }
    for key, (rules, is_given) in belongs.items():
        if is_given and rule not in rules:
            yield Issue((*steps, key), f"belongs to {' and '.join(sorted(rules))}, not to {rule}")
    if rule == "listed" and check.in_ is None:
        yield Issue((*steps, "in"), 'is missing; write in = { list = "lists/countries.csv", column = "iso2" }')
    if rule == "sum" and not check.must:
        yield Issue((*steps, "must"), 'is missing; write what must hold for the sums, as must = ["balance = 0"]')
    if not 0 < check.share <= 1:
        yield Issue((*steps, "share"), "must be above 0 and at most 1")
    if check.rows is not None:
        yield from _rows_issues((*steps, "rows"), check.rows)


def _rows_issues(steps: Steps, rows: Rows) -> Iterator[Issue]:
    if rows.min is None and rows.max is None:
        yield Issue(steps, "needs `min` or `max`")
    for key, value in (("min", rows.min), ("max", rows.max)):
        if value is not None and value < 0:
            yield Issue((*steps, key), "must not be negative")
    if rows.min is not None and rows.max is not None and rows.min > rows.max:
        yield Issue((*steps, "min"), "is above max; no file would ever do")


def _table_issues(steps: Steps, check: FileCheck, rule: str, pipeline: Pipeline) -> Iterator[Issue]:
    names = [table.name for table in pipeline.table]
    if check.table is None and len(names) > 1 and rule != "rows":
        yield Issue((*steps, "table"), f"is missing; there are {', '.join(names[:5])}")
        return
    table = table_named(pipeline, check.table) if check.table is not None else next(iter(pipeline.table), None)
    if table is None:
        if check.table is not None:
            yield Issue((*steps, "table"), unknown_name("table", check.table, names))
        return
    yield from _columns_issues(steps, check, table)


def _columns_issues(steps: Steps, check: FileCheck, table: Table) -> Iterator[Issue]:
    if check.unique is not None:
        if not check.unique:
            yield Issue((*steps, "unique"), "is empty; name columns")
        yield from unknown_columns((*steps, "unique"), check.unique, table)
    yield from unknown_columns((*steps, "by"), check.by, table)
    for key, name in (("listed", check.listed), ("ascending", check.ascending), ("filled", check.filled)):
        if name is not None and name not in table.columns:
            yield Issue((*steps, key), unknown_name(f"column of {table.name}:", name, table.columns))
    column = table.columns.get(check.ascending or "")
    if column is not None and column.type not in {*ORDERED, "text"}:
        yield Issue((*steps, "ascending"), f"{check.ascending} is of type {column.type}, which has no order")
    if check.complete is not None:
        yield from _complete_issues((*steps, "complete"), check.complete, table)
    if check.sum is not None:
        yield from sums_issues(steps, "sum", check.sum, table)
        yield from must_issues(steps, check.must, check.sum, table)
        for name in varying_currencies(check.sum, table):
            detail = f"adds up amounts of whatever currency stands in {name}; a [[total]] sums by currency"
            yield Issue((*steps, "sum"), detail, "warning")


def _complete_issues(steps: Steps, complete: Complete, table: Table) -> Iterator[Issue]:
    column = table.columns.get(complete.column)
    if column is None:
        yield Issue((*steps, "column"), unknown_name(f"column of {table.name}:", complete.column, table.columns))
    elif column.type != "integer":
        yield Issue((*steps, "column"), f"{complete.column} is of type {column.type}; it must be an integer")
    if complete.from_ > complete.to:
        yield Issue((*steps, "from"), "is above `to`")
    elif complete.to - complete.from_ >= NUMBERS_MAX:
        yield Issue((*steps, "to"), f"is more than {NUMBERS_MAX:,} numbers above `from`")
    yield from unknown_columns((*steps, "by"), complete.by, table)


def join_issues(pipeline: Pipeline) -> Iterator[Issue]:
    """Yield what is wrong with the views over several tables."""
    tables = {table.name: table for table in reversed(pipeline.table)}
    for number, join in enumerate(pipeline.join):
        steps: Steps = ("join", number, "of")
        yield from repeated(steps, join.of)
        if len(set(join.of)) < len(("left", "right")):
            yield Issue(steps, "must name two tables or more")
        first = next((tables[name] for name in join.of if name in tables), None)
        for position, name in enumerate(join.of):
            table = tables.get(name)
            if table is None:
                yield Issue((*steps, position), unknown_name("table", name, tables))
            elif table.mode != "latest":
                yield Issue((*steps, position), f"{name} is no latest table, so it has no key to join by")
            elif first is not None and not _same_key(first, table):
                yield Issue((*steps, position), f"{name} has another key than {first.name}")


def _same_key(first: Table, other: Table) -> bool:
    keys = [
        [(name, column.type) for name in table.key if (column := table.columns.get(name))] for table in (first, other)
    ]
    return first.key == other.key and keys[0] == keys[1]
