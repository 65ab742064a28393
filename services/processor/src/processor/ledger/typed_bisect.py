"""Finds the events whose typed rows PostgreSQL refuses, by halving the batch. Nothing of it is committed."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg

from processor.ledger.rows import Processed, WriteItem
from processor.ledger.sqlstates import TYPED, Fault, fault_of, sqlstate_of
from processor.ledger.typed_writer import TypedRowsError, TypedWriter, rule_of
from processor.programs.active import ActivePipeline
from shared.contracts.errors import Problem
from shared.contracts.result import RecordStatus
from shared.pipelines.typed_tables import TypedTable

# A rule that refuses so many events of a batch, and so large a share of its pipeline's, is not about single events.
_REFUSED_MIN: Final = 20
_SHARE_MAX: Final = 0.1


class TypedBisection:
    """Tries the typed rows of a batch that were refused as a whole."""

    def __init__(self, connection: asyncpg.Connection, writer: TypedWriter) -> None:
        """Try on `connection`, outside of a transaction."""
        self._connection = connection
        self._writer = writer
        self._refused: dict[UUID, Processed] = {}
        self._refused_of: Counter[int] = Counter()
        self._events_of: Counter[int] = Counter()

    async def find(self, items: Sequence[WriteItem]) -> dict[UUID, Processed]:
        """Return, by event id, the FAILED records of the events that are refused; the events are not stored yet.

        Raises:
            TypedRowsError: a table cannot be written, or a rule refuses too many of its pipeline's events.
                Otherwise the errors of asyncpg.
        """
        typed = [item for item in items if item.processed.rows]
        self._events_of.update(_pipeline(item).id for item in typed)
        transaction = self._connection.transaction()
        await transaction.start()
        try:
            if typed:
                await self._try(typed, await self._writer.limit_waits(self._connection))
        finally:
            await transaction.rollback()
        return self._refused

    async def _try(self, items: Sequence[WriteItem], began_at: datetime) -> None:
        try:
            async with self._connection.transaction():
                await self._write(items, began_at)
        except TypedRowsError as error:
            refusal = error
        else:
            return
        if refusal.pipeline is not None and refusal.fault is Fault.TABLE:
            raise refusal
        if len(items) > 1:
            middle = len(items) // 2
            await self._try(items[:middle], began_at)
            await self._try(items[middle:], began_at)
            return
        self._refuse(items[0], refusal)

    async def _write(self, items: Sequence[WriteItem], began_at: datetime) -> None:
        await self._writer.write(self._connection, items, began_at)
        try:
            # Those that are deferred, too.
            await self._connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
        except asyncpg.PostgresError as error:
            sqlstate = sqlstate_of(error)
            fault = fault_of(sqlstate, writing=TYPED)
            if fault not in {Fault.EVENT, Fault.TABLE}:
                raise
            raise TypedRowsError(sqlstate, fault, rule=rule_of(error)) from None

    def _refuse(self, item: WriteItem, refusal: TypedRowsError) -> None:
        pipeline = _pipeline(item)
        table = refusal.table or pipeline.tables[item.processed.rows[0].table]
        if refusal.fault is Fault.TABLE or self._refuses_too_many(pipeline):
            raise TypedRowsError(refusal.sqlstate, Fault.TABLE, pipeline=pipeline, table=table, rule=refusal.rule)
        self._refused[item.processed.event.event_id] = refused(item.processed, pipeline, table, refusal)

    def _refuses_too_many(self, pipeline: ActivePipeline) -> bool:
        self._refused_of[pipeline.id] += 1
        number = self._refused_of[pipeline.id]
        return number >= _REFUSED_MIN and number > _SHARE_MAX * self._events_of[pipeline.id]


def refused(processed: Processed, pipeline: ActivePipeline, table: TypedTable, refusal: TypedRowsError) -> Processed:
    """Return the event with the record of one of whose rows a table refuses one."""
    rule = f".{refusal.rule}" if refusal.rule else ""
    detail = f"table {table.table.name} refused its row (SQLSTATE {refusal.sqlstate}{rule and ', '}{refusal.rule})"
    return Processed(
        processed.event,
        RecordStatus.FAILED,
        errors=(Problem("", detail),),
        acknowledged=processed.acknowledged,
        pipeline=pipeline,
        cause=f"{pipeline.name}.{table.table.name}:{refusal.sqlstate}{rule}",
        subject=processed.subject,
    )


def _pipeline(item: WriteItem) -> ActivePipeline:
    """Return the pipeline that made the rows of an event."""
    pipeline = item.processed.pipeline
    if pipeline is None:
        raise TypeError("rows without a pipeline")
    return pipeline
