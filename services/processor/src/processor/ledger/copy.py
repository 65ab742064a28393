"""Adds the rows of new events to their tables: by COPY, or by INSERT."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final, TypeAlias
from uuid import UUID

import asyncpg

from processor.ledger.rows import TableRows, WriteItem, insert_parameters, insert_statement
from shared.contracts.result import Recorded, ResultKind
from shared.failpoints import failpoint

RowsOf: TypeAlias = Callable[[Sequence[WriteItem], datetime], list[TableRows]]

# As parameters of a statement bodies are copied once more than as rows that are copied: one message of 16 MiB took the
# processor to 159 instead of 144 MB.
_COPY_BYTES_MIN: Final = 4 * 1024 * 1024


class RowWriter:
    """Adds the rows of events whose id is new. It does not know which tables they go to."""

    def __init__(self, rows_of: RowsOf, *, copy_events_min: int) -> None:
        """`rows_of` makes the rows, those of `raw_events` first. Smaller batches than `copy_events_min` use INSERT."""
        self._rows_of = rows_of
        self._copy_events_min = copy_events_min
        # Whether the last batch held an event id that was stored already.
        self._met_known = False

    async def add(
        self, connection: asyncpg.Connection, items: Sequence[WriteItem], processed_at: datetime
    ) -> dict[UUID, Recorded]:
        """Add the events that are new, all of them or none; return their outcomes by event id.

        Raises the errors of asyncpg.
        """
        new = await self._add(connection, self._rows_of(items, processed_at))
        return {
            processed.event.event_id: Recorded(
                kind=ResultKind.STORED,
                raw_event_id=item.id,
                record_id=item.id,
                status=processed.status,
                processed_at=processed_at,
                errors=processed.errors,
                result=processed.result,
            )
            for item in items
            for processed in (item.processed,)
            if item.id in new
        }

    async def _add(self, connection: asyncpg.Connection, batch: Sequence[TableRows]) -> set[int]:
        """Add the rows; return the ids of the events that are new.

        Replays come in batches, and a COPY that meets a known event id is wasted. So after such a batch INSERT is used
        until all events of a batch are new again.
        """
        rows = batch[0].rows
        copies = len(rows) >= self._copy_events_min or sum(len(row[-1]) for row in rows) >= _COPY_BYTES_MIN
        if copies and not self._met_known and await _copy(connection, batch):
            return {row[0] for row in rows}
        statement = insert_statement(tuple(table for table, _ in batch))
        added = {row[0] for row in await connection.fetch(statement, *insert_parameters(batch))}
        self._met_known = len(added) < len(rows)
        return added


async def _copy(connection: asyncpg.Connection, batch: Sequence[TableRows]) -> bool:
    """Add all rows; where one of the event ids is stored already, add nothing and return False."""
    try:
        async with connection.transaction():
            for position, (table, rows) in enumerate(batch):
                if position:
                    failpoint("processor.half_copied")
                await connection.copy_records_to_table(table.name, records=rows, columns=table.names)
    except asyncpg.UniqueViolationError:
        return False
    return True
