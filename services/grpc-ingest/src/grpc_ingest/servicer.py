"""`etlpay.EtlService`. It receives requests as bytes, so that what is not protobuf is refused."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from time import monotonic
from typing import Final, TypeVar

import grpc
import grpc.aio
import structlog
from google.protobuf.message import DecodeError

from etlpay_client import etlpay_pb2 as pb
from grpc_ingest import problems
from grpc_ingest.context import CallContext, Calls, admit
from grpc_ingest.mapping import batch_problem, batch_response, to_envelope
from grpc_ingest.streams import BatchAnswer, BatchStream, Context, StreamLimits
from shared.auth.authenticator import Access
from shared.auth.rate import RateExceededError
from shared.auth.scopes import OutOfScopeError
from shared.contracts.errors import InvalidEventError, OverloadedError, Problem, RetryableError
from shared.contracts.event import Envelope
from shared.contracts.result import Answered, ErrorResult, Result, ResultKind
from shared.failpoints import failpoint
from shared.intake import Intake
from shared.runtime.limits import CapacityLimit, Holding
from shared.runtime.rpc_health import RpcAbort
from shared.runtime.timeouts import Timeouts

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

T = TypeVar("T")
A = TypeVar("A")

SERVICE_NAME: Final = pb.DESCRIPTOR.services_by_name["EtlService"].full_name

_UnaryContext = grpc.aio.ServicerContext[bytes, T]


class EtlServicer:
    """Answers the calls of `etlpay.EtlService`."""

    def __init__(  # noqa: PLR0913 - the limits of a call
        self,
        intake: Intake,
        access: Access,
        calls: Calls,
        *,
        batch_events_max: int,
        body_bytes_max: int,
        calls_read_max: int,
        call_seconds_max: float,
        streams_max: int,
        stream_limits: StreamLimits,
        caller_share_max: float,
    ) -> None:
        """`calls` limits all calls.

        `calls_read_max` of the calls with one message are read at once, each for `call_seconds_max`.
        """
        self._intake = intake
        self._access = access
        self._calls = calls
        self._batch_events_max = batch_events_max
        self._body_bytes_max = body_bytes_max
        self._reading = CapacityLimit(calls_read_max, share=caller_share_max)
        self._call_seconds_max = call_seconds_max
        self._timeouts = Timeouts()
        self._streams = CapacityLimit(streams_max, share=caller_share_max)
        self._stream_limits = stream_limits
        self._draining = asyncio.Event()

    def handler(self) -> grpc.GenericRpcHandler:
        """Return the handlers to add to a server.

        Each call is a stream for the library: it would read a call with one message before that could be refused. On
        the wire both are the same.
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
        """End streams after the batches that were read, and return when no call is left."""
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
        """Store batch after batch; the next one is read when fewer than the limit are unanswered."""
        await self._answer_call(context, self._admit_stream)

    async def _answer_call(
        self,
        context: grpc.aio.ServicerContext[bytes, T],
        answer: Callable[[grpc.aio.ServicerContext[bytes, T], CallContext, Holding], Awaitable[A]],
    ) -> A:
        """Answer a call, or end it with an error: no valid key, over a limit, or what `answer` raises."""
        self._calls.serve()
        holding = None
        try:
            try:
                call = admit(context, self._access)
                holding = self._calls.begin(context, call.counted_as)
                return await answer(context, call, holding)
            except RpcAbort as error:
                abort = error
            except OverloadedError as error:
                abort = problems.retry_later(error)
            # gRPC would send the text of any exception to the client, and that may hold anything.
            except Exception:
                log.exception("a call failed; the client gets INTERNAL: it may be stored")
                abort = problems.internal()
            await context.abort(abort.code, abort.details, tuple(abort.metadata))
        finally:
            self._calls.answered(context, holding)

    async def _read(self, context: _UnaryContext[T], call: CallContext, holding: Holding) -> bytes:
        """Return the message of a call that has one, once there is capacity for it.

        Without the limit of calls that are read at once, all of them could hold the largest message before it counts.
        """
        request: object = None
        try:
            with self._timeouts.until(monotonic() + self._call_seconds_max):
                if not self._reading.try_acquire(call.counted_as):
                    await self._reading.wait(call.counted_as)
                try:
                    request = await context.read()
                    if isinstance(request, bytes):
                        await holding.wait(len(request))
                finally:
                    self._reading.release(call.counted_as)
        except TimeoutError as error:
            if isinstance(request, bytes):
                raise OverloadedError("no capacity for the request") from error
            raise problems.silent(self._call_seconds_max) from error
        if not isinstance(request, bytes):  # grpc.aio.EOF
            raise problems.refused(InvalidEventError([Problem("", "must be one message, not none")]))
        return request

    async def _ingest(
        self, context: _UnaryContext[pb.IngestResponse], call: CallContext, holding: Holding
    ) -> pb.IngestResponse:
        request = await self._read(context, call, holding)
        message = _parse(pb.IngestRequest, request)
        answered = await self._accept([message], call)
        match answered[0][1]:
            case ErrorResult(error=OutOfScopeError()):
                raise problems.out_of_scope()
            case ErrorResult(error=InvalidEventError() as error):
                raise problems.refused(error)
            case ErrorResult(error=RetryableError() as error):
                raise problems.retry_later(error)
            case Result(kind=ResultKind.CONFLICT):
                raise problems.conflict()
        return batch_response(answered).responses[0]

    async def _ingest_one_batch(
        self, context: _UnaryContext[pb.IngestBatchResponse], call: CallContext, holding: Holding
    ) -> pb.IngestBatchResponse:
        request = await self._read(context, call, holding)
        self._check_batch(request, call)
        answered = await self._ingest_batch(request, call)
        holding.correct(answered.size - len(request))
        return answered.response

    def _check_batch(self, request: bytes, call: CallContext) -> CallContext:
        """Return the call. Raises RpcAbort where the batch should not be parsed."""
        if problem := batch_problem(request, self._batch_events_max):
            raise problems.refused(InvalidEventError([Problem("/requests", problem)]))
        return call

    async def _ingest_batch(self, request: bytes, call: CallContext) -> BatchAnswer:
        response = batch_response(await self._accept(_parse(pb.IngestBatchRequest, request).requests, call))
        return BatchAnswer(response, max(len(request), response.ByteSize()))

    async def _admit_stream(self, context: Context, call: CallContext, holding: Holding) -> None:
        """Refuse a stream beyond the limit before it is read, so that streams never take the capacity of all calls."""
        self._streams.acquire(call.counted_as)
        try:
            await self._ingest_stream(context, holding)
        finally:
            self._streams.release(call.counted_as)

    async def _ingest_stream(self, context: Context, holding: Holding) -> None:
        stream = BatchStream(
            context,
            holding,
            # The key is checked with each batch, so a key that is revoked ends its open streams.
            check=lambda request: self._check_batch(request, admit(context, self._access)),
            ingest=self._ingest_batch,
            limits=self._stream_limits,
            draining=self._draining,
            timeouts=self._timeouts,
        )
        if (abort := await stream.run()) is None:
            return
        if stream.unread:
            self._calls.close(context)
        raise abort

    async def _accept(self, requests: Sequence[pb.IngestRequest], call: CallContext) -> list[Answered]:
        """Return the event and the result of each request, in order. Raises RpcAbort (over the rate)."""

        def read(request: pb.IngestRequest, received_at: datetime) -> Envelope:
            return to_envelope(
                request, received_at=received_at, body_bytes_max=self._body_bytes_max, sender=call.caller.name
            )

        failpoint("grpc-ingest.received")
        hand_over = self._intake.submit if call.wait else self._intake.enqueue
        try:
            answered = await self._intake.accept(requests, read, call.caller, hand_over=hand_over)
        except RateExceededError as error:
            raise problems.rate_exceeded(error) from error
        failpoint("grpc-ingest.before_response")
        return answered


M = TypeVar("M", pb.IngestRequest, pb.IngestBatchRequest)


def _parse(kind: type[M], request: bytes) -> M:
    try:
        return kind.FromString(request)
    except DecodeError:
        problem = Problem("", f"must be a protobuf message {kind.DESCRIPTOR.full_name}, its strings in UTF-8")
        raise problems.refused(InvalidEventError([problem])) from None
