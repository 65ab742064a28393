"""The events that are written to the ledger, the tables that they go to, and their rows. Pure."""

import hashlib
from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import lru_cache
from itertools import count
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec

from processor.pipelines.active import ActivePipeline
from shared.contracts.errors import Problem
from shared.contracts.event import Envelope
from shared.contracts.result import Recorded, RecordStatus
from shared.pipelines.program import TypedRow

Row: TypeAlias = tuple[Any, ...]


class Processed(msgspec.Struct, frozen=True, gc=False):
    """An event with the record that it becomes.

    `result` is JSON; None: equal to the body, or there is none. `acknowledged`: the channel has answered already, since
    the event came over a queue. `pipeline` is the version that made the record, and `rows` are those of its typed
    tables; `gone`: the positions of those that are tombstones. `cause`: why the record is FAILED or HELD. `subject`:
    keyed hash of the person whom the event is about.
    """

    event: Envelope
    status: RecordStatus
    result: bytes | None = None
    errors: tuple[Problem, ...] = ()
    acknowledged: bool = False
    pipeline: ActivePipeline | None = None
    rows: tuple[TypedRow, ...] = ()
    gone: frozenset[int] = frozenset()
    cause: str = ""
    subject: str | None = None


class WriteItem(msgspec.Struct, frozen=True, gc=False):
    """A processed event with the id that it gets in the ledger, and that of its source."""

    id: int
    source_id: int
    processed: Processed


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


def failed(event: Envelope, detail: str, *, acknowledged: bool = False) -> Processed:
    """Return the event with the record of one that could not be processed as a whole."""
    return Processed(event, RecordStatus.FAILED, errors=(Problem("", detail),), acknowledged=acknowledged)


def ledger_rows(items: Sequence[WriteItem], processed_at: datetime) -> list[TableRows]:
    """Return the rows that the events are stored as, table by table; `raw_events` is the first."""
    return [TableRows(RAW_EVENTS, _raw_rows(items)), TableRows(PROCESSED_RECORDS, _record_rows(items, processed_at))]


def _raw_rows(items: Sequence[WriteItem]) -> list[Row]:
    return [
        (
            item.id,
            event.event_id,
            item.source_id,
            event.idempotency_key or None,
            event.channel,
            event.type or None,
            event.occurred_at,
            event.received_at,
            event.content_type,
            event.origin or None,
            event.derived or None,
            event.sender or None,
            event.body,
        )
        for item in items
        for event in (item.processed.event,)
    ]


def _record_rows(items: Sequence[WriteItem], processed_at: datetime) -> list[Row]:
    return [
        (
            item.id,
            item.id,
            item.source_id,
            processed.event.channel,
            processed.status,
            processed.result and processed.result.decode(),
            _problems_json(processed.errors),
            processed_at,
        )
        for item in items
        for processed in (item.processed,)
    ]


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
        values if values[0] is not None and not column.once else _parameter(column, values)
        for table, rows in batch
        for column, values in zip(table.columns, zip(*rows, strict=True), strict=True)
        if not column.repeats
    ]


def _parameter(column: Column, values: Sequence[Any]) -> Any:  # noqa: ANN401 - a value, or an array of any type
    """Return the values as a parameter; empty where all are null, since an array that ends early ends in nulls."""
    if column.once:
        return values[0]
    return () if all(value is None for value in values) else values


def add_conflicts_parameters(conflicts: Sequence[tuple[Envelope, Recorded]]) -> tuple[list[Any], ...]:
    """Return the parameters of ADD_CONFLICTS for events and the outcomes that name the events stored first.

    Sorted, so that two batches with the same conflicts wait for each other instead of deadlocking.
    """
    digests = sorted(
        ((outcome.raw_event_id, hashlib.sha256(event.body).digest(), event) for event, outcome in conflicts),
        key=lambda row: row[:2],
    )
    return (
        [raw_event_id for raw_event_id, _, _ in digests],
        [event.channel for _, _, event in digests],
        [event.received_at for _, _, event in digests],
        [event.content_type for _, _, event in digests],
        [event.origin or None for _, _, event in digests],
        [event.sender or None for _, _, event in digests],
        [event.body for _, _, event in digests],
        [digest for _, digest, _ in digests],
    )


def add_settlements_parameters(
    settled: Sequence[tuple[Envelope, Recorded]], source_ids: dict[str, int]
) -> tuple[list[Any], ...]:
    """Return the parameters of ADD_SETTLEMENTS. Sorted, for the same reason."""
    settled = sorted(settled, key=lambda pair: (pair[0].event_id, pair[0].received_at, pair[0].channel))
    return (
        [event.event_id for event, _ in settled],
        [event.received_at for event, _ in settled],
        [source_ids[event.source] for event, _ in settled],
        [event.channel for event, _ in settled],
        [outcome.kind for _, outcome in settled],
    )


def _problems_json(problems: tuple[Problem, ...]) -> str | None:
    return msgspec.json.encode(problems).decode() if problems else None
