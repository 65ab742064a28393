"""The HELD events that are owed: finds them, and writes their next attempts with their typed rows."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple, TypeAlias

import asyncpg

from processor.ledger.bisect import kept_as_failed, refusal_of
from processor.ledger.database import Connections
from processor.ledger.ids import IdAllocator, NameIds
from processor.ledger.rows import Processed, WriteItem, held_cause, held_pipeline, record_values
from processor.ledger.sqlstates import Fault, PermanentDataError
from processor.ledger.statements import ADD_ATTEMPTS, BEGIN_ATTEMPTS, FIND_CAUSES_LIKE, FIND_EVENTS, FIND_HELD
from processor.ledger.typed_bisect import TypedBisection
from processor.ledger.typed_writer import TypedRowsError, TypedWriter, with_typed_rows
from shared.contracts.errors import UnavailableError
from shared.contracts.event import Channel, Envelope
from shared.failpoints import failpoint

Position: TypeAlias = tuple[datetime, int]
"""A place among the HELD records: the time and the id of one; those after it are later, or not looked at yet."""

FIRST: Final[Position] = (datetime(1, 1, 1, tzinfo=UTC), 0)

_LOOKED_MAX: Final = 1_000
_ROUNDS_MAX: Final = 8


class Owed(NamedTuple):
    """A HELD record of an event of which no later attempt was made, and the size of the body."""

    position: Position
    raw_event_id: int
    attempt: int
    bytes: int


class Look(NamedTuple):
    """Some of the HELD records after a position: those that are owed, and the last that was looked at, if any."""

    owed: Sequence[Owed]
    last: Position | None


class OwedEvent(NamedTuple):
    """A HELD event as it is stored."""

    owed: Owed
    source_id: int
    event: Envelope


class _Attempt(NamedTuple):
    """The next attempt of an event; the id of `item` is that of the raw event."""

    id: int
    number: int
    item: WriteItem


class _RefusedError(Exception):
    """The ledger refuses a value of a record."""

    def __init__(self, sqlstate: str) -> None:
        super().__init__(sqlstate)
        self.sqlstate = sqlstate


class OwedEvents:
    """Reads and writes what is owed of pipelines."""

    def __init__(self, connections: Connections, ids: IdAllocator, causes: NameIds, typed: TypedWriter) -> None:
        """`ids`, `causes` and `typed` are those of the store."""
        self._connections = connections
        self._ids = ids
        self._causes = causes
        self._typed = typed

    async def pipelines(self) -> set[str]:
        """Return the names of all pipelines that ever had a HELD event. Raises as `Connections.taken`."""
        async with self._connections.taken() as connection:
            rows = await connection.fetch(FIND_CAUSES_LIKE, f"%{held_cause('')}")
        return {name for row in rows if (name := held_pipeline(row["name"]))}

    async def find(self, name: str, after: Position) -> Look:
        """Look at the next HELD records. Raises as `Connections.taken`."""
        cause = held_cause(name)
        cause_id = (await self._causes.of({cause}))[cause]
        async with self._connections.taken() as connection:
            rows = await connection.fetch(FIND_HELD, cause_id, *after, _LOOKED_MAX)
        owed = [
            Owed((row["processed_at"], row["id"]), row["raw_event_id"], row["attempt"], row["owed_bytes"])
            for row in rows
            if row["owed_bytes"] is not None
        ]
        return Look(owed, (rows[-1]["processed_at"], rows[-1]["id"]) if rows else None)

    async def read(self, owed: Sequence[Owed]) -> list[OwedEvent]:
        """Return the events, in order. Raises as `Connections.taken`."""
        async with self._connections.taken() as connection:
            rows = {row["id"]: row for row in await connection.fetch(FIND_EVENTS, [each.raw_event_id for each in owed])}
        return [
            OwedEvent(each, row["source_id"], stored_event(row))
            for each in owed
            if (row := rows.get(each.raw_event_id)) is not None
        ]

    async def write(
        self, name: str, events: Sequence[OwedEvent], processed: Sequence[Processed], *, processed_at: datetime
    ) -> list[Processed] | None:
        """Commit the next attempts of events with their typed rows, in one transaction; return what was written.

        An event whose next attempt was made meanwhile is left out. None: another processor is at work on this pipeline.

        Raises:
            TypedRowsError: a table cannot be written; nothing is committed. Otherwise as `Store.write`.
        """
        # In one order, so that two processors wait for each other.
        pairs = sorted(zip(events, processed, strict=True), key=lambda pair: pair[0].owed.raw_event_id)
        events, processed = [event for event, _ in pairs], [one for _, one in pairs]
        with self._connections.gate:
            for _ in range(_ROUNDS_MAX):
                attempts = await self._attempts(events, processed)
                try:
                    async with self._connections.taken() as connection:
                        return await self._write(connection, name, attempts, processed_at)
                except TypedRowsError as error:
                    if error.fault is Fault.TABLE and error.pipeline is not None:
                        raise
                    processed = await self._without_refused(attempts)
                except _RefusedError as error:
                    if len(events) > 1:
                        return await self._write_each(name, events, processed, processed_at)
                    processed = [kept_as_failed(processed[0], error.sqlstate)]
            raise UnavailableError("rows are refused that were not refused before")

    async def _write_each(
        self, name: str, events: Sequence[OwedEvent], processed: Sequence[Processed], processed_at: datetime
    ) -> list[Processed]:
        written: list[Processed] = []
        for each, one in zip(events, processed, strict=True):
            written += await self.write(name, [each], [one], processed_at=processed_at) or []
        return written

    async def _attempts(self, events: Sequence[OwedEvent], processed: Sequence[Processed]) -> list[_Attempt]:
        cause_ids = await self._causes.of({each.cause for each in processed if each.cause})
        ids = await self._ids.allocate(len(events))
        return [
            _Attempt(
                number,
                each.owed.attempt + 1,
                WriteItem(each.owed.raw_event_id, each.source_id, one, cause_ids.get(one.cause)),
            )
            for number, each, one in zip(ids, events, processed, strict=True)
        ]

    async def _write(
        self, connection: asyncpg.Connection, name: str, attempts: Sequence[_Attempt], processed_at: datetime
    ) -> list[Processed] | None:
        async with with_typed_rows(connection):
            began = await connection.fetchrow(BEGIN_ATTEMPTS, name, self._typed.lock_timeout)
            if not began["locked"]:
                return None
            try:
                rows = await connection.fetch(ADD_ATTEMPTS, *_parameters(attempts), processed_at)
            except asyncpg.PostgresError as error:
                refusal = refusal_of(error)
                if isinstance(refusal, PermanentDataError):
                    raise _RefusedError(refusal.sqlstate) from None
                raise
            failpoint("processor.rows_next")
            new = {row["raw_event_id"] for row in rows}
            items = [attempt.item for attempt in attempts if attempt.item.id in new]
            await self._typed.write(connection, items, began["began_at"])
        return [item.processed for item in items]

    async def _without_refused(self, attempts: Sequence[_Attempt]) -> list[Processed]:
        items = [attempt.item for attempt in attempts]
        async with self._connections.taken() as connection:
            refused = await TypedBisection(connection, self._typed).find(items)
        return [refused.get(item.processed.event.event_id, item.processed) for item in items]


def portions(owed: Sequence[Owed], *, events_max: int, bytes_max: int) -> Iterator[Sequence[Owed]]:
    """Yield the events in portions of so many, and of so many bytes; a larger event comes alone."""
    portion: list[Owed] = []
    size = 0
    for each in owed:
        if portion and (len(portion) >= events_max or size + each.bytes > bytes_max):
            yield portion
            portion, size = [], 0
        portion.append(each)
        size += each.bytes
    if portion:
        yield portion


def stored_event(row: asyncpg.Record) -> Envelope:
    """Return a stored event, of a row with its attributes and the name of its source."""
    return Envelope(
        event_id=row["event_id"],
        source=row["source"],
        channel=Channel(row["channel"]),
        received_at=row["received_at"],
        body=row["body"],
        idempotency_key=row["idempotency_key"] or "",
        content_type=row["content_type"],
        type=row["type"] or "",
        occurred_at=row["occurred_at"],
        origin=row["origin"] or "",
        derived=row["derived"] or False,
        sender=row["sender"] or "",
        file_at=row["file_at"],
    )


def _parameters(attempts: Sequence[_Attempt]) -> list[Sequence[Any]]:
    """Return the parameters of ADD_ATTEMPTS but the last."""
    rows = [
        (
            attempt.id,
            attempt.item.id,
            attempt.item.source_id,
            attempt.item.processed.event.channel,
            attempt.item.processed.status,
            attempt.number,
            *record_values(attempt.item),
        )
        for attempt in attempts
    ]
    return list(zip(*rows, strict=True))
