"""The views of schema `data`: of tables, of joins, and of totals. Pure.

A view only ever gets more columns, at its end: PostgreSQL then replaces it under the views that others made of it.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import Final, TypeAlias

import msgspec

from shared.pipelines.arithmetic import Comparison, Term, read_comparison, read_sum
from shared.pipelines.ddl.existing import Existing, ExistingTable, ExistingView
from shared.pipelines.ddl.sql import in_data, in_rows, listed, literal
from shared.pipelines.model import Column, JoinView, Of, Pipeline, Total
from shared.pipelines.typed_tables import EVENT, GONE, LOADED_AT, PART, PIPELINE, TypedTable, quoted

TOTALS_ENDING: Final = "_totals"
_SHOWN_OF_EVERY_ROW: Final = (EVENT, PART, PIPELINE, LOADED_AT)
_FILE_CHANNEL: Final = 3
_DIGITS: Final = 12
_MARK: Final = "made by etlpay"


Written: TypeAlias = Mapping[str, Mapping[int, frozenset[str]]]
"""The columns that each registered version writes, by the name of the table in schema `rows` and the version's id."""

NOTHING_WRITTEN: Final[Written] = {}


class ViewColumn(msgspec.Struct, frozen=True):
    """A column of a view: its name, its type in SQL, and the expression that gives it.

    `about`: None where the file says nothing of it any more: its comment stays.
    """

    name: str
    sql_type: str
    expression: str
    about: str | None = ""


class View(msgspec.Struct, frozen=True):
    """A view; `source` is its SQL from FROM on."""

    name: str
    columns: tuple[ViewColumn, ...]
    source: str
    about: str = ""

    @property
    def query(self) -> str:
        """The query of the view."""
        columns = ",\n       ".join(f"{each.expression} AS {quoted(each.name)}" for each in self.columns)
        return f"SELECT {columns}\n{self.source}"

    @property
    def statement(self) -> str:
        """The statement that creates or replaces the view."""
        return f"CREATE OR REPLACE VIEW {in_data(self.name)} AS\n{self.query}"

    @property
    def comment(self) -> str:
        """What the view is about, and a hash of its query: PostgreSQL gives a query back in other words."""
        mark = f"({_MARK}: {hashlib.sha256(self.query.encode()).hexdigest()[:_DIGITS]})"
        return f"{self.about} {mark}".strip()


def views_of(
    pipeline: Pipeline, tables: Iterable[TypedTable], existing: Existing, written: Written = NOTHING_WRITTEN
) -> tuple[View, ...]:
    """Return the views of a pipeline with complete histories, each after those that it reads.

    Where a view is there already, its columns come first and in their order. One that nothing fills any more is empty.
    """
    by_name = {table.table.name: table for table in tables}
    views: dict[str, View] = {}
    for table in by_name.values():
        view = table_view(table, by_name, existing.tables.get(table.name), written.get(table.name, {}))
        views[view.name] = continued(view, existing.views.get(view.name))
    for table in by_name.values():
        if any(column.type == "money" for column in table.table.columns.values()):
            view = money_view(table)
            views[view.name] = continued(view, existing.views.get(view.name))
    for join in pipeline.join:
        view = join_view(join, by_name, views)
        views[view.name] = continued(view, existing.views.get(view.name))
    for total in pipeline.total:
        view = total_view(total, by_name[total.of])
        views[view.name] = continued(view, existing.views.get(view.name))
    return tuple(views.values())


def view_names(pipeline: Pipeline) -> tuple[str, ...]:
    """Return the names that a pipeline takes in schema `data`."""
    tables = [table.name for table in pipeline.table]
    money = [table.name for table in pipeline.table if any(each.type == "money" for each in table.columns.values())]
    return (
        *tables,
        *(f"{name}{TOTALS_ENDING}" for name in money),
        *(join.name for join in pipeline.join),
        *(total.name for total in pipeline.total),
    )


def continued(view: View, existing: ExistingView | None) -> View:
    """Return a view with the columns that are there already first, in their order."""
    if existing is None:
        return view
    wanted = {column.name: column for column in view.columns}
    there = tuple(
        wanted.get(column.name) or ViewColumn(column.name, column.sql_type, f"NULL::{column.sql_type}", None)
        for column in existing.columns
    )
    names = {column.name for column in there}
    added = tuple(column for column in view.columns if column.name not in names)
    return msgspec.structs.replace(view, columns=(*there, *added))


def table_view(
    table: TypedTable,
    tables: Mapping[str, TypedTable],
    existing: ExistingTable | None,
    written: Mapping[int, frozenset[str]],
) -> View:
    """Return the view of a table: without tombstones; of a child, the rows of the event that made the parent's row."""
    columns = [
        ViewColumn(column.name, column.sql_type, _value(table, column.name, written), column.about)
        for column in (*table.columns, *_SHOWN_OF_EVERY_ROW)
    ]
    known = {column.name for column in (*table.columns, *table.added)}
    # What the file takes no longer is still there.
    columns += (
        ViewColumn(column.name, column.sql_type, _former_value(table, column.name, written), None)
        for column in (existing.columns if existing else ())
        if column.name not in known
    )
    source = f"FROM {in_rows(table.name)} AS own"
    if table.table.of is not None:
        source += _of_parent(table.table.of, tables)
    if table.precedence:
        source += f"\nWHERE NOT own.{quoted(GONE.name)}"
    return View(table.table.name, tuple(columns), source, table.table.about)


def _value(table: TypedTable, name: str, written: Mapping[int, frozenset[str]]) -> str:
    """Return what shows a column: nothing in a row that a version without the column wrote last.

    Such a version knows nothing of the column, so what an older event had there would stay in the row of its key.
    """
    own = f"own.{quoted(name)}"
    without = sorted(number for number, names in written.items() if name not in names)
    if table.precedence is None or name not in table.table.columns or not without:
        return own
    return f"CASE WHEN own.{quoted(PIPELINE.name)} <> ALL ({_ids(without)}) THEN {own} END"


def _former_value(table: TypedTable, name: str, written: Mapping[int, frozenset[str]]) -> str:
    """Return what shows a column that the file takes no longer: only rows of versions that took it have it."""
    own = f"own.{quoted(name)}"
    within = sorted(number for number, names in written.items() if name in names)
    if table.precedence is None or not within:
        return own
    return f"CASE WHEN own.{quoted(PIPELINE.name)} = ANY ({_ids(within)}) THEN {own} END"


def _ids(numbers: Iterable[int]) -> str:
    return f"'{{{','.join(map(str, numbers))}}}'::integer[]"


def _of_parent(of: Of, tables: Mapping[str, TypedTable]) -> str:
    # By the key, which has an index: an index on the parent's event would make each of its updates slower.
    same = " AND ".join(f"parent.{quoted(name)} = own.{quoted(name)}" for name in of.on)
    return (
        f"\nJOIN {in_rows(tables[of.table].name)} AS parent ON {same}"
        f" AND parent.{quoted(EVENT.name)} = own.{quoted(EVENT.name)} AND NOT parent.{quoted(GONE.name)}"
    )


def money_view(table: TypedTable) -> View:
    """Return what came in of each amount of a table, by hour of arrival, file and currency."""
    amounts = ", ".join(
        f"({literal(name)}, {_currency(column)}, own.{quoted(name)})"
        for name, column in table.table.columns.items()
        if column.type == "money"
    )
    columns = (
        ViewColumn("hour", "timestamptz", "date_trunc('hour', raw.received_at, 'UTC')"),
        ViewColumn("file", "text", _file_of(table)),
        ViewColumn("currency", "text", "cell.currency"),
        ViewColumn("amount", "text", "cell.amount", "the column that is summed"),
        ViewColumn("rows", "bigint", "count(*)"),
        ViewColumn("sum", "numeric", "sum(cell.value)"),
    )
    source = (
        f"FROM {in_data(table.table.name)} AS own\n"
        f'JOIN "public"."raw_events" AS raw ON raw.id = own.{quoted(EVENT.name)}\n'
        f"CROSS JOIN LATERAL (VALUES {amounts}) AS cell (amount, currency, value)\n"
        "WHERE cell.value IS NOT NULL\n"
        "GROUP BY 1, 2, 3, 4"
    )
    about = f"What came in of each amount of {table.table.name}, by hour, file and currency."
    return View(f"{table.table.name}{TOTALS_ENDING}", columns, source, about)


def _currency(column: Column) -> str:
    return f"own.{quoted(column.currency)}" if column.currency else "NULL::text"


def _file_of(table: TypedTable) -> str:
    """Return the file of a row: the column that holds it, or what the ledger says of the event."""
    own = next((name for name, column in table.table.columns.items() if column.from_ == "@file"), None)
    if own is not None:
        return f"own.{quoted(own)}"
    return f"CASE raw.channel WHEN {_FILE_CHANNEL} THEN regexp_replace(raw.origin, ':[0-9]+$', '') END"


def join_view(join: JoinView, tables: Mapping[str, TypedTable], views: Mapping[str, View]) -> View:
    """Return a view over tables by their keys: a row for each key that one of them has.

    A column that several of them have is called by table and name.
    """
    key = tables[join.of[0]].key
    hidden = {*key, *(column.name for column in _SHOWN_OF_EVERY_ROW)}
    shown = {name: [each for each in views[name].columns if each.name not in hidden] for name in join.of}
    times = [column.name for columns in shown.values() for column in columns]
    columns = [
        *(
            ViewColumn(each.name, each.sql_type, quoted(each.name))
            for each in views[join.of[0]].columns
            if each.name in key
        ),
        *(
            ViewColumn(
                column.name if times.count(column.name) == 1 else f"{name}_{column.name}",
                column.sql_type,
                f"{quoted(name)}.{quoted(column.name)}",
                column.about,
            )
            for name in join.of
            for column in shown[name]
        ),
    ]
    loaded = ", ".join(f"{quoted(name)}.{quoted(LOADED_AT.name)}" for name in join.of)
    columns.append(ViewColumn(LOADED_AT.name, LOADED_AT.sql_type, f"GREATEST({loaded})"))
    first, *others = (f"{in_data(name)} AS {quoted(name)}" for name in join.of)
    source = "\n".join((f"FROM {first}", *(f"FULL JOIN {other} USING ({listed(key)})" for other in others)))
    return View(join.name, tuple(columns), source, f"By key: {', '.join(join.of)}.")


def total_view(total: Total, table: TypedTable) -> View:
    """Return control totals: rows, sums, and whether what must hold does, by group."""
    types = {column.name: column.sql_type for column in table.columns}
    columns = (
        *(ViewColumn(name, types[name], quoted(name)) for name in total.by),
        ViewColumn("rows", "bigint", "count(*)"),
        *(ViewColumn(name, "numeric", _sum(text)) for name, text in total.sums.items()),
        ViewColumn("holds", "boolean", _holds(total), "; ".join(total.must)),
        ViewColumn(LOADED_AT.name, LOADED_AT.sql_type, f"max({quoted(LOADED_AT.name)})"),
    )
    group = f"\nGROUP BY {listed(total.by)}" if total.by else ""
    return View(total.name, columns, f"FROM {in_data(table.table.name)}{group}", f"Control totals of {total.of}.")


def _sum(text: str) -> str:
    """Return a sum over the rows of a group. Of several columns an empty one counts as 0."""
    terms = read_sum(text)
    if len(terms) == 1 and terms[0].column and terms[0].sign > 0:
        return f"sum({quoted(terms[0].column)})::numeric"
    return f"({_signed(terms, _summed)})::numeric"


def _summed(term: Term) -> str:
    return f"coalesce(sum({quoted(term.column)}), 0)" if term.column else f"{term.number:f} * count(*)"


def _holds(total: Total) -> str:
    return " AND ".join(_comparison(read_comparison(text), total) for text in total.must) or "true"


def _comparison(comparison: Comparison, total: Total) -> str:
    def operand(term: Term) -> str:
        if term.number is not None:
            return f"{term.number:f}"
        return f"coalesce({_sum(total.sums[term.column])}, 0)" if term.column in total.sums else "count(*)"

    left, right = (_signed(side, operand) for side in (comparison.left, comparison.right))
    return f"{left} {comparison.operator} {right}"


def _signed(terms: Iterable[Term], operand: Callable[[Term], str]) -> str:
    return " ".join(f"{'-' if term.sign < 0 else '+'} {operand(term)}" for term in terms).removeprefix("+ ")
