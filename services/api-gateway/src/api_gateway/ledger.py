"""The ledger as the gateway reads it: SELECT only, each query on the index that `shared.models` names for it."""

import asyncio
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple
from uuid import UUID

import asyncpg
import msgspec
import structlog
from sqlalchemy import (
    ColumnElement,
    Executable,
    Select,
    Text,
    and_,
    case,
    cast,
    func,
    literal_column,
    select,
    text,
    tuple_,
)
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from api_gateway.paging import AuditPosition, Position, audit_cursor, record_cursor, source_cursor
from api_gateway.views import AuditLine, AuditPage, RecordPage, SourcePage
from shared.contracts.errors import UnavailableError
from shared.contracts.event import Channel, now
from shared.contracts.outcome import Problem, RecordStatus
from shared.contracts.record import Record, Source
from shared.engine import create_engine
from shared.models import ingestion_sources as sources
from shared.models import processed_records as records
from shared.models import raw_events as events
from shared.settings import PostgresSettings

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

# SQLAlchemy wraps what a statement raises; what connecting raises comes as the driver made it.
_ERRORS: Final = (
    SQLAlchemyError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
)
_NULL: Final = msgspec.Raw(b"null")

# Three books of one hour, side by side. Every line of a book that has none of the others counts with zeros.
_AUDIT: Final = text(
    """
    SELECT source, channel, CAST(sum(stored) AS bigint) AS stored, CAST(sum(duplicate) AS bigint) AS duplicate,
           CAST(sum(conflict) AS bigint) AS conflict, CAST(sum(refused) AS bigint) AS refused,
           CAST(sum(queued) AS bigint) AS queued, CAST(sum(unknown) AS bigint) AS unknown,
           CAST(sum(events) AS bigint) AS events, CAST(sum(success) AS bigint) AS success,
           CAST(sum(failed) AS bigint) AS failed, CAST(sum(settled_duplicate) AS bigint) AS settled_duplicate,
           CAST(sum(settled_conflict) AS bigint) AS settled_conflict, max(moved_at) AS moved_at
    FROM (
        SELECT source, channel, stored, duplicate, conflict, refused, queued, unknown, 0 AS events, 0 AS success,
               0 AS failed, 0 AS settled_duplicate, 0 AS settled_conflict, reported_at AS moved_at
        FROM receipts WHERE hour = :hour
        UNION ALL
        SELECT source.name, raw.channel, 0, 0, 0, 0, 0, 0, count(*), count(*) FILTER (WHERE record.status = 1),
               count(*) FILTER (WHERE record.status = 2), 0, 0, max(raw.stored_at)
        FROM raw_events AS raw
        JOIN ingestion_sources AS source ON source.id = raw.source_id
        LEFT JOIN processed_records AS record ON record.raw_event_id = raw.id AND record.attempt = 1
        WHERE raw.received_at >= :hour AND raw.received_at < :until
        GROUP BY source.name, raw.channel
        UNION ALL
        SELECT source.name, settled.channel, 0, 0, 0, 0, 0, 0, 0, 0, 0, count(*) FILTER (WHERE disposition = 2),
               count(*) FILTER (WHERE disposition = 3), max(settled.received_at)
        FROM settlements AS settled JOIN ingestion_sources AS source ON source.id = settled.source_id
        WHERE settled.received_at >= :hour AND settled.received_at < :until
        GROUP BY source.name, settled.channel
    ) AS books
    WHERE (CAST(:source AS text) IS NULL OR source = :source)
      AND (CAST(:after_source AS text) IS NULL
           OR (source COLLATE "C", channel) > (CAST(:after_source AS text), CAST(:after_channel AS smallint)))
    GROUP BY source, channel
    ORDER BY source COLLATE "C", channel
    LIMIT :limit
    """
)

_read_problems = msgspec.json.Decoder(tuple[Problem, ...]).decode


class RecordFilter(NamedTuple):
    """Which records; None: whichever. Times are those of processing, `since` included and `until` not."""

    source: str | None = None
    status: RecordStatus | None = None
    channel: Channel | None = None
    since: datetime | None = None
    until: datetime | None = None


def create_reader(settings: PostgresSettings) -> AsyncEngine:
    """Return an engine that only reads."""
    return create_engine(
        settings,
        name="api-gateway",
        server_settings={"default_transaction_read_only": "on"},
        isolation_level="AUTOCOMMIT",
        # After PostgreSQL was away the first question would find the end of an old connection, and answer 503.
        pool_pre_ping=True,
    )


class Ledger:
    """Answers what is stored. Every method raises UnavailableError where PostgreSQL cannot answer now."""

    def __init__(self, engine: AsyncEngine, *, page_bytes_max: int, seconds_max: float) -> None:
        """`engine` connects as etlpay_reader.

        A page ends early when its payloads grow beyond `page_bytes_max`. A question takes `seconds_max` at most, with
        all that it may wait for: a place in the pool, a connection, the answer.
        """
        self._engine = engine
        self._page_bytes_max = page_bytes_max
        self._seconds_max = seconds_max

    async def record(self, record_id: int) -> Record | None:
        """Return a record by its id."""
        rows = await self._rows(_entries().where(records.c.id == record_id))
        return _record(rows[0]) if rows else None

    async def record_of_event(self, event_id: UUID) -> Record | None:
        """Return the latest record of an event."""
        newest = _entries().where(events.c.event_id == event_id).order_by(records.c.attempt.desc()).limit(1)
        rows = await self._rows(newest)
        return _record(rows[0]) if rows else None

    async def records(self, which: RecordFilter, *, after: Position | None, limit: int) -> RecordPage:
        """Return up to `limit` records, newest first, that come after a position."""
        rows = await self._rows(page_query(which, after=after, limit=limit, bytes_max=self._page_bytes_max))
        items = [_record(row) for row in rows[:limit]]
        more = bool(rows) and rows[0].found > len(items)
        cursor = record_cursor(Position(items[-1].processed_at, items[-1].id)) if more else None
        return RecordPage(items, cursor)

    async def sources(self, *, after: int, limit: int) -> SourcePage:
        """Return up to `limit` sources, oldest first, that come after an id."""
        columns = select(sources.c.id, sources.c.name, sources.c.created_at)
        rows = await self._rows(columns.where(sources.c.id > after).order_by(sources.c.id).limit(limit + 1))
        items = [Source(id=row.id, name=row.name, created_at=row.created_at) for row in rows[:limit]]
        return SourcePage(items, source_cursor(items[-1].id) if len(rows) > limit else None)

    async def audit(self, hour: datetime, *, source: str | None, after: AuditPosition | None, limit: int) -> AuditPage:
        """Return up to `limit` lines of the hour that begins at `hour`, by source and channel, after a position."""
        query = _AUDIT.bindparams(
            hour=hour,
            until=hour + timedelta(hours=1),
            source=source,
            after_source=after and after.source,
            after_channel=after and after.channel.value,
            limit=limit + 1,
        )
        rows = await self._rows(query)
        items = [_audit_line(row) for row in rows[:limit]]
        last = rows[limit - 1] if len(rows) > limit else None
        cursor = audit_cursor(AuditPosition(last.source, Channel(last.channel))) if last else None
        return AuditPage(hour=hour, as_of=now(), items=items, next=cursor)

    async def present(self) -> bool:
        """Return whether PostgreSQL answers."""
        try:
            await self._rows(select(literal_column("1")))
        except UnavailableError:
            return False
        return True

    async def close(self) -> None:
        """Give the connections back."""
        await self._engine.dispose()

    async def _rows(self, query: Executable) -> list[Any]:
        try:
            async with asyncio.timeout(self._seconds_max), self._engine.connect() as connection:
                return list(await connection.execute(query))
        except _ERRORS as error:
            sqlstate = getattr(getattr(error, "orig", error), "sqlstate", None)
            log.debug("the ledger did not answer", error=type(error).__name__, sqlstate=sqlstate)
            raise UnavailableError("PostgreSQL cannot answer now") from error


def page_query(which: RecordFilter, *, after: Position | None, limit: int, bytes_max: int) -> Select[Any]:
    """Return the query of one page: `limit` rows and perhaps one more, each with the number `found` before cutting.

    The page is cut out of `processed_records` alone, along one of its indexes, before anything is joined to it.
    """
    newest_first = (records.c.processed_at.desc(), records.c.id.desc())
    page = select(records).where(*_conditions(which, after)).order_by(*newest_first).limit(limit + 1)
    entries = _entries(page.subquery("page")).subquery("entries")
    size = func.coalesce(func.octet_length(entries.c.body), 0) + func.coalesce(func.octet_length(entries.c.result), 0)
    order = (entries.c.processed_at.desc(), entries.c.id.desc())
    sized = select(
        entries,
        (func.sum(size).over(order_by=order) - size).label("bytes_before"),
        func.count().over().label("found"),
    ).subquery("sized")
    in_order = (sized.c.processed_at.desc(), sized.c.id.desc())
    return select(sized).where(sized.c.bytes_before < bytes_max).order_by(*in_order)


def _conditions(which: RecordFilter, after: Position | None) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if which.source is not None:
        source_id = select(sources.c.id).where(sources.c.name == which.source).scalar_subquery()
        conditions.append(records.c.source_id == source_id)
    if which.status is not None:
        # As a literal: the planner takes the partial index of FAILED records only where it sees the number.
        conditions.append(records.c.status == literal_column(str(which.status.value)))
    if which.channel is not None:
        conditions.append(records.c.channel == which.channel.value)
    if which.since is not None:
        conditions.append(records.c.processed_at >= which.since)
    if which.until is not None:
        conditions.append(records.c.processed_at < which.until)
    if after is not None:
        conditions.append(tuple_(records.c.processed_at, records.c.id) < tuple_(after.processed_at, after.id))
    return conditions


def _entries(page: Any = records) -> Select[Any]:  # noqa: ANN401 - the table of records or a part of it
    """Select records with the attributes of their events; the body only where it is the result."""
    unchanged = and_(page.c.status == RecordStatus.SUCCESS.value, page.c.result_payload.is_(None))
    return (
        select(
            page.c.id,
            page.c.raw_event_id,
            page.c.status,
            page.c.attempt,
            page.c.processed_at,
            cast(page.c.result_payload, Text).label("result"),
            cast(page.c.errors, Text).label("errors"),
            case((unchanged, events.c.body)).label("body"),
            events.c.event_id,
            events.c.channel,
            events.c.idempotency_key,
            events.c.type,
            events.c.occurred_at,
            events.c.received_at,
            events.c.content_type,
            sources.c.name.label("source"),
        )
        .join_from(page, events, events.c.id == page.c.raw_event_id)
        .join(sources, sources.c.id == events.c.source_id)
    )


def _audit_line(row: Any) -> AuditLine:  # noqa: ANN401 - a row of _AUDIT
    answered = (row.stored, row.duplicate, row.conflict, row.refused, row.queued, row.unknown)
    numbers = {name: getattr(row, name) for name in AuditLine.__struct_fields__ if name not in {"channel", "received"}}
    return AuditLine(channel=Channel(row.channel).label, received=sum(answered), **numbers)


def _record(row: Any) -> Record:  # noqa: ANN401 - a row of _entries
    return Record(
        id=row.id,
        raw_event_id=row.raw_event_id,
        event_id=row.event_id,
        source=row.source,
        channel=Channel(row.channel).label,
        status="SUCCESS" if row.status == RecordStatus.SUCCESS else "FAILED",
        attempt=row.attempt,
        result_payload=_result(row),
        errors=_read_problems(row.errors) if row.errors else (),
        idempotency_key=row.idempotency_key,
        type=row.type,
        occurred_at=row.occurred_at,
        received_at=row.received_at,
        processed_at=row.processed_at,
    )


def _result(row: Any) -> msgspec.Raw:  # noqa: ANN401 - a row of _entries
    if row.result is not None:
        return msgspec.Raw(row.result.encode())
    return _NULL if row.body is None else msgspec.Raw(row.body)
