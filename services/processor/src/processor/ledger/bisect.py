"""Finds the events of a batch that PostgreSQL refuses, by halving the batch."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg
from msgspec.structs import replace

from processor.ledger.copy import RowWriter, stored_outcomes
from processor.ledger.rows import Processed, WriteItem, failed
from processor.ledger.sqlstates import LEDGER, LEDGER_FAILED, PermanentDataError, RuleError, classified
from processor.ledger.typed_writer import with_typed_rows
from shared.contracts.errors import PermanentError
from shared.contracts.result import Recorded

# When a rule has refused so many events and let none pass, it is not about single events.
_REFUSED_MAX: Final = 8


def refusal_of(error: Exception) -> PermanentDataError | RuleError | None:
    """Return the error as the refusal of an event, or None where it concerns the whole batch."""
    problem = classified(error, writing=LEDGER)
    return problem if isinstance(problem, PermanentDataError | RuleError) else None


def kept_as_failed(processed: Processed, sqlstate: str) -> Processed:
    """Return the event with the record of one whose rows the ledger itself refuses."""
    pipeline = "-" if processed.pipeline is None else processed.pipeline.name
    detail, cause = f"PostgreSQL refused it (SQLSTATE {sqlstate})", f"{pipeline}:refused.{sqlstate}"
    plain = failed(processed.event, detail, acknowledged=processed.acknowledged, cause=cause)
    return replace(plain, pipeline=processed.pipeline, subject=processed.subject)


class Bisection:
    """Writes a batch that was refused as a whole."""

    def __init__(
        self,
        connection: asyncpg.Connection,
        writer: RowWriter,
        processed_at: datetime,
        cause_id: Callable[[str], int],
    ) -> None:
        """Write with `writer` on `connection`, in one transaction. `cause_id` raises UnknownNameError."""
        self._connection = connection
        self._writer = writer
        self._processed_at = processed_at
        self._cause_id = cause_id
        self._taken = 0
        self._refused: list[RuleError] = []

    async def write(self, items: Sequence[WriteItem]) -> dict[UUID, Recorded]:
        """Commit the events; an event with a value that PostgreSQL refuses is kept as FAILED. Return the new outcomes.

        Raises:
            RuleError: a rule refuses every event, so it may not be about single events. PermanentError: a rule refuses
                some events, and the others are committed. UnknownNameError: a cause is not remembered.
                TypedRowsError: rows of a typed table cannot be written. Otherwise the errors of asyncpg.
        """
        typed = any(item.processed.rows for item in items)
        async with with_typed_rows(self._connection) if typed else self._connection.transaction():
            written = await self._write(items)
            new = {item.id for item in written}
            # Only now: nobody waits for an event's id who holds a lock on a typed row.
            await self._writer.add_typed_rows(self._connection, written, new)
        if self._refused and self._taken:
            raise PermanentError(f"not the others: {self._refused[0]}")
        if self._refused:
            raise self._refused[0]
        return stored_outcomes(written, new, self._processed_at)

    async def _write(self, items: Sequence[WriteItem]) -> list[WriteItem]:
        """Add the rows of the ledger; return the events that are new, as they were written."""
        try:
            async with self._connection.transaction():
                new = await self._writer.add_events(self._connection, items, self._processed_at)
        except asyncpg.PostgresError as error:
            refusal = refusal_of(error)
            if refusal is None:
                raise
        else:
            self._taken += len(items)
            return [item for item in items if item.id in new]
        if len(items) > 1:
            middle = len(items) // 2
            return await self._write(items[:middle]) + await self._write(items[middle:])
        if isinstance(refusal, RuleError):
            self._refuse(refusal)
            return []
        written = await self._keep_failed(items[0], refusal.sqlstate)
        self._taken += 1
        return written

    def _refuse(self, refusal: RuleError) -> None:
        self._refused.append(refusal)
        if not self._taken and len(self._refused) >= _REFUSED_MAX:
            raise refusal

    async def _keep_failed(self, refused: WriteItem, sqlstate: str) -> list[WriteItem]:
        processed = kept_as_failed(refused.processed, sqlstate)
        item = WriteItem(refused.id, refused.source_id, processed, self._cause_id(processed.cause))
        try:
            new = await self._writer.add_events(self._connection, [item], self._processed_at)
        except asyncpg.PostgresError as error:
            raise classified(error, writing=LEDGER_FAILED) from error
        return [item] if new else []
