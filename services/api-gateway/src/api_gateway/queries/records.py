"""`GET /api/processed-records` and `…/{id}`: what processing made of events."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Annotated, Any, Final, NamedTuple
from uuid import UUID

import asyncpg
import msgspec
from fastapi import APIRouter, Path, Query, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from api_gateway.http.openapi import reply
from api_gateway.http.problems import INVALID, NOT_FOUND, UNAVAILABLE, HttpProblem
from api_gateway.queries.ledger import Ledger, expect_large_record, scope_parameters
from api_gateway.queries.parameters import Cursor, Moment, Reader, json_response, read_cursor, valid_source
from api_gateway.schemas import RecordPage
from shared.auth.scopes import EVERY_SOURCE, Scope
from shared.cache import Cache
from shared.contracts.csv_reading import payload_of
from shared.contracts.errors import Problem
from shared.contracts.event import Channel
from shared.contracts.record import Record, StatusName
from shared.contracts.result import RecordStatus

_ID_MAX: Final = 2**63 - 1
# More than any record has: PostgreSQL's own limit of a value is less.
RECORD_BYTES_MAX: Final = 2**30
_NULL: Final = msgspec.Raw(b"null")
_STATUS_NAMES: Final[dict[int, StatusName]] = {1: "SUCCESS", 2: "FAILED", 3: "HELD"}

# Records with the attributes of their events; the body only where it is the result. What is larger than $2 bytes is
# left out, and its `size` tells.
_ENTRIES: Final = """
    SELECT record.id, record.raw_event_id, record.status, record.attempt, record.processed_at,
           CASE WHEN octet_length(record.result_payload::text) <= $2 THEN record.result_payload::text END AS result,
           record.errors::text AS errors,
           CASE
               WHEN record.status = 1 AND record.result_payload IS NULL AND octet_length(raw.body) <= $2 THEN raw.body
           END AS body,
           raw.content_type,
           CASE
               WHEN record.result_payload IS NOT NULL THEN octet_length(record.result_payload::text)
               WHEN record.status = 1 THEN octet_length(raw.body)
               ELSE 0
           END AS size,
           raw.event_id, raw.channel, raw.idempotency_key, raw.type, raw.occurred_at, raw.received_at, raw.file_at,
           source.name AS source
    FROM {records} AS record
    JOIN raw_events AS raw ON raw.id = record.raw_event_id
    JOIN ingestion_sources AS source ON source.id = raw.source_id
"""
ALL_RECORDS: Final = _ENTRIES.format(records="processed_records")
"""For queries that add a WHERE. $1 is a key, $2 the size beyond which a payload is left out."""
RECORD: Final = ALL_RECORDS + "WHERE record.id = $1"

# One page: up to $1 rows, each with the bytes of the payloads before it, and how many were `found` before it was cut
# where it would grow beyond $2 bytes. It is taken from `processed_records` alone, along one of its indexes, before
# anything is joined to it.
_PAGE: Final = """
    SELECT * FROM (
        SELECT *, sum(size) OVER (ORDER BY processed_at DESC, id DESC) - size AS bytes_before, count(*) OVER () AS found
        FROM ({entries}) AS entries
    ) AS counted
    WHERE bytes_before + size <= $2 OR bytes_before = 0
    ORDER BY processed_at DESC, id DESC
"""
_PORTION: Final = "(SELECT * FROM processed_records {conditions} ORDER BY processed_at DESC, id DESC LIMIT $1)"

# The same of several sources, out of the index by source: one look at the newest of each, and then up to $1 of the $1
# sources with the newest. No record of another source is read, however rare those of these are among them, and what is
# newest of all is the newest of its source.
_PORTION_OF_SOURCES: Final = """(
    SELECT record.* FROM (
        SELECT newest.id
        FROM (
            SELECT mine.id AS source_id
            FROM ({sources}) AS mine
            CROSS JOIN LATERAL (
                SELECT id, processed_at FROM processed_records WHERE source_id = mine.id {conditions}
                ORDER BY processed_at DESC, id DESC LIMIT 1
            ) AS head
            ORDER BY head.processed_at DESC, head.id DESC LIMIT $1
        ) AS foremost
        CROSS JOIN LATERAL (
            SELECT id, processed_at FROM processed_records WHERE source_id = foremost.source_id {conditions}
            ORDER BY processed_at DESC, id DESC LIMIT $1
        ) AS newest
        ORDER BY newest.processed_at DESC, newest.id DESC LIMIT $1
    ) AS page JOIN processed_records AS record ON record.id = page.id
)"""
SOURCES_OF_SCOPE: Final = "SELECT id FROM ingestion_sources WHERE name = ANY({0}::text[]) OR name ^@ ANY({1}::text[])"


_read_problems = msgspec.json.Decoder(tuple[Problem, ...]).decode


class RecordCursor(Cursor, frozen=True, tag="records"):
    """The last record of a page."""

    processed_at: datetime
    id: Annotated[int, msgspec.Meta(ge=0, le=_ID_MAX)]

    def __post_init__(self) -> None:
        """Refuse what another encoder may write: a moment without an offset, or with another one."""
        if self.processed_at.utcoffset() != timedelta():
            raise ValueError("must be in UTC")


class RecordFilter(NamedTuple):
    """Which records; None: whichever. Times are those of processing, `since` included and `until` not.

    Without a `source` those of the `scope` are meant.
    """

    source: str | None = None
    status: RecordStatus | None = None
    since: datetime | None = None
    until: datetime | None = None
    scope: Scope = EVERY_SOURCE


class RecordQuery(BaseModel):
    """The filters of `GET /api/processed-records`; a name that is none of them is refused."""

    model_config = ConfigDict(extra="forbid")

    source: Annotated[str, AfterValidator(valid_source)] | None = Field(None, examples=["manual-demo"])
    status: StatusName | None = None
    since: Moment | None = Field(None, alias="from", description="processed at this moment or later (RFC 3339)")
    until: Moment | None = Field(None, alias="to", description="processed before this moment (RFC 3339)")
    limit: int = Field(50, ge=1, le=500)
    cursor: str | None = Field(None, max_length=64, description="`next` of the page before")

    def filter(self, scope: Scope) -> RecordFilter:
        """Return the filters as the ledger takes them, for who may read a scope."""
        return RecordFilter(
            source=self.source,
            status=None if self.status is None else RecordStatus[self.status],
            since=self.since,
            until=self.until,
            scope=scope,
        )


class Records:
    """Reads records. The cache is asked first, learns what the ledger said, and decides nothing.

    A record outside the caller's scope is not found, as one that does not exist.
    """

    def __init__(self, ledger: Ledger, cache: Cache) -> None:
        """Nothing is read here."""
        self._ledger = ledger
        self._cache = cache

    async def page(self, which: RecordFilter, *, after: RecordCursor | None, limit: int) -> RecordPage:
        """Return up to `limit` records, newest first. Raises UnavailableError or OverloadedError.

        A page ends early when its payloads grow beyond the limit of a page. A larger record is a page of its own.
        """
        query, parameters = page_query(which, after=after, limit=limit, bytes_max=self._ledger.page_bytes_max)
        rows = await self._ledger.rows(query, *parameters)
        if rows and self._is_large(rows[0]):
            await expect_large_record()
            query, parameters = page_query(which, after=after, limit=1, bytes_max=RECORD_BYTES_MAX)
            rows = (await self._ledger.rows(query, *parameters))[:1]
        items = [record_of(row) for row in rows[:limit] if row is rows[0] or not self._is_large(row)]
        more = bool(rows) and rows[0]["found"] > len(items)
        return RecordPage(items, RecordCursor(items[-1].processed_at, items[-1].id).encode() if more else None)

    async def find(self, record_id: int, scope: Scope) -> Record:
        """Return a record. Raises HttpProblem (not found), UnavailableError or OverloadedError."""
        record = await self._cache.record(record_id)
        if record is None:
            record = await self.read_and_cache(RECORD, record_id)
        if record is None or not scope.covers(record.source):
            raise HttpProblem(NOT_FOUND, "There is no record with this id.")
        return record

    async def read_and_cache(self, query: str, key: int | UUID) -> Record | None:
        """Return a record of the ledger, and let the cache learn it. One that is HELD is soon replaced by another."""
        epoch = self._cache.epoch
        record = await self.read(query, key)
        if record is not None and record.status != "HELD":
            await self._cache.put_records([record], epoch=epoch)
        return record

    async def read(self, query: str, key: int | UUID) -> Record | None:
        """Return the record that a query over ALL_RECORDS finds."""
        rows = await self._ledger.rows(query, key, self._ledger.page_bytes_max)
        if rows and self._is_large(rows[0]):
            await expect_large_record()
            rows = await self._ledger.rows(query, key, RECORD_BYTES_MAX)
        return record_of(rows[0]) if rows else None

    def _is_large(self, row: asyncpg.Record) -> bool:
        """Tell whether a record is larger than a page may be. The row is without its payload then."""
        size: int = row["size"]
        return size > self._ledger.page_bytes_max


def record_router(records: Records) -> APIRouter:
    """Return the routes."""
    router = APIRouter(prefix="/api", tags=["queries"], default_response_class=Response)

    @router.get(
        "/processed-records",
        operation_id="listProcessedRecords",
        summary="List records, newest first",
        responses=reply(RecordPage, INVALID, UNAVAILABLE),
    )
    async def list_records(caller: Reader, query: Annotated[RecordQuery, Query()]) -> Response:
        """What processing made of events. Pages stay stable while new records arrive; `next` leads to older ones.

        They are those of the sources that the API key is for.
        """
        if query.source is not None:
            caller.check_source(query.source, "/query/source")
        after = read_cursor(query.cursor, RecordCursor)
        return json_response(await records.page(query.filter(caller.scope), after=after, limit=query.limit))

    @router.get(
        "/processed-records/{id}",
        operation_id="getProcessedRecord",
        summary="Read one record",
        responses=reply(Record, NOT_FOUND, INVALID, UNAVAILABLE),
    )
    async def get_record(
        caller: Reader, record_id: Annotated[int, Path(alias="id", ge=1, le=_ID_MAX, examples=[1])]
    ) -> Response:
        """A record by the `id` that ingesting answered with. One of a source that is not the API key's is not found."""
        return json_response(await records.find(record_id, caller.scope))

    return router


def page_query(which: RecordFilter, *, after: RecordCursor | None, limit: int, bytes_max: int) -> tuple[str, list[Any]]:
    """Return the query of one page, `limit` rows and perhaps one more, and its parameters."""
    parameters: list[Any] = [limit + 1, bytes_max]

    def given(condition: str, *values: object) -> str:
        first = len(parameters) + 1
        parameters.extend(values)
        return condition.format(*(f"${first + place}" for place in range(len(values))))

    conditions = [given(condition, *values) for condition, *values in _conditions(which, after)]
    if which.source is not None:
        conditions.append(given("source_id = (SELECT id FROM ingestion_sources WHERE name = {})", which.source))
    elif not which.scope.everything:
        sources = given(SOURCES_OF_SCOPE, *scope_parameters(which.scope))
        if which.status not in {RecordStatus.FAILED, RecordStatus.HELD}:
            more = "".join(f"AND {condition} " for condition in conditions)
            portion = _PORTION_OF_SOURCES.format(sources=sources, conditions=more)
            return _PAGE.format(entries=_ENTRIES.format(records=portion)), parameters
        # FAILED and HELD are few, so those of all sources are looked through.
        conditions.append(f"source_id = ANY(ARRAY({sources}))")
    portion = _PORTION.format(conditions="WHERE " + " AND ".join(conditions) if conditions else "")
    return _PAGE.format(entries=_ENTRIES.format(records=portion)), parameters


def _conditions(which: RecordFilter, after: RecordCursor | None) -> Iterator[tuple[Any, ...]]:
    """Yield what each record must fulfil, apart from its source: a condition with the values for its places."""
    if which.status is not None:
        # As a literal: the planner takes the partial index of FAILED records only where it sees the number.
        yield (f"status = {which.status.value:d}",)
    if which.since is not None:
        yield "processed_at >= {}", which.since
    if which.until is not None:
        yield "processed_at < {}", which.until
    if after is not None:
        yield "(processed_at, id) < ({}, {})", after.processed_at, after.id


def record_of(row: asyncpg.Record) -> Record:
    """Return the record in a row of ALL_RECORDS."""
    return Record(
        id=row["id"],
        raw_event_id=row["raw_event_id"],
        event_id=row["event_id"],
        source=row["source"],
        channel=Channel(row["channel"]).label,
        status=_STATUS_NAMES[row["status"]],
        attempt=row["attempt"],
        result_payload=_result(row),
        errors=_read_problems(row["errors"]) if row["errors"] else (),
        idempotency_key=row["idempotency_key"],
        type=row["type"],
        occurred_at=row["occurred_at"],
        received_at=row["received_at"],
        file_at=row["file_at"],
        processed_at=row["processed_at"],
    )


def _result(row: asyncpg.Record) -> msgspec.Raw:
    if row["result"] is not None:
        return msgspec.Raw(row["result"].encode())
    payload = None if row["body"] is None else payload_of(row["body"], row["content_type"])
    return _NULL if payload is None else msgspec.Raw(payload)
