"""The events that are written to the ledger, the tables that they go to, and their rows. Pure."""

import hashlib
from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import lru_cache
from itertools import count
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec

from processor.programs.active import ActivePipeline
from shared.contracts.drift import DriftKind
from shared.contracts.errors import Problem
from shared.contracts.event import Envelope
from shared.contracts.result import Recorded, RecordStatus
from shared.pipelines.program import TypedRow

Row: TypeAlias = tuple[Any, ...]

_HELD: Final = ":held"


class Processed(msgspec.Struct, frozen=True, gc=False):
    """An event with the record that it becomes.

    `result` is JSON; None: equal to the body, or there is none. `acknowledged`: the channel has answered already, since
    the event came over a queue. `pipeline` is the version that made the record, and `rows` are those of its typed
    tables; `gone`: the positions of those that are tombstones. `cause`: why the record is FAILED or HELD. `subject`:
    keyed hash of the person whom the event is about. `drift`: kinds and places of what its pipeline does not read.
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
    drift: tuple[tuple[DriftKind, str], ...] = ()


class WriteItem(msgspec.Struct, frozen=True, gc=False):
    """A processed event with the id that it gets in the ledger, that of its source, and that of its cause if any."""

    id: int
    source_id: int
    processed: Processed
    cause_id: int | None = None


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


_RAW_COLUMNS: Final = (
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
    Column("file_at", "timestamptz"),
)
_BODY: Final = Column("body", "bytea")
_RECORD_COLUMNS: Final = (
    # The first record of an event has the event's own id.
    Column("id", "bigint", repeats="id"),
    Column("raw_event_id", "bigint", repeats="id"),
    Column("source_id", "int", repeats="source_id"),
    Column("channel", "smallint", repeats="channel"),
    Column("status", "smallint"),
    Column("result_payload", "text", cast="jsonb"),
    Column("errors", "text", cast="jsonb"),
    Column("processed_at", "timestamptz", once=True),
)
RAW_EVENTS: Final = Table("raw_events", "id", (*_RAW_COLUMNS, _BODY))
PROCESSED_RECORDS: Final = Table("processed_records", "id", _RECORD_COLUMNS)
# Most events have neither a pipeline nor a cause, and are written without these columns.
RAW_EVENTS_WITH_SUBJECT: Final = Table("raw_events", "id", (*_RAW_COLUMNS, Column("subject", "text"), _BODY))
RECORDS_OF_PIPELINES: Final = Table(
    "processed_records",
    "id",
    (*_RECORD_COLUMNS, Column("pipeline_id", "int"), Column("row_count", "int"), Column("cause_id", "int")),
)


def failed(event: Envelope, detail: str, *, acknowledged: bool = False, cause: str = "") -> Processed:
    """Return the event with the record of one that could not be processed as a whole."""
    errors = (Problem("", detail),)
    return Processed(event, RecordStatus.FAILED, errors=errors, acknowledged=acknowledged, cause=cause)


def held(processed: Processed, pipeline: ActivePipeline) -> Processed:
    """Return the event with the record of one that is kept, and processed when its pipeline is no longer held."""
    return Processed(
        processed.event,
        RecordStatus.HELD,
        acknowledged=processed.acknowledged,
        pipeline=pipeline,
        cause=held_cause(pipeline.name),
        subject=processed.subject,
    )


def held_cause(pipeline: str) -> str:
    """Return the cause of the HELD records of a pipeline."""
    return f"{pipeline}{_HELD}"


def held_pipeline(cause: str) -> str | None:
    """Return the pipeline whose HELD records have a cause, or None where the cause is another."""
    return cause.removesuffix(_HELD) if cause.endswith(_HELD) else None


def ledger_rows(items: Sequence[WriteItem], processed_at: datetime) -> list[TableRows]:
    """Return the rows that the events are stored as, table by table; `raw_events` is the first."""
    if any(item.processed.pipeline is not None or item.cause_id is not None for item in items):
        raw = _with_subjects(items) if any(item.processed.subject for item in items) else None
        records = [(*row, *_made_by(item)) for row, item in zip(_record_rows(items, processed_at), items, strict=True)]
        return [raw or TableRows(RAW_EVENTS, _raw_rows(items)), TableRows(RECORDS_OF_PIPELINES, records)]
    return [TableRows(RAW_EVENTS, _raw_rows(items)), TableRows(PROCESSED_RECORDS, _record_rows(items, processed_at))]


def _with_subjects(items: Sequence[WriteItem]) -> TableRows:
    rows = [(*row[:-1], item.processed.subject, row[-1]) for row, item in zip(_raw_rows(items), items, strict=True)]
    return TableRows(RAW_EVENTS_WITH_SUBJECT, rows)


def _made_by(item: WriteItem) -> Row:
    """Return the last columns of RECORDS_OF_PIPELINES."""
    processed = item.processed
    if processed.pipeline is None:
        return None, None, item.cause_id
    return processed.pipeline.id, len(processed.rows), item.cause_id


def record_values(item: WriteItem) -> Row:
    """Return result, problems, version, number of rows and cause of a record, as its columns hold them."""
    processed = item.processed
    return processed.result and processed.result.decode(), _problems_json(processed.errors), *_made_by(item)


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
            event.file_at,
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
def insert_statement(tables: tuple[Table, ...], *, before_typed_rows: bool = False) -> str:
    """Return the statement that adds rows to all tables; of an event that is stored already, to none.

    The first table is `raw_events`. The statement returns the ids that are new. Its parameters are those of
    `insert_parameters`.

    `before_typed_rows`: it returns one row, with the ids as an array and the time at which the transaction began. Its
    last parameter is how long the transaction waits for locks from then on, as a text in milliseconds.
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
    found = "SELECT id FROM stored"
    if before_typed_rows:
        # Aggregated, so that all events are added before the limit holds.
        limit = f"set_config('lock_timeout', ${next(numbers)}::text, true)"
        found = f"SELECT ids, now() AS began_at, {limit} FROM (SELECT array_agg(id) AS ids FROM stored) AS new"  # noqa: S608 - as above
    return f"WITH {', '.join(parts)} {found}"


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
