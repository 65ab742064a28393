"""The ledger as the gateway reads it."""

import asyncio
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import asyncpg
import msgspec
import structlog

from api_gateway.paging import AuditPosition, Position, audit_cursor, record_cursor, source_cursor
from api_gateway.statements import (
    AUDIT,
    RECORD,
    RECORD_OF_EVENT,
    SOURCES,
    RecordFilter,
    page_query,
    scope_parameters,
)
from api_gateway.turns import CURRENT
from api_gateway.views import AuditLine, AuditPage, RecordPage, SourcePage
from shared.auth.scopes import Scope
from shared.contracts.errors import UnavailableError
from shared.contracts.event import Channel, now
from shared.contracts.outcome import Problem, RecordStatus
from shared.contracts.record import Record, Source
from shared.postgres import LEDGER_EPOCH, POSTGRES_ERRORS, Pool
from shared.settings import PostgresSettings

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_EPOCH: Final = f"SELECT {LEDGER_EPOCH} AS epoch"
# More than any record has: PostgreSQL's own limit of a value is less.
_RECORD_BYTES_MAX: Final = 2**30
_NULL: Final = msgspec.Raw(b"null")

_read_problems = msgspec.json.Decoder(tuple[Problem, ...]).decode


async def open_reader(settings: PostgresSettings) -> Pool:
    """Return a pool that only reads."""
    return await Pool.open(settings, name="api-gateway", server_settings={"default_transaction_read_only": "on"})


class Ledger:
    """Answers what is stored. Every method raises UnavailableError where PostgreSQL cannot answer now."""

    def __init__(self, pool: Pool, *, page_bytes_max: int, seconds_max: float) -> None:
        """`pool` connects as etlpay_reader.

        A page ends early when its payloads grow beyond `page_bytes_max`. A question takes `seconds_max` at most, with
        all that it may wait for: a place in the pool, a connection, the answer.
        """
        self._pool = pool
        self._page_bytes_max = page_bytes_max
        self._seconds_max = seconds_max

    async def record(self, record_id: int) -> Record | None:
        """Return a record by its id."""
        return await self._one(RECORD, record_id)

    async def record_of_event(self, event_id: UUID) -> Record | None:
        """Return the latest record of an event."""
        return await self._one(RECORD_OF_EVENT, event_id)

    async def records(self, which: RecordFilter, *, after: Position | None, limit: int) -> RecordPage:
        """Return up to `limit` records, newest first, that come after a position."""
        query, parameters = page_query(which, after=after, limit=limit, bytes_max=self._page_bytes_max)
        rows = await self._rows(query, *parameters)
        if rows and self._is_large(rows[0]):
            # It is a page of its own.
            await CURRENT.get().grow()
            query, parameters = page_query(which, after=after, limit=1, bytes_max=_RECORD_BYTES_MAX)
            rows = (await self._rows(query, *parameters))[:1]
        items = [_record(row) for row in rows[:limit] if row is rows[0] or not self._is_large(row)]
        more = bool(rows) and rows[0]["found"] > len(items)
        cursor = record_cursor(Position(items[-1].processed_at, items[-1].id)) if more else None
        return RecordPage(items, cursor)

    async def sources(self, scope: Scope, *, after: int, limit: int) -> SourcePage:
        """Return up to `limit` sources of a scope, oldest first, that come after an id."""
        rows = await self._rows(SOURCES, after, limit + 1, *scope_parameters(scope))
        items = [Source(**row) for row in rows[:limit]]
        return SourcePage(items, source_cursor(items[-1].id) if len(rows) > limit else None)

    async def audit(
        self, hour: datetime, scope: Scope, *, source: str | None, after: AuditPosition | None, limit: int
    ) -> AuditPage:
        """Return up to `limit` lines of the hour that begins at `hour`, by source and channel, after a position.

        They are those of one source, or else of a scope. What could not be read, and the sources beyond what a door
        keeps apart, belong to nobody but who may audit every source.
        """
        position = (after.source, after.channel.value) if after else (None, None)
        until = hour + timedelta(hours=1)
        rows = await self._rows(AUDIT, hour, until, source, *position, limit + 1, *scope_parameters(scope))
        items = [_audit_line(row) for row in rows[:limit]]
        last = rows[limit - 1] if len(rows) > limit else None
        cursor = audit_cursor(AuditPosition(last["source"], Channel(last["channel"]))) if last else None
        return AuditPage(hour=hour, as_of=now(), items=items, next=cursor)

    async def epoch(self) -> str | None:
        """Return which ledger answers, as `shared.postgres.LEDGER_EPOCH` tells them apart; None: none does."""
        try:
            [row] = await self._rows(_EPOCH)
        except UnavailableError:
            return None
        return str(row["epoch"])

    async def close(self) -> None:
        """Give the connections back."""
        await self._pool.close()

    async def _one(self, query: str, key: int | UUID) -> Record | None:
        rows = await self._rows(query, key, self._page_bytes_max)
        if rows and self._is_large(rows[0]):
            await CURRENT.get().grow()
            rows = await self._rows(query, key, _RECORD_BYTES_MAX)
        return _record(rows[0]) if rows else None

    def _is_large(self, row: asyncpg.Record) -> bool:
        """Tell whether a record is larger than a page may be; it came without its payload then."""
        size: int = row["size"]
        return size > self._page_bytes_max

    async def _rows(self, query: str, *parameters: object) -> list[asyncpg.Record]:
        try:
            async with asyncio.timeout(self._seconds_max), self._pool.taken() as connection:
                rows: list[asyncpg.Record] = await connection.fetch(query, *parameters)
                return rows
        except POSTGRES_ERRORS as error:
            sqlstate = getattr(error, "sqlstate", None)
            log.debug("the ledger did not answer", error=type(error).__name__, sqlstate=sqlstate)
            raise UnavailableError("PostgreSQL cannot answer now") from error


def _audit_line(row: asyncpg.Record) -> AuditLine:
    answered = (row["stored"], row["duplicate"], row["conflict"], row["refused"], row["queued"], row["unknown"])
    numbers: dict[str, Any] = dict(row) | {"channel": Channel(row["channel"]).label, "received": sum(answered)}
    return AuditLine(**numbers)


def _record(row: asyncpg.Record) -> Record:
    return Record(
        id=row["id"],
        raw_event_id=row["raw_event_id"],
        event_id=row["event_id"],
        source=row["source"],
        channel=Channel(row["channel"]).label,
        status="SUCCESS" if row["status"] == RecordStatus.SUCCESS else "FAILED",
        attempt=row["attempt"],
        result_payload=_result(row),
        errors=_read_problems(row["errors"]) if row["errors"] else (),
        idempotency_key=row["idempotency_key"],
        type=row["type"],
        occurred_at=row["occurred_at"],
        received_at=row["received_at"],
        processed_at=row["processed_at"],
    )


def _result(row: asyncpg.Record) -> msgspec.Raw:
    if row["result"] is not None:
        return msgspec.Raw(row["result"].encode())
    return _NULL if row["body"] is None else msgspec.Raw(row["body"])
