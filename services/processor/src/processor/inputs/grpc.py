"""The input whose callers wait: etlpay.processing.v1.Processing over gRPC."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple, TypeAlias

import grpc
import grpc.aio

from processor.inputs.callers import Caller, Callers
from processor.ledger.ids import uuid_type
from processor.stages.processing import WriteEvents
from shared.contracts.errors import OverloadedError, PermanentError, RetryableError
from shared.contracts.receipt import Receipt
from shared.failpoints import failpoint
from shared.rpc import processing_pb2 as pb
from shared.rpc.processing_pb2_grpc import ProcessingServicer
from shared.wire import read_batch, read_receipt, result_message

_Context: TypeAlias = grpc.aio.ServicerContext[pb.EventBatch, pb.OutcomeBatch]
_ReportContext: TypeAlias = grpc.aio.ServicerContext[pb.Receipt, pb.Reported]


class _Refusal(NamedTuple):
    code: grpc.StatusCode
    details: str


_STRANGER: Final = _Refusal(grpc.StatusCode.UNAUTHENTICATED, "a valid token is needed")
_OTHER_CHANNEL: Final = _Refusal(grpc.StatusCode.PERMISSION_DENIED, "an event is of another service's channel")
_NOT_LET_IN: Final = {_STRANGER: "token", _OTHER_CHANNEL: "channel"}


class ProcessingService(ProcessingServicer):
    """Answers after the commit. A caller that goes away does not stop the batch its events are in.

    Who calls is asked once a stream: batches follow one another on it.
    """

    def __init__(
        self,
        submit: WriteEvents,
        *,
        keep: Callable[[Receipt], Awaitable[None]],
        callers: Callers,
    ) -> None:
        """`submit` is the batcher's, `keep` that of the receipts."""
        self._submit = submit
        self._keep = keep
        self._callers = callers
        self._waiting: set[asyncio.Task[object]] = set()
        self._draining = False

    async def Process(self, _requests: object, context: _Context) -> None:  # noqa: N802 - the name in the proto
        """Store batch after batch; see protos/processing.proto."""
        caller = self._callers.identify(context.invocation_metadata() or ())
        if caller is None:
            self._callers.note_refusal("token", peer=context.peer())
            await context.abort(*_STRANGER)
            return
        # The first is read also while draining: a call of one batch, as older callers make it, is a stream of one.
        request: object = await context.read()
        while isinstance(request, pb.EventBatch):
            answer = await self._store(request, caller)
            # Else the last batch of each stream stays in memory for as long as the next one takes to come.
            del request
            if isinstance(answer, _Refusal):
                if answer is _OTHER_CHANNEL:
                    self._callers.note_refusal("channel", peer=context.peer())
                # Not where the batch is at hand: what an aborted call holds stays until Python looks for garbage.
                await context.abort(answer.code, answer.details)
            await context.write(answer)
            request = await self._next(context)

    async def Report(self, request: pb.Receipt, context: _ReportContext) -> pb.Reported:  # noqa: N802 - as above
        """Keep a receipt; see protos/processing.proto."""
        caller = self._callers.identify(context.invocation_metadata() or ())
        refusal = _STRANGER if caller is None else await self._keep_receipt(request, caller)
        if refusal is not None:
            if refusal in _NOT_LET_IN:
                self._callers.note_refusal(_NOT_LET_IN[refusal], peer=context.peer())
            await context.abort(*refusal)
        return pb.Reported()

    def drain(self) -> None:
        """Let streams end after the batch they have in hand, and take no more."""
        self._draining = True
        for task in self._waiting:
            task.cancel()

    async def _next(self, context: _Context) -> object:
        """Return the next batch, or something else: there is none, or it is not ours to take any more."""
        task = asyncio.current_task()
        if self._draining or task is None:
            return None
        self._waiting.add(task)
        try:
            return await context.read()
        except asyncio.CancelledError:
            if not self._draining:
                raise
            task.uncancel()
            return None
        finally:
            self._waiting.discard(task)

    async def _keep_receipt(self, request: pb.Receipt, caller: Caller) -> _Refusal | None:
        try:
            receipt = read_receipt(request)
            if not caller.may_report(receipt):
                return _OTHER_CHANNEL
            await self._keep(receipt)
        except PermanentError as error:
            return _Refusal(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        except RetryableError as error:
            return _Refusal(grpc.StatusCode.UNAVAILABLE, str(error))
        return None

    async def _store(self, request: pb.EventBatch, caller: Caller) -> pb.OutcomeBatch | _Refusal:
        failpoint("processor.called")
        try:
            events = read_batch(request, uuid_type=uuid_type)
            if not caller.may_send(events):
                return _OTHER_CHANNEL
            outcomes = await self._submit(events)
            failpoint("processor.before_answer")
            return result_message(outcomes)
        except PermanentError as error:
            return _Refusal(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        except OverloadedError as error:
            return _Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error))
        except RetryableError as error:
            return _Refusal(grpc.StatusCode.UNAVAILABLE, str(error))
