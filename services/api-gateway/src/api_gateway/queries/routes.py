"""The questions: sources, records, and where an event is now."""

from typing import Annotated, Any, Final, Literal, Protocol
from uuid import UUID

import msgspec
from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

from api_gateway.http.openapi import reply
from api_gateway.http.problems import INVALID, NOT_FOUND, UNAVAILABLE, HttpProblem
from api_gateway.http.request import admitted
from api_gateway.queries.paging import Position, read_record_cursor, read_source_cursor
from api_gateway.queries.statements import RecordFilter
from api_gateway.schemas import EventState, RecordPage, SourcePage
from shared.auth.authenticator import Caller
from shared.auth.scopes import Scope
from shared.cache import Cache
from shared.contracts.event import source_problem
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
    since: _Moment | None = Field(None, alias="from", description="processed at this moment or later (RFC 3339)")
    until: _Moment | None = Field(None, alias="to", description="processed before this moment (RFC 3339)")
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

    async def sources(self, scope: Scope, *, after: int, limit: int) -> SourcePage:
        """Return a page of the sources of a scope, oldest first."""


class Queries:
    """Answers from the cache where it can, else from the ledger; the cache decides nothing.

    Everything is asked for by somebody who may read a scope. What is outside it is not there: the answer is the same as
    for what does not exist.
    """

    def __init__(self, ledger: Reader, cache: Cache) -> None:
        """Reading is all that is done with either, and the cache learns what the ledger said."""
        self._ledger = ledger
        self._cache = cache

    async def sources(self, query: SourceQuery, scope: Scope) -> SourcePage:
        """Return a page of sources."""
        after = _position(read_source_cursor, query.cursor)
        return await self._ledger.sources(scope, after=after or 0, limit=query.limit)

    async def records(self, query: RecordQuery, scope: Scope) -> RecordPage:
        """Return a page of records; of one source where the query names it, which must be in the scope."""
        after = _position(read_record_cursor, query.cursor)
        return await self._ledger.records(query.filter(scope), after=after, limit=query.limit)

    async def record(self, record_id: int, scope: Scope) -> Record:
        """Return a record. Raises HttpProblem (not found)."""
        record = await self._cache.record(record_id)
        if record is None:
            epoch = self._cache.epoch
            record = await self._ledger.record(record_id)
            if record is not None:
                await self._cache.put_records([record], epoch=epoch)
        if record is None or not scope.covers(record.source):
            raise HttpProblem(NOT_FOUND, "There is no record with this id.")
        return record

    async def event(self, event_id: UUID, scope: Scope) -> EventState:
        """Return where an event is. Raises HttpProblem (not found)."""
        record = await self._cache.record_of_event(event_id)
        if record is None:
            epoch = self._cache.epoch
            record = await self._ledger.record_of_event(event_id)
            if record is not None:
                await self._cache.put_records([record], epoch=epoch)
        if record is not None and scope.covers(record.source):
            return EventState(event_id=event_id, state="stored", record=record)
        source = None if record is not None else await self._cache.source_of_queued(event_id)
        if source is not None and scope.covers(source):
            return EventState(event_id=event_id, state="queued")
        raise HttpProblem(NOT_FOUND, "No event with this id is stored, and none is known to be on its way.")


def _position(read: Any, cursor: str | None) -> Any:  # noqa: ANN401 - one of the two readers of cursors
    if cursor is None:
        return None
    try:
        return read(cursor)
    except ValueError as error:
        problem = Problem("/query/cursor", "must be `next` of a page before")
        raise HttpProblem(INVALID, "The cursor is not one of ours.", errors=[problem]) from error


def _json(view: msgspec.Struct) -> Response:
    return Response(msgspec.json.encode(view), media_type="application/json")


def _reader(request: Request) -> Caller:
    """Return who asks. Raises RightMissingError."""
    caller = admitted(request.scope)[1]
    caller.check_right("read")
    return caller


_Reading = Annotated[Caller, Depends(_reader)]


def query_router(queries: Queries) -> APIRouter:
    """Return the routes."""
    router = APIRouter(prefix="/api", tags=["queries"], default_response_class=Response)

    @router.get(
        "/sources",
        operation_id="listSources",
        summary="List the sources",
        responses=reply(SourcePage, INVALID, UNAVAILABLE),
    )
    async def list_sources(caller: _Reading, query: Annotated[SourceQuery, Query()]) -> Response:
        """Who has sent events, in the order of their first one; those that the API key is for."""
        return _json(await queries.sources(query, caller.scope))

    @router.get(
        "/processed-records",
        operation_id="listProcessedRecords",
        summary="List records, newest first",
        responses=reply(RecordPage, INVALID, UNAVAILABLE),
    )
    async def list_records(caller: _Reading, query: Annotated[RecordQuery, Query()]) -> Response:
        """What processing made of events. Pages stay stable while new records arrive; `next` leads to older ones.

        They are those of the sources that the API key is for.
        """
        if query.source is not None:
            caller.check_source(query.source, "/query/source")
        return _json(await queries.records(query, caller.scope))

    @router.get(
        "/processed-records/{id}",
        operation_id="getProcessedRecord",
        summary="Read one record",
        responses=reply(Record, NOT_FOUND, INVALID, UNAVAILABLE),
    )
    async def get_record(
        caller: _Reading, record_id: Annotated[int, Path(alias="id", ge=1, le=_ID_MAX, examples=[1])]
    ) -> Response:
        """A record by the `id` that ingesting answered with. One of a source that is not the API key's is not found."""
        return _json(await queries.record(record_id, caller.scope))

    @router.get(
        "/events/{event_id}",
        operation_id="getEvent",
        summary="Ask where an event is",
        responses=reply(EventState, NOT_FOUND, INVALID, UNAVAILABLE),
    )
    async def get_event(caller: _Reading, event_id: UUID) -> Response:
        """`stored` with its record, or `queued`. Not found may also mean: still on its way, and the cache is away.

        An event of a source that is not the API key's is not found.
        """
        return _json(await queries.event(event_id, caller.scope))

    return router
