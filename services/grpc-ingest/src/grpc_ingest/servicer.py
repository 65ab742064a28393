"""`etlpay.EtlService`: requests come in as bytes, so that what is not protobuf is refused and never a fault of ours."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Sequence
from time import monotonic
from typing import Final, NoReturn, Protocol, TypeVar

import grpc
import grpc.aio
import structlog
from google.protobuf.message import DecodeError
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from etlpay_client import etlpay_pb2 as pb
from grpc_ingest import metrics, problems
from grpc_ingest.admission import Calls, RpcAbort, Terms, admit
from grpc_ingest.mapping import Answer, batch_problem, batch_response, to_envelope
from grpc_ingest.streams import Answered, BatchStream, Context, StreamLimits
from shared.auth.authenticator import Access
from shared.auth.rate import RateExceededError
from shared.auth.scopes import OutOfScopeError
from shared.contracts.errors import InvalidEventError, OverloadedError, Problem, RetryableError
from shared.contracts.event import Envelope, now, stamp
from shared.contracts.result import Recorded, Result, ResultKind
from shared.counters import in_hand
from shared.failpoints import failpoint
from shared.runtime.limits import CapacityLimit, Holding
from shared.runtime.timeouts import Timeouts
from shared.wire import split_batches

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

T = TypeVar("T")
A = TypeVar("A")

SERVICE_NAME: Final = pb.DESCRIPTOR.services_by_name["EtlService"].full_name

_UnaryContext = grpc.aio.ServicerContext[bytes, T]


class Submitting(Protocol):
    """Hands events over; `shared.submit.submitter.Submitter` is the real one."""

    async def submit(self, events: Sequence[Envelope]) -> list[Result]:
        """Return one outcome per event. Raises RetryableError."""

    async def enqueue(self, events: Sequence[Envelope]) -> list[Result]:
        """Return once the events are durable in the queue. Raises RetryableError."""


class EtlServicer:
    """Answers the calls of `etlpay.EtlService`."""

    def __init__(  # noqa: PLR0913 - the limits of a call
        self,
        submitter: Submitting,
        access: Access,
        calls: Calls,
        *,
        batch_events_max: int,
        batch_bytes_max: int,
        body_bytes_max: int,
        calls_read_max: int,
        call_seconds_max: float,
        streams_max: int,
        stream_limits: StreamLimits,
        caller_share_max: float,
    ) -> None:
        """The limits: of requests in a batch, of bytes handed over at once, of one payload.

        Of calls with one message: how many are read at once, and for how long. Of streams: how many there are, and
        what each may take. `calls` bounds all of them.
        """
        self._submitter = submitter
        self._access = access
        self._calls = calls
        self._batch_events_max = batch_events_max
        self._batch_bytes_max = batch_bytes_max
        self._body_bytes_max = body_bytes_max
        self._reading = CapacityLimit(calls_read_max, share=caller_share_max)
        self._call_seconds_max = call_seconds_max
        self._timeouts = Timeouts()
        self._streams = CapacityLimit(streams_max, share=caller_share_max)
        self._stream_limits = stream_limits
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
        await self._calls.idle()

    async def ingest(self, _requests: object, context: _UnaryContext[pb.IngestResponse]) -> pb.IngestResponse:
        """Store one event."""
        return await self._answer_call(context, self._ingest)

    async def ingest_batch(
        self, _requests: object, context: _UnaryContext[pb.IngestBatchResponse]
    ) -> pb.IngestBatchResponse:
        """Store the events of one batch; one response per request, in order."""
        return await self._answer_call(context, self._ingest_one_batch)

    async def ingest_stream(self, _requests: object, context: Context) -> None:
        """Store batch after batch; while too many are in hand, the next one is not read."""
        await self._answer_call(context, self._admit_stream)

    async def _answer_call(
        self,
        context: grpc.aio.ServicerContext[bytes, T],
        answer: Callable[[grpc.aio.ServicerContext[bytes, T], Terms, Holding], Awaitable[A]],
    ) -> A:
        """Answer a call of a caller that may come in, and has its part of the limits left."""
        self._calls.serve()
        call = None
        try:
            try:
                terms = admit(context, self._access)
                call = self._calls.begin(context, terms.counted_as)
                return await answer(context, terms, call)
            except RpcAbort as error:
                status = error.status
            except OverloadedError as error:
                status = problems.retry_later(error)
            # gRPC would tell the client the text of any exception, and that may hold anything.
            except Exception:
                log.exception("a call failed; the client is told that its outcome is unknown")
                status = problems.internal()
            return await _abort(context, status)
        finally:
            self._calls.answered(context, call)

    async def _read(self, context: _UnaryContext[T], terms: Terms, holding: Holding) -> bytes:
        """Return the message of a call that has one, once there is memory for it; only so many are read at once.

        Else what calls take would be their number times the largest message, before any of it is in a count.
        """
        request: object = None
        try:
            with self._timeouts.until(monotonic() + self._call_seconds_max):
                if not self._reading.try_acquire(terms.counted_as):
                    await self._reading.wait(terms.counted_as)
                try:
                    request = await context.read()
                    if isinstance(request, bytes):
                        await holding.wait(len(request))
                finally:
                    self._reading.release(terms.counted_as)
        except TimeoutError as error:
            if isinstance(request, bytes):
                raise OverloadedError("too much is in hand") from error
            raise RpcAbort(problems.silent(self._call_seconds_max)) from error
        if not isinstance(request, bytes):  # grpc.aio.EOF
            raise RpcAbort(problems.refused(InvalidEventError([Problem("", "must be one message, not none")])))
        return request

    async def _ingest(
        self, context: _UnaryContext[pb.IngestResponse], terms: Terms, holding: Holding
    ) -> pb.IngestResponse:
        request = await self._read(context, terms, holding)
        message = _parse(pb.IngestRequest, request)
        ((event_id, answer),) = await self._answer([message], terms)
        match answer:
            case OutOfScopeError():
                raise RpcAbort(problems.out_of_scope())
            case InvalidEventError():
                raise RpcAbort(problems.refused(answer))
            case RetryableError():
                raise RpcAbort(problems.retry_later(answer))
            case Recorded(kind=ResultKind.CONFLICT):
                raise RpcAbort(problems.conflict())
            case _:
                return batch_response([(event_id, answer)]).responses[0]

    async def _ingest_one_batch(
        self, context: _UnaryContext[pb.IngestBatchResponse], terms: Terms, holding: Holding
    ) -> pb.IngestBatchResponse:
        request = await self._read(context, terms, holding)
        self._check_batch(request, terms)
        answered = await self._ingest_batch(request, terms)
        holding.correct(answered.size - len(request))
        return answered.response

    def _check_batch(self, request: bytes, terms: Terms) -> Terms:
        """Return the terms. Raises RpcAbort where the batch should not be parsed."""
        if problem := batch_problem(request, self._batch_events_max):
            raise RpcAbort(problems.refused(InvalidEventError([Problem("/requests", problem)])))
        return terms

    async def _ingest_batch(self, request: bytes, terms: Terms) -> Answered:
        answers = await self._answer(_parse(pb.IngestBatchRequest, request).requests, terms)
        response = batch_response(answers)
        return Answered(response, max(len(request), response.ByteSize()))

    async def _admit_stream(self, context: Context, terms: Terms, holding: Holding) -> None:
        """Refuse a stream beyond the limit before anything of it is read: those who only listen must not be all."""
        self._streams.acquire(terms.counted_as)
        try:
            await self._ingest_stream(context, holding)
        finally:
            self._streams.release(terms.counted_as)

    async def _ingest_stream(self, context: Context, holding: Holding) -> None:
        stream = BatchStream(
            context,
            holding,
            # The caller is asked for with each batch, so a key that is revoked ends its open streams.
            check=lambda request: self._check_batch(request, admit(context, self._access)),
            ingest=self._ingest_batch,
            limits=self._stream_limits,
            draining=self._draining,
            timeouts=self._timeouts,
        )
        if (status := await stream.run()) is None:
            return
        if stream.unread:
            self._calls.close(context)
        raise RpcAbort(status)

    async def _answer(
        self, requests: Sequence[pb.IngestRequest], terms: Terms
    ) -> list[tuple[uuid.UUID | None, Answer]]:
        """Return the event id and the answer of each request, in order. Raises RpcAbort (over the rate)."""
        try:
            terms.caller.spend(len(requests))
        except RateExceededError as error:
            raise RpcAbort(problems.rate_exceeded(error)) from error
        failpoint("grpc-ingest.received")
        with in_hand():
            answers = await self._answer_all(requests, terms)
        failpoint("grpc-ingest.before_response")
        return answers

    async def _answer_all(
        self, requests: Sequence[pb.IngestRequest], terms: Terms
    ) -> list[tuple[uuid.UUID | None, Answer]]:
        received_at = now()
        drafts: list[Envelope | InvalidEventError] = []
        for position, request in enumerate(requests):
            moment = stamp(received_at, position)
            try:
                event = to_envelope(
                    request, received_at=moment, body_bytes_max=self._body_bytes_max, sender=terms.caller.name
                )
                terms.caller.check_source(event.source)
                drafts.append(event)
            except InvalidEventError as error:
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


M = TypeVar("M", pb.IngestRequest, pb.IngestBatchRequest)


def _parse(kind: type[M], request: bytes) -> M:
    try:
        return kind.FromString(request)
    except DecodeError:
        problem = Problem("", f"must be a protobuf message {kind.DESCRIPTOR.full_name}, its strings in UTF-8")
        raise RpcAbort(problems.refused(InvalidEventError([problem]))) from None


async def _abort(context: grpc.aio.ServicerContext[bytes, T], status: Status) -> NoReturn:
    told = rpc_status.to_status(status)
    await context.abort(told.code, told.details, told.trailing_metadata)
