"""`POST /api/ingest`: one event in, its record out. A plain ASGI endpoint."""

import asyncio
from functools import partial
from typing import Final

import msgspec
from starlette.types import Receive, Scope, Send

from api_gateway.http.headers import NO_PREFERENCES, Preferences, body_format, idempotency_key, preferences
from api_gateway.http.problems import CONFLICT, FAILED, HttpProblem, error_response, problem_response
from api_gateway.http.request import BodyLimits, ClientGoneError, RequestStream, admitted
from api_gateway.http.whole import WholeRequest
from api_gateway.ingest.mapping import read_event
from api_gateway.schemas import HttpResponse, Ingested, Queued
from api_gateway.settings import GatewaySettings
from shared.auth.authenticator import Caller
from shared.auth.rate import RateExceededError
from shared.cache import Cache
from shared.contracts.errors import RetryableError
from shared.contracts.event import Channel, Envelope, now
from shared.contracts.receipt import UNREADABLE_SOURCE
from shared.contracts.result import ErrorResult, Recorded, RecordStatus, Result, ResultKind
from shared.counters import count
from shared.failpoints import failpoint
from shared.intake import HandOver, Intake
from shared.runtime.limits import CapacityLimit
from shared.runtime.timeouts import Timeouts

_REPLAYED: Final = (("idempotency-replayed", "true"),)
_NULL: Final = msgspec.Raw(b"null")


class IngestOne:
    """Answers 201 after the commit, 200 for a duplicate, 202 once the event is durable in the queue."""

    def __init__(self, intake: Intake, cache: Cache, settings: GatewaySettings) -> None:
        """`cache` learns of the events that went to the queue."""
        self._intake = intake
        self._cache = cache
        self._limits = BodyLimits(
            settings.body_bytes_max, settings.http_body_seconds_max, settings.http_body_seconds_max
        )
        self._timeouts = Timeouts()
        self._bodies = CapacityLimit(settings.bodies_bytes_max, share=settings.caller_share_max)
        self._notes: set[asyncio.Future[None]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request. The body counts as used capacity until the response, which may repeat it, is read."""
        headers, caller, counted_as = admitted(scope)
        request = RequestStream(headers, receive, send, limits=self._limits, timeouts=self._timeouts)
        taken = 0
        try:
            caller.check_rate()
            body_format(headers, lines=False)
            key = idempotency_key(headers)
            preferred = preferences(headers)
            document, taken = await request.body(self._bodies, counted_as)
            failpoint("api-gateway.body_read")
            answered = await self._intake.accept(
                [document],
                lambda body, received_at: read_event(body, received_at, sender=caller.name, header_key=key),
                caller,
                hand_over=self._hand_over(preferred),
            )
            event, result = answered[0]
            if isinstance(result, ErrorResult):
                await request.respond(error_response(result.error))
            elif event is not None:
                failpoint("api-gateway.before_response")
                await request.respond(_response(event, result), *_applied(preferred, result))
                if result.kind is ResultKind.QUEUED:
                    await self._cache.put_queued([(event.event_id, event.source)])
        except ClientGoneError:
            return
        except (HttpProblem, RateExceededError, RetryableError) as error:
            _count_refusal(error)
            await request.respond(error_response(error))
        except Exception:
            await request.fail()
            raise
        finally:
            if taken:
                self._bodies.release(counted_as, taken)

    def serve_whole(self, request: WholeRequest, caller: Caller, counted_as: str) -> None:
        """Serve one request that came as a whole and has no preferences. It is answered now or later."""
        try:
            caller.check_rate()
            body_format(request.headers, lines=False)
            key = idempotency_key(request.headers)
            request.acquire(self._bodies, counted_as, len(request.body))
            failpoint("api-gateway.body_read")
            self._intake.accept_one(
                request.body,
                lambda body, received_at: read_event(body, received_at, sender=caller.name, header_key=key),
                caller,
                answer=partial(self._answer, request),
            )
        except (HttpProblem, RateExceededError, RetryableError) as error:
            _count_refusal(error)
            request.respond(error_response(error))

    def _answer(self, request: WholeRequest, event: Envelope | None, result: Result | BaseException) -> None:
        try:
            if isinstance(result, BaseException):
                request.fail(result)
            elif isinstance(result, ErrorResult):
                request.respond(error_response(result.error))
            elif event is not None:
                failpoint("api-gateway.before_response")
                request.respond(_response(event, result))
                if result.kind is ResultKind.QUEUED:
                    note = asyncio.ensure_future(self._cache.put_queued([(event.event_id, event.source)]))
                    self._notes.add(note)
                    note.add_done_callback(self._notes.discard)
        except Exception as error:  # noqa: BLE001 - nobody else would answer
            request.fail(error)

    def _hand_over(self, preferred: Preferences) -> HandOver | None:
        if preferred is NO_PREFERENCES:
            return None
        if preferred.wait_seconds is not None:
            return partial(self._intake.submit_within, preferred.wait_seconds)
        return self._intake.enqueue if preferred.respond_async else self._intake.submit


def _count_refusal(error: Exception) -> None:
    kind = ResultKind.UNKNOWN if isinstance(error, RetryableError) else ResultKind.REFUSED
    count(Channel.HTTP, kind, source=UNREADABLE_SOURCE, received_at=now())


def _response(event: Envelope, result: Result) -> HttpResponse:
    """Return the response for an event that is stored, or queued."""
    if not isinstance(result, Recorded):
        return _accepted(event)
    if result.kind is ResultKind.CONFLICT:
        detail = "An event with this source and id is stored already, with another payload."
        return problem_response(CONFLICT, detail, event_id=event.event_id)
    duplicate = result.kind is ResultKind.DUPLICATE
    headers = _REPLAYED if duplicate else ()
    if result.status is RecordStatus.HELD:
        return _accepted(event, headers)
    record = _ingested(event, result)
    if result.status is RecordStatus.FAILED:
        detail = "The event is kept and its record is FAILED; the reasons are in the record."
        return problem_response(FAILED, detail, headers=headers, event_id=event.event_id, record=record)
    return HttpResponse(200 if duplicate else 201, msgspec.json.encode(record), headers)


def _accepted(event: Envelope, headers: tuple[tuple[str, str], ...] = ()) -> HttpResponse:
    """Return the response for an event that is durable and not processed yet."""
    location = ("location", f"/api/events/{event.event_id}")
    return HttpResponse(202, msgspec.json.encode(Queued(event.event_id)), (location, *headers))


def _ingested(event: Envelope, result: Recorded) -> Ingested:
    payload = result.payload(event.body, event.content_type)
    return Ingested(
        id=result.record_id,
        raw_event_id=result.raw_event_id,
        event_id=event.event_id,
        status="FAILED" if payload is None else "SUCCESS",
        result_payload=_NULL if payload is None else msgspec.Raw(payload),
        processed_at=result.processed_at,
        errors=result.errors if payload is None or result.errors else msgspec.UNSET,
    )


def _applied(preferred: Preferences, result: Result) -> tuple[tuple[str, str], ...]:
    if preferred is NO_PREFERENCES:
        return ()
    applied = []
    if preferred.respond_async and result.kind is ResultKind.QUEUED:
        applied.append("respond-async")
    if preferred.wait_seconds is not None:
        applied.append(f"wait={preferred.wait_seconds}")
    return (("preference-applied", ", ".join(applied)),) if applied else ()
