"""Lint tables: keys, what decides between rows, conditions, parents, histories and indexes. Pure."""

from collections.abc import Iterator, Mapping

from shared.pipelines.document.problems import Steps
from shared.pipelines.histories import inherited_columns
from shared.pipelines.linting.columns import column_issues, rank_column
from shared.pipelines.linting.issues import (
    ORDERED,
    Issue,
    TableScope,
    location_of,
    repeated,
    table_named,
    unknown_columns,
    unknown_name,
)
from shared.pipelines.linting.places import mixed_issues, place_issues, value_places
from shared.pipelines.linting.sums import check_issues
from shared.pipelines.model import Column, Condition, Otherwise, Rank, Table
from shared.pipelines.places import STAR, Origin

COLUMNS_MAX = 200


def table_issues(scope: TableScope) -> Iterator[Issue]:
    """Yield what is wrong or doubtful in a table."""
    yield from _columns_issues(scope)
    yield from _types_issues(scope)
    yield from _at_issues(scope)
    yield from _conditions_issues(scope, "when", scope.table.when)
    yield from _conditions_issues(scope, "gone", scope.table.gone)
    yield from (_latest_issues if scope.table.mode == "latest" else _append_issues)(scope)
    yield from _rank_issues(scope)
    yield from _parent_issues(scope)
    yield from _history_issues(scope)
    yield from _index_issues(scope)
    yield from check_issues(scope)


def _columns_issues(scope: TableScope) -> Iterator[Issue]:
    table = scope.table
    if not table.columns and table.like is None:
        yield Issue((*scope.steps, "columns"), "is missing; write [table.columns] with a column in each line")
    if len(table.columns) > COLUMNS_MAX:
        yield Issue((*scope.steps, "columns"), f"has more than {COLUMNS_MAX} columns")
    other = table_named(scope.pipeline, table.like) if table.like else None
    inherited = inherited_columns(other) if other and other is not table else {}
    for name, column in table.columns.items():
        if inherited.get(name) != column:
            yield from column_issues(scope, name, column)
    yield from mixed_issues(scope)


def _types_issues(scope: TableScope) -> Iterator[Issue]:
    steps = (*scope.steps, "types")
    yield from repeated(steps, scope.table.types)
    for number, text in enumerate(scope.table.types):
        if not text or STAR in text[:-1]:
            yield Issue((*steps, number), "must be the type of events, or the beginning of types and one * at its end")


def _at_issues(scope: TableScope) -> Iterator[Issue]:
    table = scope.table
    if table.except_ and (scope.at is None or scope.at[-1] != STAR):
        yield Issue((*scope.steps, "except"), "leaves out members, so it needs an `at` that ends in /*")
    yield from repeated((*scope.steps, "except"), table.except_)
    if not table.at:
        return
    location = location_of(table.at)
    if location is not None and location.origin is not Origin.ROOT:
        detail = f"{table.at[:80]} must begin with /, as /data/lines/*"
        yield Issue((*scope.steps, "at"), detail)
        return
    yield from place_issues((*scope.steps, "at"), table.at, scope.at)


def _conditions_issues(scope: TableScope, name: str, conditions: Mapping[str, Condition]) -> Iterator[Issue]:
    for text, condition in conditions.items():
        steps = (*scope.steps, name, text)
        yield from place_issues(steps, text, scope.at)
        if isinstance(condition, tuple):
            if not condition:
                yield Issue(steps, "is an empty list, so it never holds")
            yield from repeated(steps, condition)


def _latest_issues(scope: TableScope) -> Iterator[Issue]:
    table = scope.table
    if not table.key:
        yield Issue((*scope.steps, "key"), 'is missing; a latest table has one row for each key, as key = ["id"]')
    if table.newest is None:
        yield Issue((*scope.steps, "newest"), "is missing; name the column by which a later state is known")
    yield from unknown_columns((*scope.steps, "key"), table.key, table)
    for number, name in enumerate(table.key):
        if column := scope.column(name):
            yield from _needed_issues((*scope.steps, "key", number), name, column)
            if column.type == "json":
                yield Issue((*scope.steps, "key", number), f"{name} is of type json, which is no key")
    if table.newest is not None:
        yield from _newest_issues(scope, (*scope.steps, "newest"), table.newest)


def _needed_issues(steps: Steps, name: str, column: Column) -> Iterator[Issue]:
    if column.optional:
        yield Issue(steps, f"{name} is optional; a row without it cannot be told from others")


def _newest_issues(scope: TableScope, steps: Steps, name: str) -> Iterator[Issue]:
    column = scope.column(name)
    if column is None:
        yield Issue(steps, unknown_name(f"column of {scope.table.name}:", name, scope.table.columns))
        return
    yield from _needed_issues(steps, name, column)
    if column.type not in ORDERED:
        yield Issue(steps, f"{name} is of type {column.type}; only {', '.join(sorted(ORDERED))} tell what is newer")
    if name in scope.table.key:
        yield Issue(steps, f"{name} is in the key, so no two rows of a key differ in it", "warning")
    if column.value is not None:
        yield Issue(steps, f"{name} is a fixed value, so no row is newer than another")
    if "@received_at" in {text for _, text in value_places(name, column)}:
        detail = f"{name} is when an event came in; of two files, use @file_at, which is one value for a whole file"
        yield Issue(steps, detail, "warning")


def _append_issues(scope: TableScope) -> Iterator[Issue]:
    table = scope.table
    if table.key:
        detail = 'is for latest tables; rows of an append table belong to their event (write mode = "latest"?)'
        yield Issue((*scope.steps, "key"), detail)
    given = {"newest": table.newest, "rank": table.rank, "gone": table.gone}
    for name in (name for name, value in given.items() if value):
        yield Issue((*scope.steps, name), "is for latest tables; an append table keeps each row")


def _rank_issues(scope: TableScope) -> Iterator[Issue]:
    name = rank_column(scope)
    if name is None:
        return
    rank = scope.table.rank
    steps = (*scope.steps, "rank")
    column = scope.column(name)
    if column is None:
        yield Issue(steps, unknown_name(f"column of {scope.table.name}:", name, scope.table.columns))
        return
    if column.type != "text":
        yield Issue(steps, f"{name} is of type {column.type}; a rank is the order of texts")
        return
    values = final_values(column)
    if values is None and not isinstance(rank, Rank):
        yield Issue(steps, f"{name} has no `values`, whose order would be the rank; list them, or write an order here")
    if isinstance(rank, Rank):
        yield from _order_issues(steps, rank, values)


def final_values(column: Column) -> tuple[str, ...] | None:
    """Return the texts that a column may hold in the end, or None where it may hold others."""
    if column.values is None or column.otherwise == "note":
        return None if column.values is None else _texts(column)
    further = (column.otherwise.value,) if isinstance(column.otherwise, Otherwise) else ()
    return tuple(dict.fromkeys((*_texts(column), *further)))


def _texts(column: Column) -> tuple[str, ...]:
    values = column.values.values() if isinstance(column.values, dict) else column.values or ()
    return tuple(dict.fromkeys(value for value in values if isinstance(value, str)))


def _order_issues(steps: Steps, rank: Rank, values: tuple[str, ...] | None) -> Iterator[Issue]:
    if not rank.order:
        yield Issue((*steps, "order"), "is empty; list values, the last of which wins")
    yield from repeated((*steps, "order"), rank.order)
    if values is None:
        return
    for number, value in enumerate(rank.order):
        if value not in values:
            yield Issue((*steps, "order", number), unknown_name(f"value of {rank.column}:", value, values))
    if left_out := [value for value in values if value not in rank.order]:
        named = ", ".join(value[:40] for value in left_out[:5])
        yield Issue((*steps, "order"), f"leaves out values of {rank.column}: {named}", "warning")


def _parent_issues(scope: TableScope) -> Iterator[Issue]:
    of, table = scope.table.of, scope.table
    if of is None:
        return
    steps = (*scope.steps, "of")
    if table.mode != "append":
        yield Issue(steps, "is for append tables; a latest table has a key of its own")
    parent = table_named(scope.pipeline, of.table)
    if parent is None:
        tables = [each.name for each in scope.pipeline.table]
        yield Issue((*steps, "table"), unknown_name("table", of.table, tables))
        return
    if parent is table or parent.mode != "latest":
        yield Issue(
            (*steps, "table"), f"{of.table} is no latest table; rows can only follow the latest state of another"
        )
        return
    yield from _on_issues((*steps, "on"), of.on, table, parent)


def _on_issues(steps: Steps, on: tuple[str, ...], table: Table, parent: Table) -> Iterator[Issue]:
    yield from unknown_columns(steps, on, table)
    for number, name in enumerate(on):
        column, other = table.columns.get(name), parent.columns.get(name)
        if other is None:
            yield Issue((*steps, number), unknown_name(f"column of {parent.name}:", name, parent.columns))
        elif column is not None and column.type != other.type:
            yield Issue((*steps, number), f"{name} is of type {column.type} here and {other.type} in {parent.name}")
    if left_out := [name for name in parent.key if name not in on]:
        yield Issue(steps, f"must hold the key of {parent.name}; {', '.join(left_out)} is missing")


def _history_issues(scope: TableScope) -> Iterator[Issue]:
    like = scope.table.like
    if like is None:
        return
    steps = (*scope.steps, "like")
    other = table_named(scope.pipeline, like)
    if other is None:
        yield Issue(steps, unknown_name("table", like, [each.name for each in scope.pipeline.table]))
    elif other is scope.table:
        yield Issue(steps, "names this table itself")
    elif other.like is not None:
        yield Issue(steps, f"{like} is like another table itself; name that one, {other.like[:80]}")


def _index_issues(scope: TableScope) -> Iterator[Issue]:
    table = scope.table
    changing = {"newest": table.newest, "rank": rank_column(scope)} if table.mode == "latest" else {}
    for number, names in enumerate(table.index):
        steps = (*scope.steps, "index", number)
        if not names:
            yield Issue(steps, "is empty; name columns")
        yield from unknown_columns(steps, names, table)
        for what, name in changing.items():
            if name in names:
                detail = f"{name} is {what}, which changes with each state, so updates are slower (none is HOT)"
                yield Issue(steps, detail, "warning")
    yield from repeated((*scope.steps, "index"), table.index)
