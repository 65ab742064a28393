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
from processor.ledger.ids import IdAllocator, SourceIds
from processor.ledger.rows import (
    Processed,
    WriteItem,
    add_conflicts_parameters,
    add_settlements_parameters,
    ledger_rows,
)
from processor.ledger.sqlstates import Fault, OutdatedError
from processor.ledger.statements import ADD_CONFLICTS, ADD_SETTLEMENTS
from shared.contracts.errors import UnavailableError
from shared.contracts.event import Envelope
from shared.contracts.result import Recorded, ResultKind
from shared.failpoints import failpoint

_MIB: Final = 1024 * 1024
_REPAIRS_MAX: Final = 8


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
        rows_of: RowsOf = ledger_rows,
    ) -> None:
        """`connections` are those of etlpay_processor, the limits those of the settings.

        `rows_of` makes the rows that events are stored as, of any tables: all rows of an event are stored, or none.
        """
        self._connections = connections
        self._former = FormerKeys(connections)
        self._ids = IdAllocator(connections)
        self._sources = SourceIds(connections, names_max=source_names_max)
        self._writer = RowWriter(rows_of, copy_events_min=copy_events_min)
        self._duplicates = Duplicates(compared_bytes_max=compared_bytes_max, answered_bytes_max=answered_bytes_max)

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
            if self._former.possible:
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
        """Commit the events that are new; return their outcomes by event id."""
        try:
            return await self._writer.add(connection, items, processed_at)
        except asyncpg.PostgresError as error:
            if refusal_of(error) is None:
                raise
        # An unknown schema is no fault of an event.
        await check_revision(connection)
        return await Bisection(connection, self._writer, processed_at).write(items)

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
