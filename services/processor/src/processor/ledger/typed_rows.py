"""The rows that events make in typed tables, table by table, and the statements that write them. Pure."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter, itemgetter
from typing import Any, Final, NamedTuple

from processor.ledger.rows import Row, WriteItem
from processor.programs.active import ActivePipeline
from shared.pipelines.latest import Candidate, Precedence, reduce_latest
from shared.pipelines.program import Value
from shared.pipelines.typed_tables import (
    EVENT,
    GONE,
    LOADED_AT,
    PART,
    PIPELINE,
    RANK,
    ROWS_SCHEMA,
    TypedColumn,
    TypedTable,
    quoted,
)
from shared.pipelines.values.numeric import encode_amount, encode_number

_JSON: Final = "jsonb"
_MONEY: Final = "money"
# Of values that the driver would take for arrays, or write in another way: by the types of their columns.
_ENCODERS: Final[Mapping[str, Callable[[Any], Any]]] = {
    _MONEY: encode_amount,
    "decimal": encode_number,
    "json": bytes.decode,
}


class TypedTableRows(NamedTuple):
    """The rows of one table that the events of a batch make.

    Of a `latest` table there is one row a key, in the order of the keys; of an `append` table they are in the order of
    events and parts. Rows of one table are always written in this order, so that writers wait for one another instead
    of deadlocking.
    """

    pipeline: ActivePipeline
    table: TypedTable
    rows: Sequence[Candidate]


def table_rows(items: Iterable[WriteItem]) -> list[TypedTableRows]:
    """Return the rows of all tables, in the order in which the tables are written: by their names."""
    found: dict[tuple[int, int], tuple[ActivePipeline, list[Candidate]]] = {}
    for item in items:
        processed = item.processed
        pipeline = processed.pipeline
        if pipeline is None or not processed.rows:
            continue
        gone = processed.gone
        for position, (table, part, values) in enumerate(processed.rows):
            key = (pipeline.id, table)
            known = found.get(key)
            if known is None:
                known = found[key] = (pipeline, [])
            known[1].append(Candidate(item.id, part, values, position in gone if gone else False))
    tables = [
        TypedTableRows(pipeline, table, _ordered(table, rows))
        for (_, position), (pipeline, rows) in found.items()
        for table in (pipeline.tables[position],)
    ]
    return sorted(tables, key=lambda each: (each.table.name, each.pipeline.id))


def _ordered(table: TypedTable, rows: list[Candidate]) -> list[Candidate]:
    if table.precedence is None:
        return sorted(rows, key=itemgetter(0, 1))
    key_of = _key_of(table, table.precedence)
    keys = list(map(key_of, map(attrgetter("values"), rows)))
    if len(set(keys)) < len(keys):
        rows = reduce_latest(table.precedence, rows)
        return sorted(rows, key=lambda row: key_of(row.values))
    return [row for _, row in sorted(zip(keys, rows, strict=True), key=itemgetter(0))]


def _key_of(table: TypedTable, precedence: Precedence) -> Callable[[tuple[Value, ...]], Any]:
    """Return a function that gives the key of a row. Keys that PostgreSQL takes for the same are equal."""
    if any(table.table.columns[name].type == _MONEY for name in table.key):
        return precedence.key_of
    return itemgetter(*precedence.key)


class TypedStatement:
    """How rows of one typed table are written: by one INSERT of arrays, or, of an `append` table, by COPY."""

    def __init__(self, table: TypedTable) -> None:
        """Build the text once; it names each column, so a column that is added later changes nothing."""
        self.table = table
        self.columns = [column.name for column in (*table.columns, *_added(table))]
        self._encoders = [
            (number, _ENCODERS[kind])
            for number, column in enumerate(table.columns)
            if (kind := table.table.columns[column.name].type) in _ENCODERS
        ]
        self.text = _insert(table)

    def parameters(self, batch: TypedTableRows) -> list[Any]:
        """Return the parameters of `text`: an array for each column, and the id of the version.

        Raises ValueError: PostgreSQL cannot hold a number.
        """
        rows = batch.rows
        columns = list(zip(*(row.values for row in rows), strict=True))
        for number, encode in self._encoders:
            columns[number] = tuple([None if value is None else encode(value) for value in columns[number]])
        arrays: list[Sequence[Any]] = [
            column if column[0] is not None or any(value is not None for value in column) else () for column in columns
        ]
        arrays += [[row.sequence for row in rows], [row.part for row in rows]]
        precedence = self.table.precedence
        if precedence is not None:
            gone = [row.gone for row in rows]
            ranks = () if precedence.rank is None else [precedence.rank_of(row.values) for row in rows]
            arrays += [ranks, gone if any(gone) else ()]
        return [*arrays, batch.pipeline.id]

    def records(self, batch: TypedTableRows, loaded_at: Any) -> list[Row]:  # noqa: ANN401 - what the driver takes as a moment
        """Return the rows of an `append` table for COPY, with the columns of `columns`. Raises as `parameters`."""
        version = batch.pipeline.id
        return [(*self._encoded(row.values), row.sequence, row.part, version, loaded_at) for row in batch.rows]

    def _encoded(self, values: tuple[Value, ...]) -> Sequence[Any]:
        if not self._encoders:
            return values
        encoded: list[Any] = list(values)
        for number, encode in self._encoders:
            if encoded[number] is not None:
                encoded[number] = encode(encoded[number])
        return encoded


def _added(table: TypedTable) -> Sequence[TypedColumn]:
    """Return the columns that are not of the file, in the order in which they are written."""
    return (EVENT, PART, PIPELINE, LOADED_AT, *((RANK, GONE) if table.precedence is not None else ()))


def _insert(table: TypedTable) -> str:
    """Return the statement that writes rows of a table, given as arrays."""
    latest = table.precedence is not None
    # An array that ends early ends in nulls: one without elements stands for a column without a value.
    sent = [*(_sent(column) for column in table.columns), ("bigint", "{}"), ("int", "{}")]
    if latest:
        sent += [("smallint", "coalesce({}, 0)"), ("boolean", "coalesce({}, false)")]
    names = [f"c{number}" for number in range(len(sent))]
    values = [form.format(name) for name, (_, form) in zip(names, sent, strict=True)]
    own = len(table.columns) + 2
    values[own:own] = [f"${len(sent) + 1}::int", "now()"]
    arrays = ", ".join(f"${number}::{kind}[]" for number, (kind, _) in enumerate(sent, 1))
    columns = ", ".join(quoted(column.name) for column in (*table.columns, *_added(table)))
    text = (
        f"INSERT INTO {ROWS_SCHEMA}.{quoted(table.name)} AS t ({columns}) SELECT {', '.join(values)} "  # noqa: S608 - quoted names
        f"FROM unnest({arrays}) AS new ({', '.join(names)})"
    )
    return text + _on_conflict(table) if latest else text


def _sent(column: TypedColumn) -> tuple[str, str]:
    """Return the type of the elements that are sent, and the form in which an element is written."""
    return ("text", "{}::" + _JSON) if column.sql_type == _JSON else (column.sql_type, "{}")


def _on_conflict(table: TypedTable) -> str:
    """Return the clause that replaces the row of a key by one that is as new or newer.

    A row whose `newest` is null is older than every other.
    """
    changed = [column.name for column in (*table.columns, *_added(table)) if column.name not in table.key]
    assigned = ", ".join(f"{quoted(name)} = excluded.{quoted(name)}" for name in changed)
    *newest, rank, event = (quoted(name) for name in table.newest)
    guard = f"(t.{rank}, t.{event}) <= (excluded.{rank}, excluded.{event})"
    for name in newest:
        guard = (
            f"(t.{name} < excluded.{name} OR t.{name} IS NULL AND excluded.{name} IS NOT NULL "
            f"OR t.{name} IS NOT DISTINCT FROM excluded.{name} AND {guard})"
        )
    key = ", ".join(map(quoted, table.key))
    return f" ON CONFLICT ({key}) DO UPDATE SET {assigned} WHERE {guard}"
