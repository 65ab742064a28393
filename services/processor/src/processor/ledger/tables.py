"""The tables that events are written to, and the INSERT that writes to all of them. Pure."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import count
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec

Row: TypeAlias = tuple[Any, ...]


class Column(NamedTuple):
    """A column. `type` is the type of the parameter; `cast` the type of the column, where it is another one.

    `repeats` names the column of `raw_events` with the same values, row by row: they are sent once. `once`: all rows of
    a batch hold the same value.
    """

    name: str
    type: str
    cast: str = ""
    repeats: str = ""
    once: bool = False


class Table(msgspec.Struct, frozen=True, eq=False):
    """A table with the columns of its rows, in their order. `event` is the column with the ids of raw events."""

    name: str
    event: str
    columns: tuple[Column, ...]

    @property
    def names(self) -> list[str]:
        """The names of the columns."""
        return [column.name for column in self.columns]


class TableRows(NamedTuple):
    """Rows that a batch adds to a table."""

    table: Table
    rows: Sequence[Row]


RAW_EVENTS: Final = Table(
    "raw_events",
    "id",
    (
        Column("id", "bigint"),
        Column("event_id", "uuid"),
        Column("source_id", "int"),
        Column("idempotency_key", "text"),
        Column("channel", "smallint"),
        Column("type", "text"),
        Column("occurred_at", "timestamptz"),
        Column("received_at", "timestamptz"),
        Column("content_type", "text"),
        Column("origin", "text"),
        Column("derived", "boolean"),
        Column("sender", "text"),
        Column("body", "bytea"),
    ),
)
PROCESSED_RECORDS: Final = Table(
    "processed_records",
    "id",
    (
        # The first record of an event has the event's own id.
        Column("id", "bigint", repeats="id"),
        Column("raw_event_id", "bigint", repeats="id"),
        Column("source_id", "int", repeats="source_id"),
        Column("channel", "smallint", repeats="channel"),
        Column("status", "smallint"),
        Column("result_payload", "text", cast="jsonb"),
        Column("errors", "text", cast="jsonb"),
        Column("processed_at", "timestamptz", once=True),
    ),
)


@lru_cache(maxsize=64)
def insert_statement(tables: tuple[Table, ...]) -> str:
    """Return the statement that adds rows to all tables; of an event that is stored already, to none.

    The first table is `raw_events`. The statement returns the ids that are new. Its parameters are those of
    `insert_parameters`.
    """
    raw, *others = tables
    sent = {column.name: f"${number}" for number, column in enumerate(raw.columns, 1)}
    numbers = count(1)
    # With IS TRUE the ids are looked up in a hash table. A join would compare each with each, since the plan is made
    # before the size of a batch is known.
    new = "WHERE ({event} IN (SELECT id FROM stored)) IS TRUE"
    stored = _insert(raw, sent, numbers) + f" ON CONFLICT (event_id) DO NOTHING RETURNING {raw.event} AS id"
    parts = [f"stored AS ({stored})"]
    for number, table in enumerate(others, 1):
        parts.append(f"rows_{number} AS ({_insert(table, sent, numbers)} {new.format(event=table.event)})")
    return f"WITH {', '.join(parts)} SELECT id FROM stored"  # noqa: S608 - names of our own


def _insert(table: Table, sent: dict[str, str], numbers: Iterator[int]) -> str:
    values: list[str] = []
    arrays: dict[str, str] = {}
    for column in table.columns:
        name = column.repeats or column.name
        parameter = sent[name] if column.repeats else f"${next(numbers)}"
        if column.once:
            values.append(f"{parameter}::{column.type}")
        else:
            values.append(f"{name}::{column.cast}" if column.cast else name)
            arrays[name] = f"{parameter}::{column.type}[]"
    return (
        f"INSERT INTO {table.name} ({', '.join(table.names)}) SELECT {', '.join(values)} "  # noqa: S608 - names of our own
        f"FROM unnest({', '.join(arrays.values())}) AS new ({', '.join(arrays)})"
    )


def insert_parameters(batch: Sequence[TableRows]) -> list[Any]:
    """Return the parameters of `insert_statement` for the rows of all its tables."""
    return [
        values[0] if column.once else _sparse(values)
        for table, rows in batch
        for column, values in zip(table.columns, zip(*rows, strict=True), strict=True)
        if not column.repeats
    ]


def _sparse(column: Sequence[Any]) -> Sequence[Any]:
    """Return a column as it is; empty where it holds nothing, since an array that ends early ends in nulls."""
    return () if all(value is None for value in column) else column
