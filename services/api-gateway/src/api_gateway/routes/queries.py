"""The questions: sources, records, and where an event is now."""

from typing import Annotated, Any, Final, Literal, Protocol
from uuid import UUID

import msgspec
from fastapi import APIRouter, Path, Query, Response
from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

from api_gateway.openapi import reply
from api_gateway.paging import Position, read_record_cursor, read_source_cursor
from api_gateway.problems import INVALID, NOT_FOUND, UNAVAILABLE, RefusalError
from api_gateway.statements import RecordFilter
from api_gateway.views import EventState, RecordPage, SourcePage
from shared.cache import Cache
from shared.contracts.event import Channel, source_problem
from shared.contracts.moment import read_moment_of_query
from shared.contracts.outcome import Problem, RecordStatus
from shared.contracts.record import Record

_SOURCES_MAX: Final = 1_000
_ID_MAX: Final = 2**63 - 1


def _known_source(name: str) -> str:
    if problem := source_problem(name):
        raise ValueError(problem)
    return name


_Moment = Annotated[AwareDatetime, BeforeValidator(read_moment_of_query)]


class RecordQuery(BaseModel):
    """The filters of `GET /api/processed-records`; a name that is none of them is refused."""

    model_config = ConfigDict(extra="forbid")

    source: Annotated[str, AfterValidator(_known_source)] | None = Field(None, examples=["manual-demo"])
    status: Literal["SUCCESS", "FAILED"] | None = None
    channel: Literal["http", "grpc", "file", "queue"] | None = None
    since: _Moment | None = Field(None, alias="from", description="processed at this moment or later (RFC 3339)")
    until: _Moment | None = Field(None, alias="to", description="processed before this moment (RFC 3339)")
    limit: int = Field(50, ge=1, le=500)
    cursor: str | None = Field(None, max_length=64, description="`next` of the page before")

    def filter(self) -> RecordFilter:
        """Return the filters as the ledger takes them."""
        return RecordFilter(
            source=self.source,
            status=None if self.status is None else RecordStatus[self.status],
            channel=None if self.channel is None else Channel[self.channel.upper()],
            since=self.since,
            until=self.until,
        )


class SourceQuery(BaseModel):
    """The page of `GET /api/sources`."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(_SOURCES_MAX, ge=1, le=_SOURCES_MAX)
    cursor: str | None = Field(None, max_length=64, description="`next` of the page before")


class Reader(Protocol):
    """The ledger, as the questions see it. Raises UnavailableError where it cannot answer now."""

    async def record(self, record_id: int) -> Record | None:
        """Return a record by its id."""

    async def record_of_event(self, event_id: UUID) -> Record | None:
        """Return the latest record of an event."""

    async def records(self, which: RecordFilter, *, after: Position | None, limit: int) -> RecordPage:
        """Return a page of records, newest first."""

    async def sources(self, *, after: int, limit: int) -> SourcePage:
        """Return a page of sources, oldest first."""


class Queries:
    """Answers from the cache where it can, else from the ledger; the cache decides nothing."""

    def __init__(self, ledger: Reader, cache: Cache) -> None:
        """Reading is all that is done with either, and the cache learns what the ledger said."""
        self._ledger = ledger
        self._cache = cache

    async def sources(self, query: SourceQuery) -> SourcePage:
        """Return a page of sources."""
        after = _position(read_source_cursor, query.cursor)
        whole = after is None and query.limit == _SOURCES_MAX
        if whole and (known := await self._cache.sources()) is not None:
            return SourcePage(known, None)
        page = await self._ledger.sources(after=after or 0, limit=query.limit)
        if whole and page.items and page.next is None:
            await self._cache.put_sources(page.items)
        return page

    async def records(self, query: RecordQuery) -> RecordPage:
        """Return a page of records."""
        after = _position(read_record_cursor, query.cursor)
        return await self._ledger.records(query.filter(), after=after, limit=query.limit)

    async def record(self, record_id: int) -> Record:
        """Return a record. Raises RefusalError (not found)."""
        record = await self._cache.record(record_id)
        if record is not None and record.id == record_id:
            return record
        record = await self._ledger.record(record_id)
        if record is None:
            raise RefusalError(NOT_FOUND, "There is no record with this id.")
        await self._cache.put_records([record])
        return record

    async def event(self, event_id: UUID) -> EventState:
        """Return where an event is. Raises RefusalError (not found)."""
        record = await self._cache.record_of_event(event_id)
        if record is None or record.event_id != event_id:
            record = await self._ledger.record_of_event(event_id)
            if record is not None:
                await self._cache.put_records([record])
        if record is not None:
            return EventState(event_id=event_id, state="stored", record=record)
        if await self._cache.is_queued(event_id):
            return EventState(event_id=event_id, state="queued")
        raise RefusalError(NOT_FOUND, "No event with this id is stored, and none is known to be on its way.")


def _position(read: Any, cursor: str | None) -> Any:  # noqa: ANN401 - one of the two readers of cursors
    if cursor is None:
        return None
    try:
        return read(cursor)
    except ValueError as error:
        problem = Problem("/query/cursor", "must be `next` of a page before")
        raise RefusalError(INVALID, "The cursor is not one of ours.", errors=[problem]) from error


def _json(view: msgspec.Struct) -> Response:
    return Response(msgspec.json.encode(view), media_type="application/json")


def query_router(queries: Queries) -> APIRouter:
    """Return the routes."""
    router = APIRouter(prefix="/api", tags=["queries"], default_response_class=Response)

    @router.get(
        "/sources",
        operation_id="listSources",
        summary="List the sources",
        responses=reply(SourcePage, INVALID, UNAVAILABLE),
    )
    async def list_sources(query: Annotated[SourceQuery, Query()]) -> Response:
        """Who has sent events, in the order of their first one."""
        return _json(await queries.sources(query))

    @router.get(
        "/processed-records",
        operation_id="listProcessedRecords",
        summary="List records, newest first",
        responses=reply(RecordPage, INVALID, UNAVAILABLE),
    )
    async def list_records(query: Annotated[RecordQuery, Query()]) -> Response:
        """What processing made of events. Pages stay stable while new records arrive; `next` leads to older ones."""
        return _json(await queries.records(query))

    @router.get(
        "/processed-records/{id}",
        operation_id="getProcessedRecord",
        summary="Read one record",
        responses=reply(Record, NOT_FOUND, INVALID, UNAVAILABLE),
    )
    async def get_record(record_id: Annotated[int, Path(alias="id", ge=1, le=_ID_MAX, examples=[1])]) -> Response:
        """A record by the `id` that ingesting answered with."""
        return _json(await queries.record(record_id))

    @router.get(
        "/events/{event_id}",
        operation_id="getEvent",
        summary="Ask where an event is",
        responses=reply(EventState, NOT_FOUND, INVALID, UNAVAILABLE),
    )
    async def get_event(event_id: UUID) -> Response:
        """`stored` with its record, or `queued`. Not found may also mean: still on its way, and the cache is away."""
        return _json(await queries.event(event_id))

    return router
