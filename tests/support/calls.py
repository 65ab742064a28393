"""The gRPC channel without a socket: its servicer on the fakes of the processor and of RabbitMQ."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest
from google.rpc.status_pb2 import Status

from etlpay_client import etlpay_pb2 as pb
from grpc_ingest.context import Calls
from grpc_ingest.servicer import EtlServicer
from grpc_ingest.streams import StreamLimits
from shared.auth.authenticator import Access
from shared.batching import BatcherLimits
from shared.contracts.event import Channel
from shared.intake import Intake
from shared.runtime.service import running
from shared.submit.submitter import Submitter
from shared.testing.processing import FakeProcessing
from shared.testing.publisher import FakePublisher


class AbortedError(Exception):
    def __init__(self, code: grpc.StatusCode, message: str, status: Status) -> None:
        super().__init__(code, message)
        self.code = code
        self.status = status

    def detail(self, kind: type[Any]) -> Any:  # noqa: ANN401 - a message of that kind
        found = kind()
        assert self.status.details[0].Unpack(found)
        return found


class FakeContext:
    """As much of a call's context as the servicer uses."""

    def __init__(self, requests: Sequence[bytes] = (), metadata: Sequence[tuple[str, str]] = ()) -> None:
        self.requests = list(requests)
        self.metadata = metadata
        self.written: list[pb.IngestBatchResponse] = []
        self.address = "ipv4:127.0.0.1:50000"
        self.callbacks: list[Callable[[object], None]] = []
        self.reads = 0
        self.open = asyncio.Event()
        self.writable = asyncio.Event()
        self.writable.set()

    def peer(self) -> str:
        return self.address

    def add_done_callback(self, callback: Callable[[object], None]) -> None:
        self.callbacks.append(callback)

    def finish(self) -> None:
        """Tell that the call is over: its answer is sent."""
        for callback in self.callbacks:
            callback(self)

    def invocation_metadata(self) -> Sequence[tuple[str, str]]:
        return self.metadata

    async def read(self) -> object:
        self.reads += 1
        if not self.requests:
            await self.open.wait()
            return grpc.aio.EOF
        return self.requests.pop(0)

    async def write(self, message: pb.IngestBatchResponse) -> None:
        await self.writable.wait()
        self.written.append(message)

    async def abort(self, code: grpc.StatusCode, details: str, metadata: Sequence[tuple[str, bytes]]) -> None:
        raise AbortedError(code, details, Status.FromString(dict(metadata)["grpc-status-details-bin"]))


class GrpcApi:
    def __init__(self, processing: FakeProcessing | None = None, access: Access | None = None, **limits: float) -> None:
        self.processing = processing or FakeProcessing()
        self.publisher = FakePublisher()
        self.submitter = Submitter(
            self.processing, self.publisher, limits=BatcherLimits(), fallback_to_queue=limits.pop("fallback", True) == 1
        )
        bounds: dict[str, Any] = {
            "batch_events_max": 10,
            "batch_bytes_max": 1_000_000,
            "body_bytes_max": 10_000,
            "calls_read_max": 2,
            "call_seconds_max": 5,
            "streams_max": 2,
        }
        of_stream = {"batches_max": 2, "pause_seconds_max": 5, "send_seconds_max": 5, "age_seconds_max": 60}
        self.closed: list[str] = []
        share = limits.pop("share", 0.75)
        self.calls = Calls(
            calls_max=int(limits.pop("calls_max", 100)),
            requests_bytes_max=int(limits.pop("requests_bytes_max", 1_000_000)),
            share=share,
            send_seconds_max=limits.pop("send_seconds_max", 5),
            close_connection=self.closed.append,
        )
        stream_limits = StreamLimits(
            **{name: limits.pop(f"stream_{name}", value) for name, value in of_stream.items()}  # type: ignore[arg-type] # as Python has it: a whole number is one of seconds, too
        )
        bounds |= limits
        intake = Intake(
            self.submitter,
            Channel.GRPC,
            batch_events_max=bounds["batch_events_max"],
            batch_bytes_max=bounds.pop("batch_bytes_max"),
        )
        self.servicer = EtlServicer(
            intake,
            access or Access(None),
            self.calls,
            stream_limits=stream_limits,
            caller_share_max=share,
            **bounds,
        )

    @asynccontextmanager
    async def open(self) -> AsyncIterator["GrpcApi"]:
        async with running(self.submitter):
            yield self

    async def ingest(self, request: pb.IngestRequest | bytes, **metadata: str) -> pb.IngestResponse:
        sent = request if isinstance(request, bytes) else request.SerializeToString()
        context: Any = FakeContext([sent], list(metadata.items()))
        try:
            return await self.servicer.ingest(None, context)
        finally:
            context.finish()

    async def ingest_from(self, address: str, request: pb.IngestRequest) -> pb.IngestResponse:
        context: Any = FakeContext([request.SerializeToString()])
        context.address = address
        try:
            return await self.servicer.ingest(None, context)
        finally:
            context.finish()

    async def ingest_batch(self, *requests: pb.IngestRequest, **metadata: str) -> list[pb.IngestResponse]:
        sent = pb.IngestBatchRequest(requests=requests).SerializeToString()
        context: Any = FakeContext([sent], list(metadata.items()))
        try:
            return list((await self.servicer.ingest_batch(None, context)).responses)
        finally:
            context.finish()

    async def refusal(self, request: pb.IngestRequest | bytes) -> AbortedError:
        with pytest.raises(AbortedError) as aborted:
            await self.ingest(request)
        return aborted.value


def request(key: str = "", payload: str = '{"value": 1}', source: str = "grpc-demo") -> pb.IngestRequest:
    return pb.IngestRequest(source_name=source, payload_json=payload, id=key)


def batch(*keys: str) -> bytes:
    return pb.IngestBatchRequest(requests=[request(key) for key in keys]).SerializeToString()
