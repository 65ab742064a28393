"""The store: the identity, the raw event and the record of every event of a batch are written together."""

import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Any, TypeAlias
from uuid import UUID

import asyncpg
import msgspec

from processor.database import Connections, PermanentDataError, classified
from processor.ids import LedgerIds
from processor.statements import (
    ADD_CONFLICTS,
    ADD_EVENTS,
    ADD_SETTLEMENTS,
    ADD_SOURCES,
    FIND_FIRSTS,
    FIND_SOURCES,
    RAW_COLUMNS,
    RECORD_COLUMNS,
)
from processor.transform import Draft, failed, same_payload
from shared.contracts.event import Envelope
from shared.contracts.outcome import Disposition, Outcome, Problem, RecordStatus
from shared.failpoints import failpoint

_Row: TypeAlias = tuple[Any, ...]

_read_problems = msgspec.json.Decoder(tuple[Problem, ...]).decode


class Entry(msgspec.Struct, frozen=True, gc=False):
    """An event with the record it becomes. `acknowledged`: its door has answered already, for it came over a lane."""

    event: Envelope
    draft: Draft
    acknowledged: bool = False


class _Numbered(msgspec.Struct, frozen=True, gc=False):
    """An entry with the id that it gets in the ledger."""

    id: int
    entry: Entry


class _First(msgspec.Struct, frozen=True, gc=False):
    """The entry that the ledger holds under an event id."""

    channel: int
    received_at: datetime
    content_type: str
    body: bytes
    outcome: Outcome


class Store:
    """Writes entries to the ledger, each event id once for ever."""

    def __init__(self, connections: Connections, *, copy_events_min: int) -> None:
        """`connections` are those of etlpay_processor. Batches of `copy_events_min` events or more are copied."""
        self._connections = connections
        self._copy_events_min = copy_events_min
        self._ids = LedgerIds(connections)
        self._source_ids: dict[str, int] = {}
        # Whether the last batch held an event id that was there already.
        self._met_known = False

    async def write(self, entries: Sequence[Entry], *, processed_at: datetime) -> list[Outcome]:
        """Commit all entries; return one outcome each, in order.

        What is new is stored at once, with its records, or not at all. What is there already is compared afterwards,
        in a transaction of its own: the ledger does not change meanwhile. An entry that PostgreSQL refuses is kept as
        a FAILED record, and its neighbours are stored as they are. Idempotent: where a commit's answer was lost,
        writing the same entries again finds them stored.

        Raises:
            RetryableError: the ledger cannot be written now; whether it was is found out by writing again.
            FatalError: it never will be by this process (privileges, schema).
            PermanentError: an entry cannot be kept even as FAILED.
        """
        firsts: dict[UUID, Entry] = {}
        for entry in entries:
            firsts.setdefault(entry.event.event_id, entry)
        await self._learn_sources(entries)
        ids = await self._ids.take(len(firsts))
        # Numbered in the order given; sorted, so that two batches with the same new keys wait for each other instead
        # of deadlocking.
        numbered = [_Numbered(number, entry) for number, entry in zip(ids, firsts.values(), strict=True)]
        numbered.sort(key=_event_id)
        failpoint("processor.before_write")
        async with self._connections.taken() as connection:
            stored = await self._store(connection, numbered, processed_at)
            failpoint("processor.committed")
            if len(stored) == len(entries):
                return [stored[entry.event.event_id] for entry in entries]
            return await self._resolve(connection, entries, stored)

    async def _store(
        self, connection: asyncpg.Connection, numbered: Sequence[_Numbered], processed_at: datetime
    ) -> dict[UUID, Outcome]:
        try:
            return await self._insert(connection, numbered, processed_at)
        except asyncpg.PostgresError as error:
            if not isinstance(classified(error), PermanentDataError):
                raise
        async with connection.transaction():
            return await self._bisect(connection, numbered, processed_at)

    async def _bisect(
        self, connection: asyncpg.Connection, numbered: Sequence[_Numbered], processed_at: datetime
    ) -> dict[UUID, Outcome]:
        """Insert in halves, down to the one entry that is refused; that one is kept as FAILED."""
        try:
            async with connection.transaction():
                return await self._insert(connection, numbered, processed_at)
        except asyncpg.PostgresError as error:
            problem = classified(error)
            if not isinstance(problem, PermanentDataError):
                raise
        if len(numbered) > 1:
            middle = len(numbered) // 2
            first_half = await self._bisect(connection, numbered[:middle], processed_at)
            return first_half | await self._bisect(connection, numbered[middle:], processed_at)
        [refused] = numbered
        draft = failed(f"PostgreSQL refused it (SQLSTATE {problem.sqlstate})")
        return await self._insert(connection, [_Numbered(refused.id, Entry(refused.entry.event, draft))], processed_at)

    async def _insert(
        self, connection: asyncpg.Connection, numbered: Sequence[_Numbered], processed_at: datetime
    ) -> dict[UUID, Outcome]:
        """Insert what is new; return its outcomes by event id."""
        new = await self._add(connection, self._rows(numbered), self._records(numbered, processed_at))
        return {
            each.entry.event.event_id: Outcome(
                disposition=Disposition.STORED,
                raw_event_id=each.id,
                record_id=each.id,
                status=each.entry.draft.status,
                processed_at=processed_at,
                errors=each.entry.draft.errors,
                result=each.entry.draft.result,
            )
            for each in numbered
            if each.id in new
        }

    async def _add(self, connection: asyncpg.Connection, rows: Sequence[_Row], records: Sequence[_Row]) -> set[int]:
        """Add raw events with their records where the event id is new; return the ids of those rows.

        Replays come in batches, and a copy that meets what is there already was for nothing: so after one that did,
        batches are inserted until one is all new again.
        """
        if len(rows) >= self._copy_events_min and not self._met_known and await _copy(connection, rows, records):
            return {row[0] for row in rows}
        added = {row[0] for row in await connection.fetch(ADD_EVENTS, *add_events_parameters(rows, records))}
        self._met_known = len(added) < len(rows)
        return added

    async def _resolve(
        self, connection: asyncpg.Connection, entries: Sequence[Entry], stored: dict[UUID, Outcome]
    ) -> list[Outcome]:
        """Return the outcome of every entry: stored now, or a duplicate of, or in conflict with, the first."""
        known = {entry.event.event_id for entry in entries if entry.event.event_id not in stored}
        firsts = {row["event_id"]: _read_first(row) for row in await connection.fetch(FIND_FIRSTS, list(known))}
        conflicts: list[tuple[Envelope, Outcome]] = []
        settled: list[tuple[Envelope, Outcome]] = []
        outcomes: list[Outcome] = []
        unanswered = dict(stored)
        inserted: dict[UUID, Envelope] = {}
        for entry in entries:
            event = entry.event
            outcome = unanswered.pop(event.event_id, None)
            if outcome is None:
                first = firsts.get(event.event_id) or _first_of(inserted[event.event_id], stored[event.event_id])
                outcome = _compare(event, first)
                if outcome.disposition is Disposition.CONFLICT:
                    conflicts.append((event, outcome))
                # What was accepted once and came again, or on both roads, is the raw event itself.
                if entry.acknowledged and (event.received_at, event.channel) != (first.received_at, first.channel):
                    settled.append((event, outcome))
            else:
                inserted[event.event_id] = event
            outcomes.append(outcome)
        await self._keep(connection, conflicts, settled)
        return outcomes

    async def _keep(
        self,
        connection: asyncpg.Connection,
        conflicts: list[tuple[Envelope, Outcome]],
        settled: list[tuple[Envelope, Outcome]],
    ) -> None:
        async with connection.transaction():
            if conflicts:
                await connection.execute(ADD_CONFLICTS, *_conflict_columns(conflicts))
            failpoint("processor.in_transaction")
            if settled:
                await connection.execute(ADD_SETTLEMENTS, *self._settlement_columns(settled))
            failpoint("processor.before_commit")

    async def _learn_sources(self, entries: Sequence[Entry]) -> None:
        """Make sure that every source has a row, before what refers to it: sources never block one another."""
        names = sorted({entry.event.source for entry in entries} - self._source_ids.keys())
        if not names:
            return
        async with self._connections.taken() as connection:
            await connection.execute(ADD_SOURCES, names)
            rows = await connection.fetch(FIND_SOURCES, names)
        self._source_ids |= {row["name"]: row["id"] for row in rows}

    def _settlement_columns(self, settled: list[tuple[Envelope, Outcome]]) -> tuple[list[Any], ...]:
        # Sorted for the same reason as the entries.
        settled.sort(key=lambda pair: (pair[0].event_id, pair[0].received_at, pair[0].channel))
        return (
            [event.event_id for event, _ in settled],
            [event.received_at for event, _ in settled],
            [self._source_ids[event.source] for event, _ in settled],
            [event.channel for event, _ in settled],
            [outcome.disposition for _, outcome in settled],
        )

    def _rows(self, numbered: Sequence[_Numbered]) -> list[_Row]:
        """Return the rows of `raw_events`, as RAW_COLUMNS names their values."""
        return [
            (
                each.id,
                event.event_id,
                self._source_ids[event.source],
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
            for each in numbered
            for event in (each.entry.event,)
        ]

    def _records(self, numbered: Sequence[_Numbered], processed_at: datetime) -> list[_Row]:
        """Return the rows of `processed_records`, as RECORD_COLUMNS names their values."""
        return [
            (
                each.id,
                each.id,
                self._source_ids[entry.event.source],
                entry.event.channel,
                draft.status,
                draft.result and draft.result.decode(),
                _problems_json(draft.errors),
                processed_at,
            )
            for each in numbered
            for entry, draft in ((each.entry, each.entry.draft),)
        ]


async def _copy(connection: asyncpg.Connection, rows: Sequence[_Row], records: Sequence[_Row]) -> bool:
    """Add all of a batch; where one of its event ids is there already, add nothing and return False."""
    try:
        async with connection.transaction():
            await connection.copy_records_to_table("raw_events", records=rows, columns=RAW_COLUMNS)
            failpoint("processor.half_copied")
            await connection.copy_records_to_table("processed_records", records=records, columns=RECORD_COLUMNS)
    except asyncpg.UniqueViolationError:
        return False
    return True


def add_events_parameters(rows: Sequence[_Row], records: Sequence[_Row]) -> list[Any]:
    """Return the parameters of ADD_EVENTS for the rows of both tables."""
    _, _, _, _, statuses, results, errors, processed_at = zip(*records, strict=True)
    columns = (*zip(*rows, strict=True), statuses, results, errors)
    return [*map(_sparse, columns), processed_at[0]]


def _sparse(column: Sequence[Any]) -> Sequence[Any]:
    """Return a column as it is, or nothing where it holds nothing: what is missing at the end of an array is null."""
    return () if all(value is None for value in column) else column


def _event_id(numbered: _Numbered) -> bytes:
    return numbered.entry.event.event_id.bytes


def _problems_json(problems: tuple[Problem, ...]) -> str | None:
    return msgspec.json.encode(problems).decode() if problems else None


def _read_first(row: asyncpg.Record) -> _First:
    return _First(
        channel=row["channel"],
        received_at=row["received_at"],
        content_type=row["content_type"],
        body=row["body"],
        outcome=Outcome(
            disposition=Disposition.DUPLICATE,
            raw_event_id=row["raw_event_id"],
            record_id=row["record_id"],
            status=RecordStatus(row["status"]),
            processed_at=row["processed_at"],
            errors=_read_problems(row["errors"]) if row["errors"] else (),
            result=row["result"].encode() if row["result"] else None,
        ),
    )


def _first_of(event: Envelope, outcome: Outcome) -> _First:
    """Return what the ledger holds since this very batch."""
    return _First(event.channel, event.received_at, event.content_type, event.body, outcome)


def _compare(event: Envelope, first: _First) -> Outcome:
    """Return the first outcome again, as a duplicate or as a conflict."""
    same = same_payload(event, first.content_type, first.body)
    result = first.outcome.result
    if result is None and first.outcome.status is RecordStatus.SUCCESS and first.body != event.body:
        # Equal values in other bytes: the first answer again means the bytes of the first.
        result = first.body
    disposition = Disposition.DUPLICATE if same else Disposition.CONFLICT
    return msgspec.structs.replace(first.outcome, disposition=disposition, result=result)


def _conflict_columns(conflicts: Sequence[tuple[Envelope, Outcome]]) -> tuple[list[Any], ...]:
    return (
        [outcome.raw_event_id for _, outcome in conflicts],
        [event.channel for event, _ in conflicts],
        [event.received_at for event, _ in conflicts],
        [event.content_type for event, _ in conflicts],
        [event.origin or None for event, _ in conflicts],
        [event.sender or None for event, _ in conflicts],
        [event.body for event, _ in conflicts],
        [hashlib.sha256(event.body).digest() for event, _ in conflicts],
    )
