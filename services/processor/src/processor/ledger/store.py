"""The store: the identity, the raw event and the record of every event of a batch are written together."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg

from processor.ledger.database import Connections, check_revision
from processor.ledger.duplicates import Duplicates
from processor.ledger.former_keys import FormerKeys
from processor.ledger.ids import IdAllocator, SourceIds
from processor.ledger.rows import (
    Processed,
    Row,
    WriteItem,
    add_conflicts_parameters,
    add_events_parameters,
    add_settlements_parameters,
    failed,
    raw_rows,
    record_rows,
)
from processor.ledger.sqlstates import (
    LEDGER,
    LEDGER_FAILED,
    Fault,
    OutdatedError,
    PermanentDataError,
    RuleError,
    classified,
)
from processor.ledger.statements import ADD_CONFLICTS, ADD_EVENTS, ADD_SETTLEMENTS, RAW_COLUMNS, RECORD_COLUMNS
from shared.contracts.errors import PermanentError, UnavailableError
from shared.contracts.event import Envelope
from shared.contracts.result import Recorded, ResultKind
from shared.failpoints import failpoint

_MIB: Final = 1024 * 1024
# As parameters of a statement bodies are copied once more than as rows that are copied: one message of 16 MiB took the
# processor to 159 instead of 144 MB.
_COPY_BYTES_MIN: Final = 4 * _MIB
_REPAIRS_MAX: Final = 8
# So many rows are refused by a rule, and not one is taken: it is no matter of the rows.
_REFUSED_MAX: Final = 8


class Store:
    """Writes events to the ledger, each event id once for ever."""

    def __init__(
        self,
        connections: Connections,
        *,
        copy_events_min: int,
        source_names_max: int = 10_000,
        compared_bytes_max: int = _MIB,
        answered_bytes_max: int = 4 * _MIB,
    ) -> None:
        """`connections` are those of etlpay_processor; the bounds are those of the settings."""
        self._connections = connections
        self._copy_events_min = copy_events_min
        self._former = FormerKeys(connections)
        self._ids = IdAllocator(connections)
        self._sources = SourceIds(connections, names_max=source_names_max)
        self._duplicates = Duplicates(compared_bytes_max=compared_bytes_max, answered_bytes_max=answered_bytes_max)
        # Whether the last batch held an event id that was there already.
        self._met_known = False

    async def write(self, batch: Sequence[Processed], *, processed_at: datetime) -> list[Recorded]:
        """Commit the events; return one outcome for each, in order.

        New events are stored with their records in one transaction. Events that are stored already are compared
        afterwards, in a second transaction; the ledger is append-only, so it does not change in between. An event that
        PostgreSQL refuses is kept with a FAILED record, and the other events are stored as they are. Idempotent: when
        the answer of a commit was lost, writing the same events again finds them stored.

        Raises:
            RetryableError: the ledger cannot be written now. Whether it was written is known after writing again.
                The subclass LedgerRefusesError needs an operator.
            PermanentError: an event cannot be kept even as FAILED, or a rule refuses some of the events.
        """
        stored: dict[UUID, Recorded] = {}
        with self._connections.gate:
            batch = await self._former.apply(batch)
            for _ in range(_REPAIRS_MAX):
                try:
                    return await self._write(batch, stored, processed_at)
                except OutdatedError as error:
                    await self._repair(error.fault, batch)
            raise UnavailableError("the ledger goes on being other than it was")

    async def _write(
        self, batch: Sequence[Processed], stored: dict[UUID, Recorded], processed_at: datetime
    ) -> list[Recorded]:
        """Write the events that are not in `stored`, add them there after the commit; return the outcome of each."""
        firsts: dict[UUID, Processed] = {}
        for each in batch:
            firsts.setdefault(each.event.event_id, each)
        new = [each for event_id, each in firsts.items() if event_id not in stored] if stored else firsts.values()
        source_ids = await self._sources.of({each.event.source for each in batch})
        ids = await self._ids.allocate(len(new))
        # Ids follow the order of the batch. The rows are sorted by event id, so that two batches with the same new ids
        # wait for each other instead of deadlocking.
        items = [WriteItem(number, source_ids[each.event.source], each) for number, each in zip(ids, new, strict=True)]
        items.sort(key=_event_id)
        failpoint("processor.before_write")
        async with self._connections.taken() as connection:
            stored |= await self._store(connection, items, processed_at)
            failpoint("processor.committed")
            if len(stored) == len(batch):
                return [stored[each.event.event_id] for each in batch]
            return await self._resolve(connection, batch, stored, source_ids)

    async def _repair(self, fault: Fault, batch: Sequence[Processed]) -> None:
        """Learn anew what is not as it was: a source was erased, or a fail-over took numbers of a sequence back."""
        if fault is Fault.IDS:
            await self._ids.skip_used()
        else:
            self._sources.forget(each.event.source for each in batch)

    async def _store(
        self, connection: asyncpg.Connection, items: Sequence[WriteItem], processed_at: datetime
    ) -> dict[UUID, Recorded]:
        try:
            return await self._insert(connection, items, processed_at)
        except asyncpg.PostgresError as error:
            if _refused_row(error) is None:
                raise
        # No event is to blame for a schema that this code does not know.
        await check_revision(connection)
        bisection = _Bisection()
        async with connection.transaction():
            stored = await self._bisect(connection, items, processed_at, bisection)
        bisection.check()
        return stored

    async def _bisect(
        self,
        connection: asyncpg.Connection,
        items: Sequence[WriteItem],
        processed_at: datetime,
        bisection: "_Bisection",
    ) -> dict[UUID, Recorded]:
        """Insert in halves, down to the event that is refused; an event with a wrong value is kept as FAILED."""
        try:
            async with connection.transaction():
                stored = await self._insert(connection, items, processed_at)
        except asyncpg.PostgresError as error:
            problem = _refused_row(error)
            if problem is None:
                raise
        else:
            bisection.taken += len(items)
            return stored
        if len(items) > 1:
            middle = len(items) // 2
            first_half = await self._bisect(connection, items[:middle], processed_at, bisection)
            return first_half | await self._bisect(connection, items[middle:], processed_at, bisection)
        if isinstance(problem, RuleError):
            bisection.refuse(problem)
            return {}
        stored = await self._keep_failed(connection, items[0], problem.sqlstate, processed_at)
        bisection.taken += 1
        return stored

    async def _keep_failed(
        self, connection: asyncpg.Connection, refused: WriteItem, sqlstate: str, processed_at: datetime
    ) -> dict[UUID, Recorded]:
        event = failed(refused.processed.event, f"PostgreSQL refused it (SQLSTATE {sqlstate})")
        try:
            return await self._insert(connection, [WriteItem(refused.id, refused.source_id, event)], processed_at)
        except asyncpg.PostgresError as error:
            raise classified(error, writing=LEDGER_FAILED) from error

    async def _insert(
        self, connection: asyncpg.Connection, items: Sequence[WriteItem], processed_at: datetime
    ) -> dict[UUID, Recorded]:
        """Insert what is new; return its outcomes by event id."""
        new = await self._add(connection, raw_rows(items), record_rows(items, processed_at))
        return {
            item.processed.event.event_id: Recorded(
                kind=ResultKind.STORED,
                raw_event_id=item.id,
                record_id=item.id,
                status=item.processed.status,
                processed_at=processed_at,
                errors=item.processed.errors,
                result=item.processed.result,
            )
            for item in items
            if item.id in new
        }

    async def _add(self, connection: asyncpg.Connection, rows: Sequence[Row], records: Sequence[Row]) -> set[int]:
        """Add raw events with their records where the event id is new; return the ids of those rows.

        Replays come in batches, and a copy that meets what is there already was for nothing: so after one that did,
        batches are inserted until one is all new again.
        """
        copies = len(rows) >= self._copy_events_min or sum(len(row[-1]) for row in rows) >= _COPY_BYTES_MIN
        if copies and not self._met_known and await _copy(connection, rows, records):
            return {row[0] for row in rows}
        added = {row[0] for row in await connection.fetch(ADD_EVENTS, *add_events_parameters(rows, records))}
        self._met_known = len(added) < len(rows)
        return added

    async def _resolve(
        self,
        connection: asyncpg.Connection,
        batch: Sequence[Processed],
        stored: dict[UUID, Recorded],
        source_ids: dict[str, int],
    ) -> list[Recorded]:
        """Return the outcome of every event: stored now, or a duplicate of the stored event, or a conflict with it."""
        found = await self._duplicates.find(connection, batch, stored)
        pairs = [(each.event, known.outcome) for each, known in zip(batch, found, strict=True)]
        conflicts = [pair for pair in pairs if pair[1].kind is ResultKind.CONFLICT]
        # What was accepted once and came again, or over both transports, is the raw event itself.
        settled = [
            pair
            for pair, each, known in zip(pairs, batch, found, strict=True)
            if each.acknowledged and not known.is_first
        ]
        await self._keep(connection, conflicts, settled, source_ids)
        return [outcome for _, outcome in pairs]

    async def _keep(
        self,
        connection: asyncpg.Connection,
        conflicts: list[tuple[Envelope, Recorded]],
        settled: list[tuple[Envelope, Recorded]],
        source_ids: dict[str, int],
    ) -> None:
        async with connection.transaction():
            if conflicts:
                await connection.execute(ADD_CONFLICTS, *add_conflicts_parameters(conflicts))
            failpoint("processor.in_transaction")
            if settled:
                await connection.execute(ADD_SETTLEMENTS, *add_settlements_parameters(settled, source_ids))
            failpoint("processor.before_commit")


class _Bisection:
    """What came of the rows of a batch that was refused as a whole."""

    def __init__(self) -> None:
        self.taken = 0
        self._refused: list[RuleError] = []

    def refuse(self, problem: RuleError) -> None:
        """Note a row that a rule refuses. Raises RuleError where it is rather all of them."""
        self._refused.append(problem)
        if not self.taken and len(self._refused) >= _REFUSED_MAX:
            raise problem

    def check(self) -> None:
        """Return where each row was taken.

        Raises:
            RuleError: none was, so it may be no matter of the rows. PermanentError: some were, and are committed.
        """
        if self._refused and self.taken:
            raise PermanentError(f"not the others: {self._refused[0]}")
        if self._refused:
            raise self._refused[0]


async def _copy(connection: asyncpg.Connection, rows: Sequence[Row], records: Sequence[Row]) -> bool:
    """Add all of a batch; where one of its event ids is there already, add nothing and return False."""
    try:
        async with connection.transaction():
            await connection.copy_records_to_table("raw_events", records=rows, columns=RAW_COLUMNS)
            failpoint("processor.half_copied")
            await connection.copy_records_to_table("processed_records", records=records, columns=RECORD_COLUMNS)
    except asyncpg.UniqueViolationError:
        return False
    return True


def _refused_row(error: Exception) -> PermanentDataError | RuleError | None:
    """Return the error as one that is the matter of a row, or None where it is that of all."""
    problem = classified(error, writing=LEDGER)
    return problem if isinstance(problem, PermanentDataError | RuleError) else None


def _event_id(item: WriteItem) -> bytes:
    return item.processed.event.event_id.bytes
