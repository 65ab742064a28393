"""What two versions of a pipeline make of stored events: their rows are compared in memory, and nothing is written."""

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import Final

import asyncpg
import msgspec

from processor.ledger.owed import stored_event
from processor.ledger.rows import Processed
from processor.programs.active import NO_PIPELINES, ActivePipeline
from processor.stages.pipeline import run_pipeline
from shared.contracts.event import Envelope
from shared.contracts.result import RecordStatus
from shared.pipelines.compiling import PipelineProgram

# The newest of each source, over the index that serves the queries of one source.
_NEWEST: Final = """
    SELECT raw.event_id, source.name AS source, raw.idempotency_key, raw.channel, raw.type, raw.occurred_at,
           raw.received_at, raw.content_type, raw.origin, raw.derived, raw.sender, raw.file_at,
           raw.body
    FROM (SELECT record.raw_event_id
          FROM public.ingestion_sources AS source
          CROSS JOIN LATERAL (
              SELECT raw_event_id, processed_at, id FROM public.processed_records
              WHERE source_id = source.id AND attempt = 1 ORDER BY processed_at DESC, id DESC LIMIT $2) AS record
          WHERE source.name ~ $1
          ORDER BY record.processed_at DESC, record.id DESC LIMIT $2) AS newest
    JOIN public.raw_events AS raw ON raw.id = newest.raw_event_id
    JOIN public.ingestion_sources AS source ON source.id = raw.source_id
    WHERE octet_length(raw.body) <= $3
"""
# A batch of bodies is in memory at once.
_AT_ONCE: Final = 50
_BODY_BYTES_MAX: Final = 1024 * 1024
_TIME_LIMIT: Final = "SET LOCAL statement_timeout = '60s'"

_Row = dict[str, object]


class Comparison(msgspec.Struct, frozen=True):
    """What two versions make of the newest stored events. `events`: how many were looked at.

    `differing`: of each table, the events whose rows would be others. `failing`, `no_longer_failing`: events.
    `filled`: by table and column, how many rows of the new version have a value; `rows`: of each table.
    """

    events: int = 0
    failing: int = 0
    no_longer_failing: int = 0
    failed: int = 0
    differing: dict[str, int] = {}
    rows: dict[str, int] = {}
    filled: dict[str, dict[str, int]] = {}

    @property
    def never_filled(self) -> tuple[str, ...]:
        """The columns that no row has a value of, where there are rows."""
        return tuple(
            f"{table}.{column}"
            for table, columns in self.filled.items()
            for column, count in columns.items()
            if self.rows.get(table) and not count
        )


async def compare_versions(
    connection: asyncpg.Connection,
    sources: Sequence[str],
    programs: tuple[PipelineProgram | None, PipelineProgram],
    *,
    events_max: int,
) -> Comparison | None:
    """Return what the second program makes of the newest stored events that the first does not; None: it took too long.

    The first is None where there is no active version. Raises POSTGRES_ERRORS.
    """
    before, after = programs
    counter = _Counter(after)
    try:
        async for event in _newest(connection, sources, events_max):
            counter.add(None if before is None else _processed(before, event), _processed(after, event), before)
    except asyncpg.QueryCanceledError:
        return None
    return counter.comparison()


class _Counter:
    def __init__(self, program: PipelineProgram) -> None:
        self._program = program
        self._counts: Counter[str] = Counter()
        self._differing: Counter[str] = Counter()
        self._rows: Counter[str] = Counter()
        self._filled = {table.name: dict.fromkeys(table.columns, 0) for table in program.pipeline.table}

    def add(self, before: Processed | None, after: Processed, program: PipelineProgram | None) -> None:
        """Count one event: what the version before makes of it, and what this one makes."""
        self._counts["events"] += 1
        new = _rows_of(self._program, after)
        for table, rows in new.items():
            self._rows[table] += len(rows)
            for row in rows:
                for column in (
                    name for name, value in row.items() if value is not None and name in self._filled[table]
                ):
                    self._filled[table][column] += 1
        fails = after.status is RecordStatus.FAILED
        self._counts["failed"] += fails
        if before is None or program is None:
            return
        failed = before.status is RecordStatus.FAILED
        self._counts["failing"] += fails and not failed
        self._counts["no_longer_failing"] += failed and not fails
        old = _rows_of(program, before)
        self._differing.update(table for table in {**old, **new} if old.get(table, []) != new.get(table, []))

    def comparison(self) -> Comparison:
        """Return what was counted."""
        return Comparison(
            **{name: self._counts[name] for name in ("events", "failing", "no_longer_failing", "failed")},
            differing=dict(self._differing),
            rows=dict(self._rows),
            filled=self._filled,
        )


def _rows_of(program: PipelineProgram, made: Processed) -> dict[str, list[_Row]]:
    """Return the rows of an event by table; an empty column is as good as none."""
    rows: dict[str, list[_Row]] = {}
    for position, row in enumerate(made.rows):
        table = program.pipeline.table[row.table]
        values: _Row = {name: value for name, value in zip(table.columns, row.values, strict=True) if value is not None}
        rows.setdefault(table.name, []).append(values | ({"_gone": True} if position in made.gone else {}))
    return rows


async def _newest(connection: asyncpg.Connection, sources: Sequence[str], events_max: int) -> AsyncIterator[Envelope]:
    arguments = (source_pattern(sources), events_max, _BODY_BYTES_MAX)
    async with connection.transaction(readonly=True):
        await connection.execute(_TIME_LIMIT)
        async for row in connection.cursor(_NEWEST, *arguments, prefetch=_AT_ONCE):
            yield stored_event(row)


def source_pattern(sources: Sequence[str]) -> str:
    """Return the regular expression of PostgreSQL for sources and beginnings of sources that end in `*`."""
    parts = (_escaped(source[:-1]) + ".*" if source.endswith("*") else _escaped(source) for source in sources)
    return f"^({'|'.join(parts)})$"


def _escaped(text: str) -> str:
    return "".join(each if each.isalnum() or each in "_-" else f"\\{each}" for each in text)


def _processed(program: PipelineProgram, event: Envelope) -> Processed:
    """Return what the processor makes of an event where this program runs."""
    pipeline = ActivePipeline(0, program.pipeline.name, 0, program.pipeline.sources, program, ())
    return run_pipeline(event, pipeline, NO_PIPELINES, acknowledged=False)
