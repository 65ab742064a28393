"""The settings of the gRPC door."""

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from shared.batching import BatchLimits
from shared.runtime.rpc_server import MIB, RpcServerSettings
from shared.settings import AccessSettings, AmqpSettings, ServiceSettings, SubmissionSettings, TlsSettings


class Settings(ServiceSettings, AmqpSettings, SubmissionSettings, RpcServerSettings, AccessSettings, TlsSettings):
    """What grpc-ingest can be told."""

    grpc_host: str = Field("127.0.0.1", description="where the gRPC door listens")
    grpc_port: NonNegativeInt = Field(50051, description="port of the gRPC door; 0: a free one")
    grpc_batch_events_max: PositiveInt = Field(1_000, description="requests in one IngestBatch, or one of a stream")
    grpc_calls_read_max: PositiveInt = Field(
        8, description="Ingest and IngestBatch calls whose message is read at once; the others wait their turn"
    )
    grpc_call_seconds_max: PositiveFloat = Field(
        10.0, description="how long the message of such a call may take to come; then it ends with UNAVAILABLE"
    )
    grpc_stream_batches_max: PositiveInt = Field(8, description="batches of one IngestStream in hand at once")
    grpc_streams_max: PositiveInt = Field(
        12, description="IngestStreams at once; beyond it one gets RESOURCE_EXHAUSTED, and other calls are still served"
    )
    grpc_stream_seconds_max: PositiveFloat = Field(
        30.0, description="how long a stream may wait for its next batch; then it ends with UNAVAILABLE"
    )
    grpc_requests_bytes_max: PositiveInt = Field(
        4 * MIB, description="requests in hand, in bytes; beyond it a call gets RESOURCE_EXHAUSTED, and streams wait"
    )
    # Each that is read may be in memory before the door can refuse it: 12 of streams and 8 of calls.
    rpc_message_bytes_max: PositiveInt = Field(2 * MIB, description="largest gRPC message, in and out")
    # Of each call 64 KiB may be in memory before it is read.
    rpc_calls_max: PositiveInt = Field(128, description="calls at once; beyond it one gets RESOURCE_EXHAUSTED")
    grpc_drain_seconds_max: PositiveFloat = Field(15.0, description="how long calls in flight may take to finish")
    body_bytes_max: PositiveInt = Field(1024 * 1024, description="largest payload of one event")
    # Single calls come in convoys, all answered at once. 64 in flight: 3,370 a second with one batch in flight that is
    # not full, 2,930 with two, and the processor takes 77 instead of 117 microseconds of CPU an event.
    batch: BatchLimits = Field(
        BatchLimits(batch_events_max=32, batches_in_flight_max=16, partial_batches_in_flight_max=1),
        description="bounds of the batches that go to the processor",
    )
