"""`etlpay.EtlService`: requests come in as bytes, so that what is not protobuf is refused and never a fault of ours."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Sequence
from time import monotonic
from typing import Final, NoReturn, Protocol, TypeAlias, TypeVar

import grpc
import grpc.aio
import structlog
from google.protobuf.message import DecodeError
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from grpc_ingest import metrics, problems
from grpc_ingest.admission import RejectedCallError, Room, Terms, admit
from grpc_ingest.mapping import Answer, batch_problem, batch_response, to_envelope
from shared.auth.authenticator import Access
from shared.auth.rate import RateExceededError
from shared.auth.scopes import OutOfScopeError
from shared.contracts.errors import OverloadedError, RefusedError, RetryableError
from shared.contracts.event import Envelope, now, stamp
from shared.contracts.outcome import Accepted, Disposition, Outcome, Problem
from shared.counters import in_hand
from shared.failpoints import failpoint
from shared.patience import Patience
from shared.rpc import etlpay_pb2 as pb
from shared.wire import split_batches

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

T = TypeVar("T")
A = TypeVar("A")

SERVICE_NAME: Final = pb.DESCRIPTOR.services_by_name["EtlService"].full_name

Context = grpc.aio.ServicerContext[bytes, pb.IngestBatchResponse]
# A batch's answer to come, what ends the stream after those before it, or its end.
_AnswerOfStream: TypeAlias = asyncio.Task[pb.IngestBatchResponse | Status] | Status | None
_UnaryContext = grpc.aio.ServicerContext[bytes, T]


class Submitting(Protocol):
    """Hands events over; `shared.submission.submitter.Submitter` is the real one."""

    async def submit(self, events: Sequence[Envelope]) -> list[Outcome | Accepted]:
        """Return one outcome per event. Raises RetryableError."""

    async def enqueue(self, events: Sequence[Envelope]) -> list[Outcome | Accepted]:
        """Return once the events are durable in the queue. Raises RetryableError."""


class EtlServicer:
    """Answers the calls of `etlpay.EtlService`."""

    def __init__(  # noqa: PLR0913 - the limits of a call
        self,
        submitter: Submitting,
        access: Access,
        *,
        batch_events_max: int,
        batch_bytes_max: int,
        body_bytes_max: int,
        calls_read_max: int,
        call_seconds_max: float,
        streams_max: int,
        stream_batches_max: int,
        stream_seconds_max: float,
        requests_bytes_max: int,
    ) -> None:
        """The limits: of requests in a batch, of bytes handed over at once, of one payload.

        Of calls with one message: how many are read at once, and for how long. Of streams: how many there are, the
        batches of each in hand, and the time until its next one. `requests_bytes_max` bounds all requests in hand.
        """
        self._submitter = submitter
        self._access = access
        self._batch_events_max = batch_events_max
        self._batch_bytes_max = batch_bytes_max
        self._body_bytes_max = body_bytes_max
        self._reading = asyncio.Semaphore(calls_read_max)
        self._call_seconds_max = call_seconds_max
        self._patience = Patience()
        self._streams_max = streams_max
        self._stream_batches_max = stream_batches_max
        self._stream_seconds_max = stream_seconds_max
        self._room = Room(requests_bytes_max)
        self._streams = 0
        self._calls = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._draining = asyncio.Event()

    def handler(self) -> grpc.GenericRpcHandler:
        """Return the handlers to add to a server; they get each request as the bytes that came.

        Every call is a stream to the library, whose calls with one message are read before anybody could refuse them.
        On the wire both are the same.
        """
        return grpc.method_handlers_generic_handler(
            SERVICE_NAME,
            {
                "Ingest": grpc.stream_unary_rpc_method_handler(
                    self.ingest, response_serializer=pb.IngestResponse.SerializeToString
                ),
                "IngestBatch": grpc.stream_unary_rpc_method_handler(
                    self.ingest_batch, response_serializer=pb.IngestBatchResponse.SerializeToString
                ),
                "IngestStream": grpc.stream_stream_rpc_method_handler(
                    self.ingest_stream, response_serializer=pb.IngestBatchResponse.SerializeToString
                ),
            },
        )

    async def drain(self) -> None:
        """Let streams end after the batches they have in hand, and return when no call is left."""
        self._draining.set()
        await self._idle.wait()

    async def ingest(self, _requests: object, context: _UnaryContext[pb.IngestResponse]) -> pb.IngestResponse:
        """Store one event."""
        return await self._answer_call(context, lambda: self._ingest(context))

    async def ingest_batch(
        self, _requests: object, context: _UnaryContext[pb.IngestBatchResponse]
    ) -> pb.IngestBatchResponse:
        """Store the events of one batch; one response per request, in order."""
        return await self._answer_call(context, lambda: self._ingest_one_batch(context))

    async def ingest_stream(self, _requests: object, context: Context) -> None:
        """Store batch after batch; while too many are in hand, the next one is not read."""
        await self._answer_call(context, lambda: self._admit_stream(context))

    async def _answer_call(self, context: grpc.aio.ServicerContext[bytes, T], answer: Callable[[], Awaitable[A]]) -> A:
        self._calls += 1
        self._idle.clear()
        try:
            try:
                return await answer()
            except RejectedCallError as error:
                status = error.status
            # gRPC would tell the client the text of any exception, and that may hold anything.
            except Exception:
                log.exception("a call failed; the client is told that its outcome is unknown")
                status = problems.internal()
            return await _abort(context, status)
        finally:
            self._calls -= 1
            if self._calls == 0:
                self._idle.set()

    async def _read(self, context: _UnaryContext[T]) -> bytes:
        """Return the message of a call that has one; only so many are read at once.

        Else what calls take would be their number times the largest message, before any of it is in a count.
        """
        deadline = monotonic() + self._call_seconds_max
        try:
            with self._patience.until(deadline):
                async with self._reading:
                    request = await context.read()
        except TimeoutError as error:
            raise RejectedCallError(problems.silent(self._call_seconds_max)) from error
        if not isinstance(request, bytes):  # grpc.aio.EOF
            raise RejectedCallError(problems.refused(RefusedError([Problem("", "must be one message, not none")])))
        return request

    async def _ingest(self, context: _UnaryContext[pb.IngestResponse]) -> pb.IngestResponse:
        terms = admit(context, self._access)
        request = await self._read(context)
        self._room.take(len(request))
        try:
            message = _parse(pb.IngestRequest, request)
            ((event_id, answer),) = await self._answer([message], terms)
        finally:
            self._room.give(len(request))
        match answer:
            case OutOfScopeError():
                raise RejectedCallError(problems.out_of_scope())
            case RefusedError():
                raise RejectedCallError(problems.refused(answer))
            case RetryableError():
                raise RejectedCallError(problems.retry_later(answer))
            case Outcome(disposition=Disposition.CONFLICT):
                raise RejectedCallError(problems.conflict())
            case _:
                return batch_response([(event_id, answer)]).responses[0]

    async def _ingest_one_batch(self, context: _UnaryContext[pb.IngestBatchResponse]) -> pb.IngestBatchResponse:
        terms = admit(context, self._access)
        return await self._ingest_batch(await self._read(context), terms)

    async def _ingest_batch(self, request: bytes, terms: Terms) -> pb.IngestBatchResponse:
        if problem := batch_problem(request, self._batch_events_max):
            raise RejectedCallError(problems.refused(RefusedError([Problem("/requests", problem)])))
        self._room.take(len(request))
        try:
            messages = _parse(pb.IngestBatchRequest, request).requests
            answers = await self._answer(messages, terms)
        finally:
            self._room.give(len(request))
        return batch_response(answers)

    async def _admit_stream(self, context: Context) -> None:
        """Refuse a stream beyond the limit before anything of it is read: those who only listen must not be all."""
        if self._streams >= self._streams_max:
            raise RejectedCallError(problems.retry_later(OverloadedError("too many streams")))
        self._streams += 1
        try:
            await self._ingest_stream(context)
        finally:
            self._streams -= 1

    async def _ingest_stream(self, context: Context) -> None:
        places = asyncio.Semaphore(self._stream_batches_max)
        answers: asyncio.Queue[_AnswerOfStream] = asyncio.Queue()
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(self._read_batches(context, places, answers, group))
            draining = group.create_task(self._stop_at_drain(reading))
            ended = await _write_answers(context, places, answers)
            reading.cancel()
            draining.cancel()
        if ended is not None:
            raise RejectedCallError(ended)
        if reading.cancelled():
            raise RejectedCallError(problems.draining())

    async def _read_batches(
        self,
        context: Context,
        places: asyncio.Semaphore,
        answers: asyncio.Queue[_AnswerOfStream],
        group: asyncio.TaskGroup,
    ) -> None:
        try:
            while True:
                await places.acquire()
                async with asyncio.timeout(self._stream_seconds_max):
                    request = await context.read()
                if not isinstance(request, bytes):  # grpc.aio.EOF
                    return
                admitted = asyncio.Event()
                answers.put_nowait(group.create_task(self._batch_of_stream(request, context, admitted)))
                # Else the last batch of each stream stays in memory for as long as the next one takes to come.
                del request
                # Not one more is read while there is no room for this one: what waits would be in nobody's count.
                await admitted.wait()
        except TimeoutError:
            answers.put_nowait(problems.silent(self._stream_seconds_max))
        finally:
            answers.put_nowait(None)

    async def _batch_of_stream(
        self, request: bytes, context: Context, admitted: asyncio.Event
    ) -> pb.IngestBatchResponse | Status:
        """Return the status instead of raising it: what came before this batch is answered first.

        `admitted` is set once there was room for it, or never will be. The caller is asked for with each batch, so a
        key that is revoked ends its open streams.
        """
        try:
            terms = admit(context, self._access)
            await self._room.wait_for(len(request))
            admitted.set()
            return await self._ingest_batch(request, terms)
        except RejectedCallError as error:
            return error.status
        finally:
            admitted.set()

    async def _stop_at_drain(self, reading: asyncio.Task[None]) -> None:
        await self._draining.wait()
        reading.cancel()

    async def _answer(
        self, requests: Sequence[pb.IngestRequest], terms: Terms
    ) -> list[tuple[uuid.UUID | None, Answer]]:
        """Return the event id and the answer of each request, in order. Raises RejectedCallError (over the rate)."""
        try:
            terms.caller.spend(len(requests))
        except RateExceededError as error:
            raise RejectedCallError(problems.rate_exceeded(error)) from error
        failpoint("grpc-ingest.received")
        with in_hand():
            answers = await self._answer_all(requests, terms)
        failpoint("grpc-ingest.before_response")
        return answers

    async def _answer_all(
        self, requests: Sequence[pb.IngestRequest], terms: Terms
    ) -> list[tuple[uuid.UUID | None, Answer]]:
        received_at = now()
        drafts: list[Envelope | RefusedError] = []
        for position, request in enumerate(requests):
            moment = stamp(received_at, position)
            try:
                event = to_envelope(
                    request, received_at=moment, body_bytes_max=self._body_bytes_max, sender=terms.caller.name
                )
                terms.caller.check_source(event.source)
                drafts.append(event)
            except RefusedError as error:
                metrics.count_refused(request.source_name, received_at=moment)
                drafts.append(error)
        outcomes = iter(await self._hand_over([draft for draft in drafts if isinstance(draft, Envelope)], terms.wait))
        return [(draft.event_id, next(outcomes)) if isinstance(draft, Envelope) else (None, draft) for draft in drafts]

    async def _hand_over(self, events: Sequence[Envelope], wait: bool) -> list[Answer]:  # noqa: FBT001 - a term of the call
        hand_over = self._submitter.submit if wait else self._submitter.enqueue
        answers: list[Answer] = []
        for batch in split_batches(events, events_max=self._batch_events_max, bytes_max=self._batch_bytes_max):
            # Each batch is counted before the next one is awaited: a client that goes away ends the call there.
            try:
                outcomes = await hand_over(batch)
            except RetryableError as error:
                metrics.count_error(batch, error)
                answers += [error] * len(batch)
            except BaseException:
                metrics.count_unanswered(batch)
                raise
            else:
                metrics.count_outcomes(batch, outcomes)
                answers += outcomes
        return answers


async def _write_answers(
    context: Context,
    places: asyncio.Semaphore,
    answers: asyncio.Queue[_AnswerOfStream],
) -> Status | None:
    """Write each answer in the order of its batch; return the status that ends the stream early, if one does."""
    while (coming := await answers.get()) is not None:
        answer = coming if isinstance(coming, Status) else await coming
        if isinstance(answer, Status):
            return answer
        await context.write(answer)
        failpoint("grpc-ingest.mid_stream")
        places.release()
    return None


M = TypeVar("M", pb.IngestRequest, pb.IngestBatchRequest)


def _parse(kind: type[M], request: bytes) -> M:
    try:
        return kind.FromString(request)
    except DecodeError:
        problem = Problem("", f"must be a protobuf message {kind.DESCRIPTOR.full_name}, its strings in UTF-8")
        raise RejectedCallError(problems.refused(RefusedError([problem]))) from None


async def _abort(context: grpc.aio.ServicerContext[bytes, T], status: Status) -> NoReturn:
    told = rpc_status.to_status(status)
    await context.abort(told.code, told.details, told.trailing_metadata)
