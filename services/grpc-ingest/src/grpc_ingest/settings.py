"""Settings of the gRPC service."""

from typing import Self

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from shared.batching import BatcherLimits
from shared.runtime.rpc_server import MIB, RpcServerSettings
from shared.settings import (
    AccessSettings,
    FairnessSettings,
    PublisherSettings,
    ServiceSettings,
    SubmissionSettings,
    TlsSettings,
)


class Settings(
    ServiceSettings,
    PublisherSettings,
    SubmissionSettings,
    RpcServerSettings,
    AccessSettings,
    FairnessSettings,
    TlsSettings,
):
    """Settings of `python -m grpc_ingest`."""

    grpc_host: str = Field("127.0.0.1", description="where the gRPC server listens")
    grpc_port: NonNegativeInt = Field(50051, description="port of the gRPC server; 0: a free one")
    grpc_batch_events_max: PositiveInt = Field(1_000, description="requests in one IngestBatch, or one of a stream")
    grpc_calls_read_max: PositiveInt = Field(
        8, description="Ingest and IngestBatch calls whose message is read at once; the others wait their turn"
    )
    grpc_call_seconds_max: PositiveFloat = Field(
        10.0, description="how long the message of such a call may take to come; then it ends with UNAVAILABLE"
    )
    grpc_send_seconds_max: PositiveFloat = Field(
        10.0, description="how long a client may take to read an answer; then its connection is closed"
    )
    grpc_stream_batches_max: PositiveInt = Field(8, description="batches of one IngestStream that are not answered yet")
    grpc_streams_max: PositiveInt = Field(
        12, description="IngestStreams at once; beyond it one gets RESOURCE_EXHAUSTED, and other calls are still served"
    )
    grpc_stream_seconds_max: PositiveFloat = Field(
        30.0, description="how long a stream may wait for its next batch; then it ends with UNAVAILABLE"
    )
    grpc_stream_age_seconds_max: PositiveFloat = Field(
        60.0, description="how old a stream may get; then it ends with UNAVAILABLE, after the answers to what was read"
    )
    grpc_requests_bytes_max: PositiveInt = Field(
        4 * MIB,
        description="bytes of unanswered requests; beyond it streams and calls wait, then RESOURCE_EXHAUSTED",
    )
    rpc_connections_max: PositiveInt = Field(500, description="open connections, about; those beyond it are closed")
    # A stream that is opened just before its connection is too old ends by itself.
    rpc_connection_grace_seconds: NonNegativeInt = Field(75, description="how long its calls may still take then")
    # Each that is read may be in memory before it can be refused: 12 of streams and 8 of calls.
    rpc_message_bytes_max: PositiveInt = Field(2 * MIB, description="largest gRPC message, in and out")
    # Of each call 64 KiB may be in memory before it is read.
    rpc_calls_max: PositiveInt = Field(128, description="calls at once; beyond it one gets RESOURCE_EXHAUSTED")
    grpc_drain_seconds_max: PositiveFloat = Field(15.0, description="how long calls in flight may take to finish")
    body_bytes_max: PositiveInt = Field(1024 * 1024, description="largest payload of one event")
    # Single calls come in convoys, all answered at once. 64 in flight: 3,370 a second with one batch in flight that is
    # not full, 2,930 with two, and the processor takes 77 instead of 117 microseconds of CPU an event.
    batch: BatcherLimits = Field(
        BatcherLimits(events_max=32, in_flight_max=16, partial_in_flight_max=1),
        description="limits of the batches that go to the processor",
    )

    @model_validator(mode="after")
    def _check_ages(self) -> Self:
        if self.rpc_connection_grace_seconds <= self.grpc_stream_age_seconds_max:
            raise ValueError("ETLPAY_RPC_CONNECTION_GRACE_SECONDS must be more than ETLPAY_GRPC_STREAM_AGE_SECONDS_MAX")
        return self
