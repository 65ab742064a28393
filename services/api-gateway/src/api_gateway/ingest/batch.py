"""`POST /api/ingest/batch`: many events in, one result each out. Streamed: never held whole. A plain ASGI endpoint."""

import asyncio
from collections.abc import Sequence
from itertools import repeat
from typing import Final
from uuid import UUID

import msgspec
from starlette.types import Receive, Scope, Send

from api_gateway.http.headers import LINES, body_format, preferences
from api_gateway.http.problems import MALFORMED, OVERLOADED, TOO_LARGE, HttpProblem, error_response, rate_exceeded
from api_gateway.http.request import BodyLimits, ClientGoneError, RequestStream, admitted
from api_gateway.ingest import metrics
from api_gateway.ingest.mapping import read_event
from api_gateway.schemas import Counts, HttpResponse, ItemResult, item_result
from api_gateway.settings import GatewaySettings
from shared.auth.authenticator import Caller
from shared.auth.rate import RateExceededError
from shared.cache import Cache
from shared.contracts.errors import InvalidEventError, OverloadedError, Problem, RetryableError, UnavailableError
from shared.contracts.event import Envelope, now
from shared.contracts.result import Result, ResultKind
from shared.counters import in_hand
from shared.failpoints import failpoint
from shared.framing import ArrayFramer, Framer, FramingError, LineFramer
from shared.runtime.limits import CapacityLimit, Holding
from shared.runtime.timeouts import Timeouts
from shared.submit.submitter import Submitter

_PAUSE_SECONDS: Final = 0.1
_NOTED_MAX: Final = 1_000
# About what a result is as JSON: two numbers, an id and a status.
_RESULT_BYTES: Final = 160
_UNKNOWN: Final = (Problem("", "no confirmation; send it again with the same id"),)
_KEY_OF_BATCH: Final = Problem("/header/Idempotency-Key", "belongs to one event; give each item its own `id`")
_COUNT_OF: Final = {
    "SUCCESS": "stored",
    "FAILED": "stored",
    "DUPLICATE": "duplicate",
    "CONFLICT": "conflict",
    "REFUSED": "refused",
    "ACCEPTED": "accepted",
    "UNKNOWN": "unknown",
}


class IngestBatch:
    """Answers 200 with one result per event; one bad event never fails the others."""

    def __init__(self, submitter: Submitter, cache: Cache, settings: GatewaySettings) -> None:
        """`cache` learns of the events that went to the queue."""
        self._submitter = submitter
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
        except (HttpProblem, RetryableError) as error:
            await request.respond(error_response(error))
        except Exception:
            await request.fail()
            raise
        finally:
            results.holding.release()
            self._uploads.release(counted_as)

    async def _serve(self, request: RequestStream, caller: Caller, results: "_Results") -> None:
        try:
            # How many events there are is known when they are read; they count then.
            caller.spend(0)
        except RateExceededError as error:
            raise rate_exceeded(error) from error
        lines = body_format(request.headers, lines=True) == LINES
        if request.headers.idempotency_key is not None:
            # Ids made of it and the place of each event would name other events where a client leaves some out, and
            # repeating a batch must be safe.
            raise HttpProblem(MALFORMED, "A batch has no id; its events have.", errors=[_KEY_OF_BATCH])
        item_bytes_max = self._settings.body_bytes_max
        framer: Framer = LineFramer(item_bytes_max) if lines else ArrayFramer(item_bytes_max)
        respond_async = preferences(request.headers).respond_async
        run = _Run(self._submitter, self._settings, caller=caller, results=results, respond_async=respond_async)
        with in_hand():
            await run.read(request, framer)
        more = [("preference-applied", "respond-async")] if respond_async and run.counts.accepted else []
        await request.respond_in_parts(HttpResponse(200, b""), run.report(), *more)
        for start in range(0, len(run.queued), _NOTED_MAX):
            await self._cache.put_queued(run.queued[start : start + _NOTED_MAX])


class _Results:
    """The results of one request by group, encoded; `holding` is what they take of the limit for those of all."""

    def __init__(self, holding: Holding) -> None:
        """There are none yet."""
        self.holding = holding
        self.groups: list[bytes] = []

    def place(self) -> int:
        """Return the place of the next group's results."""
        self.groups.append(b"")
        return len(self.groups) - 1

    def keep(self, place: int, results: bytes, *, reserved: int) -> None:
        """Keep a group's results, for which so much was reserved."""
        self.groups[place] = b"," + results if place else results
        self.holding.correct(len(results) - reserved)


class _Run:
    """The events of one request on their way, in groups; keeps of each group only its results, encoded."""

    def __init__(
        self,
        submitter: Submitter,
        settings: GatewaySettings,
        *,
        caller: Caller,
        results: _Results,
        respond_async: bool,
    ) -> None:
        self._caller = caller
        self._results = results
        self._send = submitter.enqueue if respond_async else submitter.submit
        self._settings = settings
        self._places = asyncio.Semaphore(settings.http_batch_request_groups_in_flight_max)
        self._group: list[tuple[int, Envelope | ItemResult]] = []
        self._group_bytes = 0
        self._started = False
        self._failure: RetryableError | None = None
        self.complete = True
        self.counts = Counts()
        self.queued: list[tuple[UUID, str]] = []

    async def read(self, request: RequestStream, framer: Framer) -> None:
        """Read the request to its end and hand over its events.

        Raises:
            HttpProblem: it cannot be read at all, or is over a limit, and nothing was handed over.
            RetryableError: nothing was taken. ClientGoneError.
        """
        refusal, gone = None, None
        async with asyncio.TaskGroup() as submitting:
            try:
                refusal = await self._frame(request, framer, submitting)
            except ClientGoneError as error:
                # What was handed over is stored all the same.
                gone = error
            if gone is None and (refusal is None or not self._nothing_to_report(refusal)):
                self._stop_at(refusal)
                await self._hand_over(submitting)
        if gone is not None:
            raise gone
        if refusal is not None and not self._started:
            raise refusal
        if self._failure is not None and self.counts.unknown == self.counts.received - self.counts.refused:
            raise self._failure

    def report(self) -> list[bytes]:
        """Return the answer's body, in parts."""
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
        index = self.counts.received
        if index >= self._settings.http_batch_request_events_max:
            raise HttpProblem(
                TOO_LARGE, f"A batch must not hold more than {self._settings.http_batch_request_events_max} events."
            )
        self.counts.received += 1
        try:
            event = read_event(document, received_at=now(), sender=self._caller.name)
            self._caller.check_source(event.source)
            self._group.append((index, event))
        except InvalidEventError as error:
            self._group.append((index, ItemResult(index=index, status="REFUSED", errors=error.problems)))
        self._group_bytes += len(document)
        settings = self._settings
        if (
            len(self._group) >= settings.http_batch_request_group_events
            or self._group_bytes >= settings.http_batch_request_group_bytes
        ):
            reserved = len(self._group) * _RESULT_BYTES
            try:
                await self._results.holding.wait(reserved, seconds_max=settings.http_batch_request_wait_seconds_max)
            except OverloadedError as error:
                raise HttpProblem(OVERLOADED, "There are too many results that nobody has read yet.") from error
            await self._hand_over(submitting, reserved=reserved)

    def _nothing_to_report(self, refusal: HttpProblem) -> bool:
        """Tell whether the request as a whole is refused: no event in it, or a limit passed before any was taken."""
        return not self._started and (self.counts.received == 0 or refusal.type is not MALFORMED)

    def _stop_at(self, refusal: HttpProblem | None) -> None:
        """Note where reading ended early as the result of the event that could not be read."""
        if refusal is None:
            return
        self.complete = False
        index = self.counts.received
        self.counts.received += 1
        errors = refusal.errors or (Problem("", refusal.detail),)
        self._group.append((index, ItemResult(index=index, status="REFUSED", errors=errors)))

    async def _hand_over(self, submitting: asyncio.TaskGroup, *, reserved: int = 0) -> None:
        """Start the group on its way; wait while as many as allowed are on theirs."""
        self._started = True
        group, self._group, self._group_bytes = self._group, [], 0
        self._caller.overdraw(len(group))
        if not group:
            return
        await self._places.acquire()
        submitting.create_task(self._settle(self._results.place(), group, reserved))

    async def _settle(self, place: int, group: Sequence[tuple[int, Envelope | ItemResult]], reserved: int) -> None:
        events = [event for _, event in group if isinstance(event, Envelope)]
        try:
            outcomes = await self._submit(events)
            failpoint("api-gateway.group_answered")
        finally:
            self._places.release()
        metrics.count_group(events, outcomes, refused=len(group) - len(events))
        answers = repeat(None) if isinstance(outcomes, RetryableError) else iter(outcomes)
        results = [
            entry if isinstance(entry, ItemResult) else self._result(index, entry, next(answers))
            for index, entry in group
        ]
        for result in results:
            name = _COUNT_OF[result.status]
            setattr(self.counts, name, getattr(self.counts, name) + 1)
            self.counts.failed += result.status == "FAILED"
        self._results.keep(place, msgspec.json.encode(results)[1:-1], reserved=reserved)

    def _result(self, index: int, event: Envelope, outcome: Result | None) -> ItemResult:
        if outcome is None:
            return ItemResult(index=index, status="UNKNOWN", event_id=event.event_id, errors=_UNKNOWN)
        if outcome.kind is ResultKind.QUEUED:
            self.queued.append((event.event_id, event.source))
        return item_result(index, event, outcome)

    async def _submit(self, events: list[Envelope]) -> Sequence[Result] | RetryableError:
        """Return the outcomes, or why there are none, and then nothing more is tried."""
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
                return error
            except BaseException:
                # A drain cuts the wait off, or a fault of ours.
                metrics.count_unanswered(events)
                raise
        return UnavailableError("not tried")
