"""Adds the rows of new events to their tables: by COPY, or by INSERT. Typed rows follow in the same transaction."""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Final, TypeAlias
from uuid import UUID

import asyncpg

from processor.ledger.rows import TableRows, WriteItem, insert_parameters, insert_statement
from processor.ledger.typed_writer import TypedWriter, with_typed_rows
from shared.contracts.result import Recorded, ResultKind
from shared.failpoints import failpoint

RowsOf: TypeAlias = Callable[[Sequence[WriteItem], datetime], list[TableRows]]

# As parameters of a statement bodies are copied once more than as rows that are copied: one message of 16 MiB took the
# processor to 159 instead of 144 MB.
_COPY_BYTES_MIN: Final = 4 * 1024 * 1024


class _KnownError(Exception):
    """COPY met an event id that is stored already."""


class RowWriter:
    """Adds the rows of events whose id is new. It does not know which tables they go to."""

    def __init__(self, rows_of: RowsOf, *, copy_events_min: int, typed: TypedWriter) -> None:
        """`rows_of` makes the rows, those of `raw_events` first. Smaller batches than `copy_events_min` use INSERT.

        `typed` writes the typed rows.
        """
        self._rows_of = rows_of
        self._copy_events_min = copy_events_min
        self._typed = typed
        # Whether the last batch held an event id that was stored already.
        self._met_known = False

    async def add(
        self, connection: asyncpg.Connection, items: Sequence[WriteItem], processed_at: datetime
    ) -> dict[UUID, Recorded]:
        """Add the events that are new, with their typed rows, all of them or none; return their outcomes by event id.

        Raises:
            TypedRowsError: rows of a typed table cannot be written. Otherwise the errors of asyncpg.
        """
        if any(item.processed.rows for item in items):
            new = await self._add_with_typed_rows(connection, items, processed_at)
        else:
            new = await self.add_events(connection, items, processed_at)
        return stored_outcomes(items, new, processed_at)

    async def add_events(
        self, connection: asyncpg.Connection, items: Sequence[WriteItem], processed_at: datetime
    ) -> set[int]:
        """Add the rows of the ledger; return the ids of the events that are new. Raises the errors of asyncpg."""
        batch = self._rows_of(items, processed_at)
        if self._copies(batch):
            try:
                async with connection.transaction():
                    return await _copy(connection, batch)
            except _KnownError:
                pass
        statement = insert_statement(tuple(table for table, _ in batch))
        added = {row[0] for row in await connection.fetch(statement, *insert_parameters(batch))}
        self._met_known = len(added) < len(items)
        return added

    async def add_typed_rows(self, connection: asyncpg.Connection, items: Sequence[WriteItem], new: set[int]) -> None:
        """Add the typed rows of those events of `items` whose ids are in `new`, in their transaction."""
        if new and any(item.processed.rows for item in items):
            await self._write_typed_rows(connection, items, new, await self._typed.limit_waits(connection))

    async def _add_with_typed_rows(
        self, connection: asyncpg.Connection, items: Sequence[WriteItem], processed_at: datetime
    ) -> set[int]:
        """Add the rows of the ledger, then, before the commit, those of typed tables."""
        batch = self._rows_of(items, processed_at)
        if self._copies(batch):
            try:
                async with with_typed_rows(connection):
                    new = await _copy(connection, batch)
                    await self._write_typed_rows(connection, items, new, await self._typed.limit_waits(connection))
                    return new
            except _KnownError:
                pass
        statement = insert_statement(tuple(table for table, _ in batch), before_typed_rows=True)
        async with with_typed_rows(connection):
            # One round trip for both.
            found = await connection.fetchrow(statement, *insert_parameters(batch), self._typed.lock_timeout)
            new = set(found["ids"] or ())
            self._met_known = len(new) < len(items)
            await self._write_typed_rows(connection, items, new, found["began_at"])
        return new

    async def _write_typed_rows(
        self, connection: asyncpg.Connection, items: Sequence[WriteItem], new: set[int], began_at: datetime
    ) -> None:
        failpoint("processor.rows_next")
        of_new = items if len(new) == len(items) else [item for item in items if item.id in new]
        await self._typed.write(connection, of_new, began_at)

    def _copies(self, batch: Sequence[TableRows]) -> bool:
        """Tell whether to use COPY.

        Replays come in batches, and a COPY that meets a known event id is wasted. So after such a batch INSERT is used
        until all events of a batch are new again.
        """
        rows = batch[0].rows
        copies = len(rows) >= self._copy_events_min or sum(len(row[-1]) for row in rows) >= _COPY_BYTES_MIN
        return copies and not self._met_known


def stored_outcomes(items: Iterable[WriteItem], new: set[int], processed_at: datetime) -> dict[UUID, Recorded]:
    """Return the outcomes of the events whose ids are in `new`, by event id."""
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


async def _copy(connection: asyncpg.Connection, batch: Sequence[TableRows]) -> set[int]:
    """Add all rows, in a transaction; return the ids of the events.

    Raises:
        _KnownError: one of the event ids is stored already, so nothing may be committed.
    """
    try:
        for position, (table, rows) in enumerate(batch):
            if position:
                failpoint("processor.half_copied")
            await connection.copy_records_to_table(table.name, records=rows, columns=table.names)
    except asyncpg.UniqueViolationError as error:
        raise _KnownError from error
    return {row[0] for row in batch[0].rows}
