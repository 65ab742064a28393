"""`GET /api/events/{event_id}`: where an event is."""

from typing import Final
from uuid import UUID

from fastapi import APIRouter, Response

from api_gateway.http.openapi import reply
from api_gateway.http.problems import INVALID, NOT_FOUND, UNAVAILABLE, HttpProblem
from api_gateway.queries.parameters import Reader, json_response
from api_gateway.queries.records import ALL_RECORDS, Records
from api_gateway.schemas import EventState
from shared.auth.scopes import Scope
from shared.cache import Cache

# Runs along the index of event ids. The current record is the latest SUCCESS, else the latest.
RECORD_OF_EVENT: Final = (
    ALL_RECORDS + "WHERE raw.event_id = $1 ORDER BY record.status = 1 DESC, record.attempt DESC LIMIT 1"
)


class Events:
    """Finds events: stored ones as Records does, queued ones by the cache alone."""

    def __init__(self, records: Records, cache: Cache) -> None:
        """Nothing is read here."""
        self._records = records
        self._cache = cache

    async def find(self, event_id: UUID, scope: Scope) -> EventState:
        """Return where an event is. Raises HttpProblem: not found, or outside the scope. Raises UnavailableError."""
        record = await self._cache.record_of_event(event_id)
        if record is None:
            record = await self._records.read_and_cache(RECORD_OF_EVENT, event_id)
        if record is not None and scope.covers(record.source):
            return EventState(event_id=event_id, state="stored", record=record)
        source = None if record is not None else await self._cache.source_of_queued(event_id)
        if source is not None and scope.covers(source):
            return EventState(event_id=event_id, state="queued")
        raise HttpProblem(NOT_FOUND, "No event with this id is stored, and none is known to be on its way.")


def event_router(events: Events) -> APIRouter:
    """Return the route."""
    router = APIRouter(prefix="/api", tags=["queries"], default_response_class=Response)

    @router.get(
        "/events/{event_id}",
        operation_id="getEvent",
        summary="Ask where an event is",
        responses=reply(EventState, NOT_FOUND, INVALID, UNAVAILABLE),
    )
    async def get_event(caller: Reader, event_id: UUID) -> Response:
        """`stored` with its record, or `queued`. Not found may also mean: still on its way, and the cache is away.

        An event of a source that is not the API key's is not found.
        """
        return json_response(await events.find(event_id, caller.scope))

    return router
