"""`GET /api/audit`: for one hour, what the channels answered beside what the ledger holds."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, NamedTuple, Protocol, Self

import asyncpg
import msgspec
from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from api_gateway.http.openapi import reply
from api_gateway.http.problems import AUDIT_TOO_LARGE, INVALID, OVERLOADED, UNAVAILABLE, HttpProblem
from api_gateway.http.request import admitted
from api_gateway.queries.ledger import Ledger, scope_parameters
from api_gateway.queries.parameters import Cursor, Moment, json_response, read_cursor, valid_source
from shared.auth.authenticator import Caller
from shared.auth.scopes import EVERY_SOURCE, Scope
from shared.contracts.audit import AuditLine, AuditPage, AuditSeries
from shared.contracts.errors import OverloadedError, UnavailableError
from shared.contracts.event import Channel
from shared.contracts.receipt import OTHER_SOURCES, SILENT_INTERVALS, SILENT_SECONDS, UNREADABLE_SOURCE

_LINES_MAX: Final = 5_000
_SERIES_MAX: Final = 1_000
# The name of a source has up to four bytes a character, and base64 makes four characters of three bytes.
CURSOR_CHARS_MAX: Final = 1_200
_HOUR: Final = timedelta(hours=1)
_LAST_HOUR: Final = datetime.max.replace(tzinfo=UTC) - _HOUR
_WAIT_SECONDS_MAX: Final = 0.2
# For a connection, and for the server to end a statement.
_MORE_SECONDS: Final = 0.4
# Together with the waits above and the statements: less than two seconds.
_DEPTHS_SECONDS_MAX: Final = 0.4
_STATEMENT_TIMEOUT: Final = "SELECT set_config('statement_timeout', $1, true)"

# A record that is no SUCCESS counts as the event's current one does: its latest SUCCESS, else its latest.
# What was answered in the hour $1 beside what the ledger holds of the part of it from $2 until $3. The answers are
# counted by the hour, so they stand in its first part: the parts of an hour add up to it. A line that one side has
# alone counts with zeros on the other. $8 and $9 are a scope, see `scope_parameters`.
_LINES: Final = """
    WITH part AS (
        SELECT id FROM ingestion_sources WHERE name = $4
    ), stored AS (
        SELECT raw.source_id, raw.channel, count(*) AS events,
               count(*) FILTER (WHERE coalesce(later.status, record.status) = 1) AS success,
               count(*) FILTER (WHERE coalesce(later.status, record.status) = 2) AS failed,
               count(*) FILTER (WHERE coalesce(later.status, record.status) = 3) AS held,
               max(raw.stored_at) AS moved_at
        FROM raw_events AS raw
        LEFT JOIN processed_records AS record ON record.raw_event_id = raw.id AND record.attempt = 1
        LEFT JOIN LATERAL (
            SELECT status FROM processed_records
            WHERE record.status <> 1 AND raw_event_id = raw.id ORDER BY status = 1 DESC, attempt DESC LIMIT 1
        ) AS later ON true
        WHERE raw.received_at >= $2 AND raw.received_at < $3
          AND ($4::text IS NULL OR raw.source_id = (SELECT id FROM part))
        GROUP BY raw.source_id, raw.channel
    ), settled AS (
        SELECT source_id, channel, count(*) FILTER (WHERE disposition = 2) AS duplicate,
               count(*) FILTER (WHERE disposition = 3) AS conflict, max(received_at) AS moved_at
        FROM settlements WHERE received_at >= $2 AND received_at < $3
        GROUP BY source_id, channel
    ), found AS (
        SELECT coalesce(raw.source_id, settled.source_id) AS source_id, listed.channel, count(*) AS unconfirmed
        FROM unconfirmed AS listed
        LEFT JOIN raw_events AS raw ON raw.event_id = listed.event_id
              AND raw.received_at = listed.received_at AND raw.channel = listed.channel
        LEFT JOIN settlements AS settled ON settled.event_id = listed.event_id
              AND settled.received_at = listed.received_at AND settled.channel = listed.channel
        WHERE listed.received_at >= $2 AND listed.received_at < $3
          AND coalesce(raw.source_id, settled.source_id) IS NOT NULL
        GROUP BY 1, 2
    ), kept AS (
        SELECT source_id, channel, events, success, failed, held, 0 AS duplicate, 0 AS conflict, 0 AS unconfirmed,
               moved_at
        FROM stored
        UNION ALL SELECT source_id, channel, 0, 0, 0, 0, duplicate, conflict, 0, moved_at FROM settled
        UNION ALL SELECT source_id, channel, 0, 0, 0, 0, 0, 0, unconfirmed, NULL FROM found
    )
    SELECT source, channel, sum(stored)::bigint AS stored, sum(duplicate)::bigint AS duplicate,
           sum(conflict)::bigint AS conflict, sum(refused)::bigint AS refused, sum(queued)::bigint AS queued,
           sum(unknown)::bigint AS unknown, sum(unlisted)::bigint AS unlisted, sum(events)::bigint AS events,
           sum(success)::bigint AS success, sum(failed)::bigint AS failed, sum(held)::bigint AS held,
           sum(settled_duplicate)::bigint AS settled_duplicate, sum(settled_conflict)::bigint AS settled_conflict,
           sum(unconfirmed)::bigint AS unconfirmed, max(moved_at) AS moved_at
    FROM (
        SELECT source, channel, stored, duplicate, conflict, refused, queued, unknown,
               coalesce(unlisted, unknown) AS unlisted, 0 AS events, 0 AS success, 0 AS failed, 0 AS held,
               0 AS settled_duplicate, 0 AS settled_conflict, 0 AS unconfirmed, reported_at AS moved_at
        FROM receipts WHERE hour = $1 AND $1 = $2
        UNION ALL
        SELECT source.name, kept.channel, 0, 0, 0, 0, 0, 0, 0, events, success, failed, held, duplicate, conflict,
               unconfirmed, moved_at
        FROM kept JOIN ingestion_sources AS source ON source.id = kept.source_id
    ) AS counted
    WHERE ($4::text IS NULL OR source = $4)
      AND ($8::text[] IS NULL OR source = ANY($8) OR source ^@ ANY($9::text[]))
      AND ($5::text IS NULL OR (source COLLATE "C", channel) > ($5, $6::smallint))
    GROUP BY source, channel
    ORDER BY source COLLATE "C", channel
    LIMIT $7
"""

# Of which processes the counts of the hour from $1 until $2 may not be all there: those that have not ended in order,
# and may have answered events after what they told last; and those of which a receipt in between is missing.
_SERIES: Final = f"""
    SELECT service, instance, channel, open_since AS since,
           taken_at + make_interval(secs => {SILENT_INTERVALS} * interval_seconds + {SILENT_SECONDS}) AS until,
           reported_at, interval_seconds, 0 AS missing_receipts
    FROM receipt_series
    WHERE NOT closed AND open_since < $2
      AND taken_at + make_interval(secs => {SILENT_INTERVALS} * interval_seconds + {SILENT_SECONDS}) >= $1
    UNION ALL
    SELECT series.service, series.instance, series.channel, gap.since, gap.until, series.reported_at,
           series.interval_seconds, upper(gap.numbers) - lower(gap.numbers)
    FROM receipt_gaps AS gap JOIN receipt_series AS series USING (instance)
    WHERE gap.since < $2 AND gap.until >= $1 AND NOT series.numbers @> gap.numbers
    ORDER BY service, since
    LIMIT $3
"""  # noqa: S608 - our own numbers
_OVERFLOWED: Final = """
    SELECT DISTINCT channel FROM receipts
    WHERE hour = $1 AND source = $2 AND stored + queued + coalesce(unlisted, unknown) > 0
"""


def _utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("must be a moment of the years 1 to 9999") from error


def _hour(moment: datetime) -> datetime:
    hour = _utc(moment).replace(minute=0, second=0, microsecond=0)
    if hour > _LAST_HOUR:
        raise ValueError("must be a moment of the years 1 to 9999")
    return hour


def _countable_source(name: str) -> str:
    return name if name in {UNREADABLE_SOURCE, OTHER_SOURCES} else valid_source(name)


class AuditCursor(Cursor, frozen=True, tag="audit"):
    """The last line of a page."""

    source: str
    channel: Channel

    def __post_init__(self) -> None:
        """Refuse what PostgreSQL cannot compare with."""
        if "\0" in self.source:
            raise ValueError("must not hold a NUL")


class AuditPart(NamedTuple):
    """A part of one hour, from `since` to before `until`; of one source, or of a scope; its lines after a cursor."""

    hour: datetime
    since: datetime
    until: datetime
    source: str | None = None
    after: AuditCursor | None = None
    scope: Scope = EVERY_SOURCE


class AuditQuery(BaseModel):
    """The parameters of `GET /api/audit`."""

    model_config = ConfigDict(extra="forbid")

    hour: Annotated[Moment, AfterValidator(_hour)] = Field(
        description="any moment of the hour, in which the events came in (RFC 3339)", examples=["2026-11-23T08:00:00Z"]
    )
    since: Annotated[Moment, AfterValidator(_utc)] | None = Field(
        None, alias="from", description="of the events in the ledger only those that came in at this moment or later"
    )
    until: Annotated[Moment, AfterValidator(_utc)] | None = Field(
        None, alias="to", description="of the events in the ledger only those that came in before this moment"
    )
    source: Annotated[str, AfterValidator(_countable_source)] | None = Field(None, examples=["manual-demo"])
    limit: int = Field(1_000, ge=1, le=_LINES_MAX)
    cursor: str | None = Field(None, max_length=CURSOR_CHARS_MAX, description="`next` of the page before")

    @model_validator(mode="after")
    def _lies_in_its_hour(self) -> Self:
        since, until = self._span
        if not self.hour <= since < until <= self.hour + _HOUR:
            raise ValueError("from must be before to, and both in the hour")
        return self

    @property
    def _span(self) -> tuple[datetime, datetime]:
        return self.since or self.hour, self.until or self.hour + _HOUR

    def part(self, scope: Scope) -> AuditPart:
        """Return what is asked for, within a scope. Raises HttpProblem: the cursor is not one of the audit."""
        return AuditPart(self.hour, *self._span, self.source, read_cursor(self.cursor, AuditCursor), scope)


class Audit:
    """Reads the audit, one at a time: it reads much, and leaves the pool to the other queries."""

    def __init__(self, ledger: Ledger, *, seconds_max: float) -> None:
        """The statements of one audit take `seconds_max` at most."""
        self._ledger = ledger
        self._seconds_max = seconds_max
        self._running = asyncio.Semaphore(1)

    async def page(self, part: AuditPart, *, limit: int) -> AuditPage:
        """Return up to `limit` lines of a part of an hour, by source and channel; without the queues.

        Events that could not be read, and those of sources beyond the number that a process counts apart, are shown
        only to callers that may audit every source.

        Raises:
            OverloadedError: another audit is running. UnavailableError: PostgreSQL cannot answer now.
            HttpProblem: there are too many events for one answer (AUDIT_TOO_LARGE).
        """
        position = (part.after.source, part.after.channel.value) if part.after else (None, None)
        which = (part.source, *position, limit + 1, *scope_parameters(part.scope))
        async with self._connection() as connection:
            as_of = await connection.fetchval("SELECT now()")
            series = await connection.fetch(_SERIES, part.hour, part.hour + _HOUR, _SERIES_MAX)
            overflowed = await connection.fetch(_OVERFLOWED, part.hour, OTHER_SOURCES)
            rows = await connection.fetch(_LINES, part.hour, part.since, part.until, *which)
        last = rows[limit - 1] if len(rows) > limit else None
        return AuditPage(
            hour=part.hour,
            as_of=as_of,
            items=[_line(row) for row in rows[:limit]],
            next=AuditCursor(last["source"], Channel(last["channel"])).encode() if last else None,
            series=[AuditSeries(**_labelled(row)) for row in series],
            overflowed=[Channel(row["channel"]).label for row in overflowed],
        )

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[asyncpg.Connection]:
        """Give a connection whose statements end in time, to one audit at a time."""
        try:
            async with asyncio.timeout(_WAIT_SECONDS_MAX):
                await self._running.acquire()
        except TimeoutError as error:
            raise OverloadedError("another audit is running") from error
        try:
            # The server ends the statement, and with it what it costs, before we stop waiting for it.
            async with (
                self._ledger.connection(self._seconds_max + _MORE_SECONDS) as connection,
                connection.transaction(),
            ):
                await connection.execute(_STATEMENT_TIMEOUT, str(int(self._seconds_max * 1000)))
                try:
                    yield connection
                except asyncpg.QueryCanceledError as error:
                    raise HttpProblem(AUDIT_TOO_LARGE, AUDIT_TOO_LARGE.meaning) from error
        finally:
            self._running.release()


def _line(row: asyncpg.Record) -> AuditLine:
    answered = (row["stored"], row["duplicate"], row["conflict"], row["refused"], row["queued"], row["unknown"])
    return AuditLine(received=sum(answered), **_labelled(row))


def _labelled(row: asyncpg.Record) -> dict[str, Any]:
    """Return the columns of a row, with the name of the channel."""
    return dict(row) | {"channel": Channel(row["channel"]).label}


class Queues(Protocol):
    """The queues between the services."""

    async def depths(self) -> dict[str, int]:
        """Return how many messages wait in each. Raises UnavailableError."""


def _auditor(request: Request) -> Caller:
    """Return the caller. Raises RightMissingError."""
    caller = admitted(request.scope).caller
    caller.check_right("audit")
    return caller


def audit_router(audit: Audit, queues: Queues, *, receipt_seconds: float) -> APIRouter:
    """Return the route."""
    router = APIRouter(prefix="/api", tags=["queries"], default_response_class=Response)

    @router.get(
        "/audit",
        operation_id="getAudit",
        summary="Compare what was answered with what is stored",
        responses=reply(AuditPage, INVALID, OVERLOADED, AUDIT_TOO_LARGE, UNAVAILABLE),
    )
    async def get_audit(
        caller: Annotated[Caller, Depends(_auditor)], query: Annotated[AuditQuery, Query()]
    ) -> Response:
        """The counts of one hour, by source and channel. `etlpay audit` asks for hours and compares them.

        They are those of the sources that the API key is for. What was answered is counted by the hour, and stands in
        the part that begins with the hour; so the parts of an hour add up to it. An answer or a refusal comes within
        two seconds.
        """
        if query.source is not None:
            caller.check_source(query.source, "/query/source")
        part = query.part(caller.scope)
        # The queues first: what has left them by then is in the counts that are read afterwards.
        depths = await _depths(queues)
        page = await audit.page(part, limit=query.limit)
        return json_response(msgspec.structs.replace(page, queues=depths, receipt_seconds=receipt_seconds))

    return router


async def _depths(queues: Queues) -> dict[str, int] | None:
    try:
        async with asyncio.timeout(_DEPTHS_SECONDS_MAX):
            return await queues.depths()
    except (UnavailableError, TimeoutError):
        return None
