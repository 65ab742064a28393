"""The processor's gRPC door, as its callers see it."""

from collections.abc import Sequence
from typing import Final, Protocol

import grpc
import grpc.aio

from shared.contracts.errors import OutcomeUnknownError, OverloadedError, UnavailableError
from shared.contracts.event import Envelope
from shared.contracts.outcome import Outcome
from shared.rpc.processing_pb2_grpc import ProcessingStub
from shared.settings import SubmissionSettings
from shared.wire import batch_message, read_outcomes

_MESSAGE_BYTES_MAX: Final = 16 * 1024 * 1024


class Processing(Protocol):
    """Stores events and tells what became of each."""

    async def process(self, events: Sequence[Envelope]) -> list[Outcome]:
        """Return one outcome per event, in order, after the commit.

        Raises:
            UnavailableError, OverloadedError: nothing of it was taken.
            OutcomeUnknownError: no answer in time; it may or may not be stored.
        """


class GrpcProcessing:
    """Calls the processor over one gRPC channel; balances over all addresses of the target's name."""

    def __init__(self, settings: SubmissionSettings) -> None:
        """Connect lazily; `close` when done."""
        self._seconds_max = settings.process_seconds_max
        self._grpc_channel = grpc.aio.insecure_channel(
            settings.processor_target,
            options=(
                ("grpc.lb_policy_name", "round_robin"),
                ("grpc.max_receive_message_length", _MESSAGE_BYTES_MAX),
                ("grpc.max_send_message_length", _MESSAGE_BYTES_MAX),
                # A frozen processor is noticed by its silence, and one that comes back is found within two seconds.
                ("grpc.keepalive_time_ms", 3_000),
                ("grpc.keepalive_timeout_ms", 2_000),
                ("grpc.keepalive_permit_without_calls", 1),
                ("grpc.http2.max_pings_without_data", 0),
                ("grpc.initial_reconnect_backoff_ms", 200),
                ("grpc.max_reconnect_backoff_ms", 2_000),
            ),
        )
        self._stub = ProcessingStub(self._grpc_channel)

    async def process(self, events: Sequence[Envelope]) -> list[Outcome]:
        """See `Processing`."""
        try:
            answer = await self._stub.Process(batch_message(events), timeout=self._seconds_max)
        except grpc.aio.AioRpcError as error:
            match error.code():
                case grpc.StatusCode.UNAVAILABLE:
                    raise UnavailableError("the processor is away") from error
                case grpc.StatusCode.RESOURCE_EXHAUSTED:
                    raise OverloadedError("the processor is busy") from error
                case _:
                    raise OutcomeUnknownError("the processor did not answer in time") from error
        return read_outcomes(answer)

    @property
    def connected(self) -> bool:
        """True while the processor can be reached; asking also makes an idle channel connect."""
        state = self._grpc_channel.get_state(try_to_connect=True)
        return state is grpc.ChannelConnectivity.READY

    async def close(self) -> None:
        """End the channel; calls in flight get two seconds."""
        await self._grpc_channel.close(grace=2)
