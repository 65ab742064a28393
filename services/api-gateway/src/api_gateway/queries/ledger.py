"""The ledger as the gateway reads it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import asyncpg
import msgspec
import structlog

from api_gateway.http.problems import AUDIT_TOO_LARGE, HttpProblem
from api_gateway.queries.paging import AuditPosition, Position, audit_cursor, record_cursor, source_cursor
from api_gateway.queries.statements import (
    AUDIT,
    AUDIT_AS_OF,
    AUDIT_OVERFLOWED,
    AUDIT_SERIES,
    RECORD,
    RECORD_OF_EVENT,
    SOURCES,
    AuditPart,
    RecordFilter,
    page_query,
    scope_parameters,
)
from api_gateway.queries.turns import CURRENT
from api_gateway.schemas import AuditLine, AuditPage, AuditSeries, RecordPage, SourcePage
from shared.auth.scopes import Scope
from shared.contracts.errors import OverloadedError, UnavailableError
from shared.contracts.event import Channel
from shared.contracts.outcome import Problem, RecordStatus
from shared.contracts.receipt import OTHER_SOURCES
from shared.contracts.record import Record, Source
from shared.postgres import LEDGER_EPOCH, POSTGRES_ERRORS, Pool
from shared.settings import PostgresPoolSettings

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_EPOCH: Final = f"SELECT {LEDGER_EPOCH} AS epoch"
# More than any record has: PostgreSQL's own limit of a value is less.
_RECORD_BYTES_MAX: Final = 2**30
_NULL: Final = msgspec.Raw(b"null")
_HOUR: Final = timedelta(hours=1)
_AUDITS_WAIT_SECONDS: Final = 0.2
# For a connection, and for the server to end a statement.
_AUDIT_MORE_SECONDS: Final = 0.4
_SERIES_MAX: Final = 1_000
_STATEMENT_TIMEOUT: Final = "SELECT set_config('statement_timeout', $1, true)"

_read_problems = msgspec.json.Decoder(tuple[Problem, ...]).decode


async def open_reader(settings: PostgresPoolSettings) -> Pool:
    """Return a pool that only reads."""
    return await Pool.open(settings, name="api-gateway", server_settings={"default_transaction_read_only": "on"})


class Ledger:
    """Answers what is stored. Every method raises UnavailableError where PostgreSQL cannot answer now."""

    def __init__(self, pool: Pool, *, page_bytes_max: int, seconds_max: float, audit_seconds_max: float) -> None:
        """`pool` connects as etlpay_reader.

        A page ends early when its payloads grow beyond `page_bytes_max`. A question takes `seconds_max` at most, with
        all that it may wait for: a place in the pool, a connection, the answer. One audit runs at a time, and its
        statements for `audit_seconds_max` at most: it reads much, and leaves the pool to the other questions.
        """
        self._pool = pool
        self._page_bytes_max = page_bytes_max
        self._seconds_max = seconds_max
        self._audit_seconds_max = audit_seconds_max
        self._auditing = asyncio.Semaphore(1)

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

    async def audit(self, part: AuditPart, *, limit: int) -> AuditPage:
        """Return up to `limit` lines of a part of an hour, by source and channel.

        What could not be read, and the sources beyond what a process keeps apart, belong to nobody but who may audit
        every source.

        Raises:
            OverloadedError: another audit is running.
            HttpProblem: there are too many events for one answer (AUDIT_TOO_LARGE).
        """
        position = (part.after.source, part.after.channel.value) if part.after else (None, None)
        which = (part.source, *position, limit + 1, *scope_parameters(part.scope))
        async with self._audit_connection() as connection:
            as_of = await connection.fetchval(AUDIT_AS_OF)
            series = await connection.fetch(AUDIT_SERIES, part.hour, part.hour + _HOUR, _SERIES_MAX)
            overflowed = await connection.fetch(AUDIT_OVERFLOWED, part.hour, OTHER_SOURCES)
            rows = await connection.fetch(AUDIT, part.hour, part.since, part.until, *which)
        last = rows[limit - 1] if len(rows) > limit else None
        return AuditPage(
            hour=part.hour,
            as_of=as_of,
            items=[_audit_line(row) for row in rows[:limit]],
            next=audit_cursor(AuditPosition(last["source"], Channel(last["channel"]))) if last else None,
            series=[_audit_series(row) for row in series],
            overflowed=[Channel(row["channel"]).label for row in overflowed],
        )

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
        async with self._answering(self._seconds_max) as connection:
            rows: list[asyncpg.Record] = await connection.fetch(query, *parameters)
            return rows

    @asynccontextmanager
    async def _answering(self, seconds_max: float) -> AsyncIterator[asyncpg.Connection]:
        try:
            async with asyncio.timeout(seconds_max), self._pool.taken() as connection:
                yield connection
        except POSTGRES_ERRORS as error:
            sqlstate = getattr(error, "sqlstate", None)
            log.debug("the ledger did not answer", error=type(error).__name__, sqlstate=sqlstate)
            raise UnavailableError("PostgreSQL cannot answer now") from error

    @asynccontextmanager
    async def _audit_connection(self) -> AsyncIterator[asyncpg.Connection]:
        """Give a connection whose statements end in time, to one audit at a time."""
        seconds_max = self._audit_seconds_max
        try:
            async with asyncio.timeout(_AUDITS_WAIT_SECONDS):
                await self._auditing.acquire()
        except TimeoutError as error:
            raise OverloadedError("another audit is running") from error
        try:
            # The server ends the statement, and with it what it costs, before we stop waiting for it.
            async with self._answering(seconds_max + _AUDIT_MORE_SECONDS) as connection, connection.transaction():
                await connection.execute(_STATEMENT_TIMEOUT, str(int(seconds_max * 1000)))
                try:
                    yield connection
                except asyncpg.QueryCanceledError as error:
                    raise HttpProblem(AUDIT_TOO_LARGE, AUDIT_TOO_LARGE.meaning) from error
        finally:
            self._auditing.release()


def _audit_line(row: asyncpg.Record) -> AuditLine:
    answered = (row["stored"], row["duplicate"], row["conflict"], row["refused"], row["queued"], row["unknown"])
    numbers: dict[str, Any] = dict(row) | {"channel": Channel(row["channel"]).label, "received": sum(answered)}
    return AuditLine(**numbers)


def _audit_series(row: asyncpg.Record) -> AuditSeries:
    numbers: dict[str, Any] = dict(row) | {"channel": Channel(row["channel"]).label}
    return AuditSeries(**numbers)


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
