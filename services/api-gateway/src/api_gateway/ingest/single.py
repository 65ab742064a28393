"""`POST /api/ingest`: one event in, its record out. A plain ASGI endpoint."""

import asyncio
from typing import Final

import msgspec
from starlette.types import Receive, Scope, Send

from api_gateway.http.headers import Preferences, body_format, idempotency_key, preferences
from api_gateway.http.problems import (
    CONFLICT,
    FAILED,
    HttpProblem,
    error_response,
    problem_response,
    rate_exceeded,
)
from api_gateway.http.request import BodyLimits, ClientGoneError, RequestStream, admitted
from api_gateway.ingest import metrics
from api_gateway.ingest.mapping import read_event
from api_gateway.schemas import HttpResponse, Queued, ingested
from api_gateway.settings import GatewaySettings
from shared.auth.authenticator import Caller
from shared.auth.rate import RateExceededError
from shared.cache import Cache
from shared.contracts.errors import EtlPayError, InvalidEventError, OutcomeUnknownError, RetryableError
from shared.contracts.event import Envelope, now
from shared.contracts.result import Recorded, RecordStatus, Result, ResultKind
from shared.counters import in_hand
from shared.failpoints import failpoint
from shared.runtime.limits import CapacityLimit
from shared.runtime.timeouts import Timeouts
from shared.submit.submitter import Submitter

_REPLAYED: Final = (("idempotency-replayed", "true"),)


class IngestOne:
    """Answers 201 after the commit, 200 for a duplicate, 202 once the event is durable in the queue."""

    def __init__(self, submitter: Submitter, cache: Cache, settings: GatewaySettings) -> None:
        """`cache` learns of the events that went to the queue."""
        self._submitter = submitter
        self._cache = cache
        self._limits = BodyLimits(
            settings.body_bytes_max, settings.http_body_seconds_max, settings.http_body_seconds_max
        )
        self._timeouts = Timeouts()
        self._bodies = CapacityLimit(settings.bodies_bytes_max, share=settings.caller_share_max)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request. What the event takes of memory is taken until the answer, which may repeat it, is read."""
        headers, caller, counted_as = admitted(scope)
        request = RequestStream(headers, receive, send, limits=self._limits, timeouts=self._timeouts)
        event: Envelope | None = None
        taken = 0
        try:
            _spend(caller)
            body_format(headers, lines=False)
            key = idempotency_key(headers)
            preferred = preferences(headers)
            document, taken = await request.body(self._bodies, counted_as)
            failpoint("api-gateway.body_read")
            with in_hand():
                event = read_event(document, received_at=now(), sender=caller.name, header_key=key)
                caller.check_source(event.source)
                outcome = await self._submit(event, preferred)
            # Nothing may wait between the outcome and its count: a drain would cut it off there.
            metrics.count_outcome(event, outcome)
            failpoint("api-gateway.before_response")
            await request.respond(outcome_response(event, outcome), *_applied(preferred, outcome))
            if outcome.kind is ResultKind.QUEUED:
                await self._cache.put_queued([(event.event_id, event.source)])
        except ClientGoneError:
            return
        except (HttpProblem, InvalidEventError, RetryableError) as error:
            metrics.count_error(error, event)
            await request.respond(error_response(error))
        except Exception:
            await request.fail()
            raise
        finally:
            if taken:
                self._bodies.release(counted_as, taken)

    async def _submit(self, event: Envelope, preferred: Preferences) -> Result:
        """Submit; where a drain cuts the wait off, or a fault of ours, count the event as unconfirmed."""
        try:
            return await self._hand_over(event, preferred)
        except EtlPayError:
            raise
        except BaseException:
            metrics.count_unanswered([event])
            raise

    async def _hand_over(self, event: Envelope, preferred: Preferences) -> Result:
        """Submit and wait as long as the client would like to.

        Where that is over before there is an outcome the event goes to the queue as well: then 202 is the truth, and
        the ledger takes an event that comes over both transports once.
        """
        if preferred.wait_seconds is None:
            hand_over = self._submitter.enqueue if preferred.respond_async else self._submitter.submit
            return (await hand_over([event]))[0]
        try:
            async with asyncio.timeout(preferred.wait_seconds):
                return (await self._submitter.submit([event]))[0]
        except TimeoutError:
            pass
        try:
            return (await self._submitter.enqueue([event]))[0]
        except RetryableError as error:
            raise OutcomeUnknownError("it may still be stored") from error


def _spend(caller: Caller) -> None:
    """Count the event. Raises HttpProblem (over the caller's rate)."""
    try:
        caller.spend(1)
    except RateExceededError as error:
        raise rate_exceeded(error) from error


def outcome_response(event: Envelope, outcome: Result) -> HttpResponse:
    """Return the answer that tells the client what became of its event."""
    if not isinstance(outcome, Recorded):
        location = ("location", f"/api/events/{event.event_id}")
        return HttpResponse(202, msgspec.json.encode(Queued(event.event_id)), (location,))
    if outcome.kind is ResultKind.CONFLICT:
        detail = "An event with this source and id is stored already, with another payload."
        return problem_response(CONFLICT, detail, event_id=event.event_id)
    record = ingested(event, outcome)
    duplicate = outcome.kind is ResultKind.DUPLICATE
    headers = _REPLAYED if duplicate else ()
    if outcome.status is RecordStatus.FAILED:
        detail = "The event is kept and its record is FAILED; the reasons are in the record."
        return problem_response(FAILED, detail, headers=headers, event_id=event.event_id, record=record)
    return HttpResponse(200 if duplicate else 201, msgspec.json.encode(record), headers)


def _applied(preferred: Preferences, outcome: Result) -> tuple[tuple[str, str], ...]:
    applied = []
    if preferred.respond_async and outcome.kind is ResultKind.QUEUED:
        applied.append("respond-async")
    if preferred.wait_seconds is not None:
        applied.append(f"wait={preferred.wait_seconds}")
    return (("preference-applied", ", ".join(applied)),) if applied else ()
