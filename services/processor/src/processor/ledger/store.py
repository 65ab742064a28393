"""The store: identity, raw event and record of every event of a batch are written together."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg

from processor.ledger.bisect import Bisection, refusal_of
from processor.ledger.copy import RowsOf, RowWriter
from processor.ledger.database import Connections, check_revision
from processor.ledger.duplicates import Duplicates
from processor.ledger.former_keys import FormerKeys
from processor.ledger.holds import Holds
from processor.ledger.ids import IdAllocator, UnknownNameError, cause_ids, source_ids
from processor.ledger.rows import (
    Processed,
    WriteItem,
    add_conflicts_parameters,
    add_settlements_parameters,
    held,
    held_pipeline,
    ledger_rows,
)
from processor.ledger.sqlstates import Fault, OutdatedError
from processor.ledger.statements import ADD_CONFLICTS, ADD_SETTLEMENTS, FIND_KNOWN
from processor.ledger.typed_bisect import TypedBisection
from processor.ledger.typed_writer import TypedRowsError, TypedWriter
from shared.contracts.errors import UnavailableError
from shared.contracts.event import Envelope
from shared.contracts.result import Recorded, ResultKind
from shared.failpoints import failpoint

_MIB: Final = 1024 * 1024
# Each pipeline that is held by a batch takes one.
_REPAIRS_MAX: Final = 16


class Store:
    """Writes events to the ledger, each event id once for ever."""

    def __init__(  # noqa: PLR0913 - the limits
        self,
        connections: Connections,
        *,
        copy_events_min: int,
        source_names_max: int = 10_000,
        compared_bytes_max: int = _MIB,
        answered_bytes_max: int = 4 * _MIB,
        typed_lock_seconds_max: float = 2.0,
        holds: Holds | None = None,
        rows_of: RowsOf = ledger_rows,
    ) -> None:
        """`connections` are those of etlpay_processor, the limits those of the settings.

        `rows_of` makes the rows that events are stored as, of any tables: all rows of an event are stored, or none.
        """
        self._connections = connections
        self._former = FormerKeys(connections)
        self.ids = IdAllocator(connections)
        self._sources = source_ids(connections, names_max=source_names_max)
        self.causes = cause_ids(connections)
        self.holds = holds or Holds(connections)
        self.typed = TypedWriter(copy_rows_min=copy_events_min, lock_seconds_max=typed_lock_seconds_max)
        self._writer = RowWriter(rows_of, copy_events_min=copy_events_min, typed=self.typed)
        self._duplicates = Duplicates(compared_bytes_max=compared_bytes_max, answered_bytes_max=answered_bytes_max)

    async def write(self, batch: Sequence[Processed], *, processed_at: datetime) -> list[Recorded]:
        """Commit the events; return one outcome for each, in order.

        New events are stored with their records and typed rows in one transaction. Where a typed table cannot be
        written its pipeline is held, and its events are stored as HELD. Events that are stored already are compared
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
            if self._former.possible:
                batch = await self._former.apply(batch)
            for _ in range(_REPAIRS_MAX):
                if self.holds.held:
                    batch = self._keep_back(batch)
                try:
                    return await self._write(batch, stored, processed_at)
                except OutdatedError as error:
                    await self._repair(error.fault, batch)
                except UnknownNameError as error:
                    await self.causes.of({error.name})
                except TypedRowsError as error:
                    batch = await self._without_refused(error, batch)
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
        causes = {each.cause for each in new if each.cause}
        cause_ids = await self.causes.of(causes) if causes else {}
        ids = await self.ids.allocate(len(new))
        # Ids follow the order of the batch. The rows are sorted by event id, so that two batches with the same new ids
        # wait for each other instead of deadlocking.
        items = [
            WriteItem(number, source_ids[each.event.source], each, cause_ids.get(each.cause) if causes else None)
            for number, each in zip(ids, new, strict=True)
        ]
        items.sort(key=_event_id)
        failpoint("processor.before_write")
        async with self._connections.taken() as connection:
            stored |= await self._store(connection, items, processed_at)
            failpoint("processor.committed")
            for cause in causes:
                if (name := held_pipeline(cause)) is not None:
                    self.holds.add_owed(name)
            if len(stored) == len(batch):
                return [stored[each.event.event_id] for each in batch]
            return await self._resolve(connection, batch, stored, source_ids)

    async def _repair(self, fault: Fault, batch: Sequence[Processed]) -> None:
        """Learn anew what is not as it was: a source was erased, or a fail-over took numbers of a sequence back."""
        if fault is Fault.IDS:
            await self.ids.skip_used()
        else:
            self._sources.forget(each.event.source for each in batch)

    def _keep_back(self, batch: Sequence[Processed]) -> Sequence[Processed]:
        """Return the batch; events with rows in the tables of pipelines that are held are HELD."""
        names = self.holds.held
        return [
            held(each, each.pipeline)
            if each.rows and each.pipeline is not None and each.pipeline.name in names
            else each
            for each in batch
        ]

    async def _without_refused(self, error: TypedRowsError, batch: Sequence[Processed]) -> Sequence[Processed]:
        """Return the batch; events whose typed rows are refused are FAILED.

        A pipeline whose table cannot be written, or which refuses too many events, is held.
        """
        try:
            if error.fault is Fault.TABLE and error.pipeline is not None:
                raise error
            refused = await self._find_refused(batch)
        except TypedRowsError as fault:
            if fault.pipeline is None:
                raise
            await self.holds.hold(fault.pipeline.name, str(fault))
            return batch
        firsts: set[UUID] = set()
        changed: list[Processed] = []
        for each in batch:
            event_id = each.event.event_id
            changed.append(each if event_id in firsts else refused.get(event_id, each))
            firsts.add(event_id)
        return changed

    async def _find_refused(self, batch: Sequence[Processed]) -> dict[UUID, Processed]:
        firsts: dict[UUID, Processed] = {}
        for each in batch:
            firsts.setdefault(each.event.event_id, each)
        firsts = {event_id: each for event_id, each in firsts.items() if each.rows}
        ids = await self.ids.allocate(len(firsts))
        async with self._connections.taken() as connection:
            known = {row["event_id"] for row in await connection.fetch(FIND_KNOWN, list(firsts))}
            items = [
                WriteItem(number, 0, each)
                for number, (event_id, each) in zip(ids, firsts.items(), strict=True)
                if event_id not in known
            ]
            return await TypedBisection(connection, self.typed).find(items)

    async def _store(
        self, connection: asyncpg.Connection, items: Sequence[WriteItem], processed_at: datetime
    ) -> dict[UUID, Recorded]:
        """Commit the events that are new; return their outcomes by event id."""
        try:
            return await self._writer.add(connection, items, processed_at)
        except asyncpg.PostgresError as error:
            if refusal_of(error) is None:
                raise
        # An unknown schema is no fault of an event.
        await check_revision(connection)
        return await Bisection(connection, self._writer, processed_at, self.causes.remembered).write(items)

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


def _event_id(item: WriteItem) -> bytes:
    return item.processed.event.event_id.bytes
