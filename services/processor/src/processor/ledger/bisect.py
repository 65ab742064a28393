"""Finds the events of a batch that PostgreSQL refuses, by halving the batch."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg

from processor.ledger.copy import RowWriter
from processor.ledger.rows import WriteItem, failed
from processor.ledger.sqlstates import LEDGER, LEDGER_FAILED, PermanentDataError, RuleError, classified
from shared.contracts.errors import PermanentError
from shared.contracts.result import Recorded

# When a rule has refused so many events and let none pass, it is not about single events.
_REFUSED_MAX: Final = 8


def refusal_of(error: Exception) -> PermanentDataError | RuleError | None:
    """Return the error as the refusal of an event, or None where it concerns the whole batch."""
    problem = classified(error, writing=LEDGER)
    return problem if isinstance(problem, PermanentDataError | RuleError) else None


class Bisection:
    """Writes a batch that was refused as a whole."""

    def __init__(self, connection: asyncpg.Connection, writer: RowWriter, processed_at: datetime) -> None:
        """Write with `writer` on `connection`, in one transaction."""
        self._connection = connection
        self._writer = writer
        self._processed_at = processed_at
        self._taken = 0
        self._refused: list[RuleError] = []

    async def write(self, items: Sequence[WriteItem]) -> dict[UUID, Recorded]:
        """Commit the events; an event with a value that PostgreSQL refuses is kept as FAILED. Return the new outcomes.

        Raises:
            RuleError: a rule refuses every event, so it may not be about single events. PermanentError: a rule refuses
                some events, and the others are committed. Otherwise the errors of asyncpg.
        """
        async with self._connection.transaction():
            stored = await self._write(items)
        if self._refused and self._taken:
            raise PermanentError(f"not the others: {self._refused[0]}")
        if self._refused:
            raise self._refused[0]
        return stored

    async def _write(self, items: Sequence[WriteItem]) -> dict[UUID, Recorded]:
        try:
            async with self._connection.transaction():
                stored = await self._writer.add(self._connection, items, self._processed_at)
        except asyncpg.PostgresError as error:
            refusal = refusal_of(error)
            if refusal is None:
                raise
        else:
            self._taken += len(items)
            return stored
        if len(items) > 1:
            middle = len(items) // 2
            return await self._write(items[:middle]) | await self._write(items[middle:])
        if isinstance(refusal, RuleError):
            self._refuse(refusal)
            return {}
        stored = await self._keep_failed(items[0], refusal.sqlstate)
        self._taken += 1
        return stored

    def _refuse(self, refusal: RuleError) -> None:
        self._refused.append(refusal)
        if not self._taken and len(self._refused) >= _REFUSED_MAX:
            raise refusal

    async def _keep_failed(self, refused: WriteItem, sqlstate: str) -> dict[UUID, Recorded]:
        event = failed(refused.processed.event, f"PostgreSQL refused it (SQLSTATE {sqlstate})")
        item = WriteItem(refused.id, refused.source_id, event)
        try:
            return await self._writer.add(self._connection, [item], self._processed_at)
        except asyncpg.PostgresError as error:
            raise classified(error, writing=LEDGER_FAILED) from error
