"""`POST /api/ingest/batch`: many events in, one result each out. Streamed: never held whole. A plain ASGI endpoint."""

import asyncio
from collections import deque
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final, TypeAlias
from uuid import UUID

import msgspec
from starlette.types import Receive, Scope, Send

from api_gateway.http.headers import LINES, body_format, preferences
from api_gateway.http.problems import MALFORMED, OVERLOADED, TOO_LARGE, HttpProblem, error_response
from api_gateway.http.request import BodyLimits, ClientGoneError, RequestStream, admitted
from api_gateway.ingest.mapping import read_event
from api_gateway.schemas import Counts, HttpResponse, ItemResult, ItemStatus
from api_gateway.settings import GatewaySettings
from shared.auth.authenticator import Caller
from shared.auth.rate import RateExceededError
from shared.cache import Cache
from shared.contracts.errors import InvalidEventError, OverloadedError, Problem, RetryableError, UnavailableError
from shared.contracts.event import Envelope, now, stamp
from shared.contracts.result import ErrorResult, Recorded, RecordStatus, Result, ResultKind
from shared.counters import in_hand
from shared.failpoints import failpoint
from shared.framing import ArrayFramer, Framer, FramingError, LineFramer
from shared.intake import Intake
from shared.runtime.limits import CapacityLimit, Holding
from shared.runtime.timeouts import Timeouts

_PAUSE_SECONDS: Final = 0.1
_NOTED_MAX: Final = 1_000
# About the size of a result as JSON: two numbers, an id and a status.
_RESULT_BYTES: Final = 160
_UNKNOWN: Final = (Problem("", "no confirmation; send it again with the same id"),)
_KEY_OF_BATCH: Final = Problem("/header/Idempotency-Key", "belongs to one event; give each item its own `id`")
_NOT_STORED: Final[dict[ResultKind, ItemStatus]] = {ResultKind.DUPLICATE: "DUPLICATE", ResultKind.CONFLICT: "CONFLICT"}
_COUNT_OF: Final = {
    "SUCCESS": "stored",
    "FAILED": "stored",
    "DUPLICATE": "duplicate",
    "CONFLICT": "conflict",
    "REFUSED": "refused",
    "ACCEPTED": "accepted",
    "UNKNOWN": "unknown",
}

_Item: TypeAlias = bytes | HttpProblem
"""The document of an event, or why the request could not be read beyond the events before."""


class IngestBatch:
    """Answers 200 with one result per event; one bad event never fails the others."""

    def __init__(self, intake: Intake, cache: Cache, settings: GatewaySettings) -> None:
        """`cache` learns of the events that went to the queue."""
        self._intake = intake
        self._cache = cache
        self._settings = settings
        self._limits = BodyLimits(
            settings.http_batch_request_bytes_max,
            settings.http_body_seconds_max,
            settings.http_batch_request_seconds_max,
            settings.http_batch_request_bytes_per_second_min,
        )
        self._timeouts = Timeouts()
        self._uploads = CapacityLimit(settings.http_batch_requests_max, share=settings.caller_share_max)
        self._results = CapacityLimit(settings.http_batch_request_results_bytes_max, share=settings.caller_share_max)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        headers, caller, counted_as = admitted(scope)
        request = RequestStream(headers, receive, send, limits=self._limits, timeouts=self._timeouts)
        try:
            self._uploads.acquire(counted_as)
        except OverloadedError as error:
            await request.respond(error_response(error))
            return
        results = _Results(Holding(self._results, counted_as))
        try:
            await self._serve(request, caller, results)
        except ClientGoneError:
            return
        except (HttpProblem, RateExceededError, RetryableError) as error:
            await request.respond(error_response(error))
        except Exception:
            await request.fail()
            raise
        finally:
            results.holding.release()
            self._uploads.release(counted_as)

    async def _serve(self, request: RequestStream, caller: Caller, results: "_Results") -> None:
        caller.check_rate()
        lines = body_format(request.headers, lines=True) == LINES
        if request.headers.idempotency_key is not None:
            # Ids made of it and of positions would name other events if a client leaves some out when it repeats.
            raise HttpProblem(MALFORMED, "A batch has no id; its events have.", errors=[_KEY_OF_BATCH])
        item_bytes_max = self._settings.body_bytes_max
        framer: Framer = LineFramer(item_bytes_max) if lines else ArrayFramer(item_bytes_max)
        respond_async = preferences(request.headers).respond_async
        with in_hand():
            batch = _Batch(self._intake, self._settings, caller=caller, results=results, respond_async=respond_async)
            await batch.read(request, framer)
        more = [("preference-applied", "respond-async")] if respond_async and batch.counts.accepted else []
        await request.respond_in_parts(HttpResponse(200, b""), batch.report(), *more)
        for start in range(0, len(batch.queued), _NOTED_MAX):
            await self._cache.put_queued(batch.queued[start : start + _NOTED_MAX])


class _Results:
    """The encoded results of one request, by group; `holding` is their part of the limit of all results."""

    def __init__(self, holding: Holding) -> None:
        """There are none yet."""
        self.holding = holding
        self.groups: list[bytes] = []

    def place(self) -> int:
        """Return the place of the next group's results."""
        self.groups.append(b"")
        return len(self.groups) - 1

    def keep(self, place: int, results: bytes, *, reserved: int) -> None:
        """Keep the results of a group, for which `reserved` bytes are held already."""
        self.groups[place] = b"," + results if place else results
        self.holding.correct(len(results) - reserved)


class _Batch:
    """The events of one request: read, submitted in groups. Of each group it keeps the encoded results only."""

    def __init__(
        self, intake: Intake, settings: GatewaySettings, *, caller: Caller, results: _Results, respond_async: bool
    ) -> None:
        self._intake = intake
        self._settings = settings
        self._caller = caller
        self._results = results
        self._send = intake.enqueue if respond_async else intake.submit
        self._slots = asyncio.Semaphore(settings.http_batch_request_groups_in_flight_max)
        self._received_at = now()
        self._group = deque[_Item]()
        self._group_bytes = 0
        self._started = False
        self._failure: RetryableError | None = None
        self.complete = True
        self.counts = Counts()
        self.queued: list[tuple[UUID, str]] = []

    async def read(self, request: RequestStream, framer: Framer) -> None:
        """Read the request to its end and submit its events.

        Raises:
            HttpProblem: it cannot be read at all, or is over a limit, and nothing was submitted.
            RetryableError: nothing was taken. ClientGoneError.
        """
        refusal, gone = None, None
        async with asyncio.TaskGroup() as submitting:
            try:
                refusal = await self._frame(request, framer, submitting)
            except ClientGoneError as error:
                # What was submitted is stored all the same.
                gone = error
            if gone is None and (refusal is None or not self._nothing_to_report(refusal)):
                self._stop_at(refusal)
                await self._start_group(submitting)
        if gone is not None:
            raise gone
        if refusal is not None and not self._started:
            raise refusal
        if self._failure is not None and self.counts.unknown == self.counts.received - self.counts.refused:
            raise self._failure

    def report(self) -> list[bytes]:
        """Return the body of the response, in parts."""
        complete = b"true" if self.complete else b"false"
        end = b'],"counts":' + msgspec.json.encode(self.counts) + b',"complete":' + complete + b"}"
        return [b'{"results":[', *self._results.groups, end]

    async def _frame(self, request: RequestStream, framer: Framer, submitting: asyncio.TaskGroup) -> HttpProblem | None:
        """Cut the request into events; return why that ended before its end, or None."""
        try:
            async for chunk in request.chunks():
                for document in framer.feed(chunk):
                    await self._add(document, submitting)
            for document in framer.finish():
                await self._add(document, submitting)
        except FramingError as error:
            return HttpProblem(MALFORMED, f"Item {error.position} {error.detail}.", errors=[Problem("", error.detail)])
        except HttpProblem as error:
            return error
        if self.counts.received == 0 and isinstance(framer, LineFramer):
            return HttpProblem(MALFORMED, "There is no event in the body.")
        return None

    async def _add(self, document: bytes, submitting: asyncio.TaskGroup) -> None:
        settings = self._settings
        if self.counts.received >= settings.http_batch_request_events_max:
            detail = f"A batch must not hold more than {settings.http_batch_request_events_max} events."
            raise HttpProblem(TOO_LARGE, detail)
        self.counts.received += 1
        self._group.append(document)
        self._group_bytes += len(document)
        if (
            len(self._group) >= settings.http_batch_request_group_events
            or self._group_bytes >= settings.http_batch_request_group_bytes
        ):
            reserved = len(self._group) * _RESULT_BYTES
            try:
                await self._results.holding.wait(reserved, seconds_max=settings.http_batch_request_wait_seconds_max)
            except OverloadedError as error:
                raise HttpProblem(OVERLOADED, "There are too many results that nobody has read yet.") from error
            await self._start_group(submitting, reserved=reserved)

    def _nothing_to_report(self, refusal: HttpProblem) -> bool:
        """Return whether the whole request is refused: it has no event, or broke a limit before any was submitted."""
        return not self._started and (self.counts.received == 0 or refusal.type is not MALFORMED)

    def _stop_at(self, refusal: HttpProblem | None) -> None:
        """Add the reason why reading ended early, as the result of the event that could not be read."""
        if refusal is not None:
            self.complete = False
            self.counts.received += 1
            self._group.append(refusal)

    async def _start_group(self, submitting: asyncio.TaskGroup, *, reserved: int = 0) -> None:
        """Submit the group in a task of its own; wait while the maximum of groups is in flight."""
        self._started = True
        group, self._group, self._group_bytes = self._group, deque(), 0
        if group:
            first = self.counts.received - len(group)
            await self._slots.acquire()
            submitting.create_task(self._submit_group(self._results.place(), first, group, reserved))

    async def _submit_group(self, place: int, first: int, group: deque[_Item], reserved: int) -> None:
        received_at = stamp(self._received_at, first)
        try:
            answered = await self._intake.accept_part(
                _emptied(group), self._read_item, self._caller, hand_over=self._hand_over, received_at=received_at
            )
            failpoint("api-gateway.group_answered")
        finally:
            self._slots.release()
        results = [_item_result(index, *each) for index, each in enumerate(answered, first)]
        self.queued += [(event.event_id, event.source) for event, result in answered if event and _is_queued(result)]
        for item in results:
            name = _COUNT_OF[item.status]
            setattr(self.counts, name, getattr(self.counts, name) + 1)
            self.counts.failed += item.status == "FAILED"
        self._results.keep(place, msgspec.json.encode(results)[1:-1], reserved=reserved)

    def _read_item(self, item: _Item, received_at: datetime) -> Envelope:
        if isinstance(item, HttpProblem):
            raise InvalidEventError(item.errors or [Problem("", item.detail)])
        return read_event(item, received_at, sender=self._caller.name)

    async def _hand_over(self, events: Sequence[Envelope]) -> list[Result]:
        """Submit; wait where the backlog is full. After a failure of one group nothing more is tried."""
        deadline = asyncio.get_running_loop().time() + self._settings.http_batch_request_wait_seconds_max
        while self._failure is None:
            try:
                return await self._send(events)
            except OverloadedError as error:
                # Nothing was taken. Waiting here stops the reading of the request.
                if asyncio.get_running_loop().time() > deadline:
                    self._failure = error
                await asyncio.sleep(_PAUSE_SECONDS)
            except RetryableError as error:
                self._failure = error
                raise
        raise UnavailableError("not tried")


def _emptied(group: deque[_Item]) -> Iterator[_Item]:
    """Yield the items; a document is let go once it is read, since its event has a copy of the payload."""
    while group:
        yield group.popleft()


def _is_queued(result: Result) -> bool:
    return result.kind is ResultKind.QUEUED


def _item_result(index: int, event: Envelope | None, result: Result) -> ItemResult:
    event_id = msgspec.UNSET if event is None else event.event_id
    if isinstance(result, ErrorResult):
        if isinstance(result.error, InvalidEventError):
            return ItemResult(index=index, status="REFUSED", errors=result.error.problems)
        return ItemResult(index=index, status="UNKNOWN", event_id=event_id, errors=_UNKNOWN)
    held = isinstance(result, Recorded) and result.status is RecordStatus.HELD and result.kind is ResultKind.STORED
    if held or not isinstance(result, Recorded):
        return ItemResult(index=index, status="ACCEPTED", event_id=event_id)
    of_record: ItemStatus = "SUCCESS" if result.status is RecordStatus.SUCCESS else "FAILED"
    return ItemResult(
        index=index,
        status=_NOT_STORED.get(result.kind, of_record),
        event_id=event_id,
        id=result.record_id,
        raw_event_id=result.raw_event_id,
        errors=result.errors or msgspec.UNSET,
    )
