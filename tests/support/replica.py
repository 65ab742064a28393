"""A processor's gRPC service over a ledger in memory, behind a port, and how it is called."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import grpc.aio

from processor.inputs.callers import Callers
from processor.inputs.grpc import ProcessingService
from shared.contracts.errors import EtlPayError
from shared.contracts.event import Envelope
from shared.contracts.receipt import Receipt
from shared.contracts.result import Recorded
from shared.rpc import processing_pb2 as pb
from shared.rpc.processing_pb2_grpc import add_ProcessingServicer_to_server
from shared.runtime.rpc_server import RpcServerSettings, build_server, listen
from shared.settings import SubmissionSettings, TlsSettings
from shared.submit.processing import GrpcProcessing
from shared.testing.processing import FakeProcessing


class Replica:
    """A processor's gRPC service over a ledger in memory, behind a port."""

    def __init__(self, port: int, callers: Callers | None = None, tls: TlsSettings | None = None) -> None:
        self.port = port
        self._callers = callers or Callers([])
        self._tls = tls or TlsSettings()
        self.ledger = FakeProcessing()
        self.streams = 0
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.error: type[EtlPayError] | None = None
        self.kept: list[Receipt] = []
        self.service = self.new_service()
        self._server: grpc.aio.Server | None = None

    async def start(self) -> None:
        self._server = build_server(RpcServerSettings())
        add_ProcessingServicer_to_server(_Counting(self), self._server)
        listen(self._server, f"127.0.0.1:{self.port}", self._tls)
        await self._server.start()

    def new_service(self) -> ProcessingService:
        return ProcessingService(self._submit, keep=self._keep, callers=self._callers)

    async def drain(self) -> None:
        assert self._server
        async with asyncio.TaskGroup() as group:
            group.create_task(self._server.stop(20))
            await asyncio.sleep(0)
            self.service.drain()

    async def kill(self) -> None:
        assert self._server
        await self._server.stop(None)

    async def _submit(self, events: Sequence[Envelope]) -> list[Recorded]:
        await self.go_on.wait()
        if self.error:
            raise self.error("no")
        return await self.ledger.process(events)

    async def _keep(self, receipt: Receipt) -> None:
        if self.error:
            raise self.error("no")
        self.kept.append(receipt)


class _Counting(ProcessingService):
    def __init__(self, replica: Replica) -> None:
        super().__init__(replica.service._submit, keep=replica.service._keep, callers=replica.service._callers)
        self._replica = replica

    async def Process(  # noqa: N802 - the name in the proto
        self, requests: object, context: grpc.aio.ServicerContext[pb.EventBatch, pb.OutcomeBatch]
    ) -> None:
        self._replica.streams += 1
        await self._replica.service.Process(requests, context)


@asynccontextmanager
async def calling(*replicas: Replica, **settings: str) -> AsyncIterator[GrpcProcessing]:
    target = "ipv4:" + ",".join(f"127.0.0.1:{replica.port}" for replica in replicas)
    told = {"processor_target": target, "process_seconds_max": 2} | settings
    client = GrpcProcessing(SubmissionSettings.model_validate(told))
    yield client
    await client.close()
