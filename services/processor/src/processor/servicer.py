"""The waiting door: etlpay.processing.v1.Processing over gRPC."""

from collections.abc import Awaitable, Callable, Sequence

import grpc
import grpc.aio

from processor.database import make_id
from shared.contracts.errors import OverloadedError, PermanentError, RetryableError
from shared.contracts.event import Envelope
from shared.contracts.outcome import Outcome
from shared.failpoints import failpoint
from shared.rpc import processing_pb2 as pb
from shared.rpc.processing_pb2_grpc import ProcessingServicer
from shared.wire import outcome_message, read_batch


class ProcessingDoor(ProcessingServicer):
    """Answers after the commit. A caller that goes away does not stop the batch its events are in."""

    def __init__(self, submit: Callable[[Sequence[Envelope]], Awaitable[list[Outcome]]]) -> None:
        """`submit` is the batcher's."""
        self._submit = submit

    async def Process(  # noqa: N802 - the name in the proto
        self, request: pb.EventBatch, context: grpc.aio.ServicerContext[pb.EventBatch, pb.OutcomeBatch]
    ) -> pb.OutcomeBatch:
        """Store the batch; see protos/processing.proto."""
        failpoint("processor.called")
        try:
            outcomes = await self._submit(read_batch(request, make_id=make_id))
            failpoint("processor.before_answer")
            return outcome_message(outcomes)
        except PermanentError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        except OverloadedError as error:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error))
        except RetryableError as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
