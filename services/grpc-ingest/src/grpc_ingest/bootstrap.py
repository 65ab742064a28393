"""The composition root: what is made, in which order it starts, and how it drains."""

import asyncio

import grpc.aio
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from grpc_ingest.servicer import SERVICE_NAME, EtlServicer
from grpc_ingest.settings import Settings
from shared.auth.authenticator import KEYS, Access, open_access
from shared.contracts.errors import FatalError
from shared.contracts.event import Channel
from shared.counters import TALLY
from shared.messaging.publisher import READY as RABBITMQ
from shared.messaging.publisher import Publisher
from shared.messaging.receipts import ReceiptSender
from shared.runtime.ops import serve_ops
from shared.runtime.readiness import Readiness
from shared.runtime.rpc_server import build_server, listen
from shared.submission.processing import GrpcProcessing
from shared.submission.submitter import Submitter

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_INTAKE = "intake"
_PROCESSOR = "processor"
_READINESS_SECONDS = 0.5
_FLUSH_SECONDS = 0.5


async def serve(settings: Settings, stopping: asyncio.Event) -> None:
    """Serve until `stopping`; then finish the calls in flight, hand over what was taken, and close.

    Raises:
        FatalError: the port is taken, a file of keys or certificates cannot be used, anybody could come in, or RabbitMQ
            does not let us in.
    """
    access = open_access(settings, host=settings.grpc_host, host_setting="ETLPAY_GRPC_HOST")
    readiness, broker = Readiness(_INTAKE), Readiness(RABBITMQ)
    publisher = Publisher(settings, name="grpc-ingest", readiness=broker)
    processing = GrpcProcessing(settings)
    receipts = ReceiptSender(
        publisher,
        TALLY,
        service="grpc-ingest",
        channel=Channel.GRPC,
        interval_seconds=settings.receipt_seconds,
        report=processing.report,
    )
    submitter = Submitter(processing, publisher, limits=settings.batch, fallback_to_queue=settings.fallback_to_queue)
    servicer = _servicer(settings, submitter, access)
    drained = asyncio.Event()
    try:
        async with asyncio.TaskGroup() as group:
            publishing = group.create_task(publisher.run())
            telling = group.create_task(receipts.run())
            submitting = group.create_task(submitter.run())
            group.create_task(serve_ops(readiness, host=settings.ops_host, port=settings.ops_port, stopping=drained))
            await receipts.opened(stopping)
            await _serve_calls(settings, servicer, _Intake(readiness, broker, processing, access, settings), stopping)
            submitter.close()
            await submitting
            receipts.close()
            await telling
            publisher.close()
            await publishing
            drained.set()
    finally:
        await processing.close()


def _servicer(settings: Settings, submitter: Submitter, access: Access) -> EtlServicer:
    return EtlServicer(
        submitter,
        access,
        batch_events_max=settings.grpc_batch_events_max,
        batch_bytes_max=settings.batch.batch_bytes_max,
        body_bytes_max=settings.body_bytes_max,
        calls_read_max=settings.grpc_calls_read_max,
        call_seconds_max=settings.grpc_call_seconds_max,
        streams_max=settings.grpc_streams_max,
        stream_batches_max=settings.grpc_stream_batches_max,
        stream_seconds_max=settings.grpc_stream_seconds_max,
        requests_bytes_max=settings.grpc_requests_bytes_max,
    )


async def _serve_calls(
    settings: Settings,
    servicer: EtlServicer,
    intake: "_Intake",
    stopping: asyncio.Event,
) -> None:
    healths = health.aio.HealthServicer()
    server = build_server(settings)
    server.add_generic_rpc_handlers((servicer.handler(),))
    health_pb2_grpc.add_HealthServicer_to_server(healths, server)
    reflection.enable_server_reflection((SERVICE_NAME, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    await _listen(server, settings)
    async with asyncio.TaskGroup() as group:
        telling = group.create_task(_tell_health(healths, intake))
        await stopping.wait()
        intake.readiness.draining = True
        telling.cancel()
    await healths.enter_graceful_shutdown()
    await _stop(server, servicer, seconds_max=settings.grpc_drain_seconds_max)


async def _listen(server: grpc.aio.Server, settings: Settings) -> None:
    try:
        port = listen(server, f"{settings.grpc_host}:{settings.grpc_port}", settings)
    except RuntimeError as error:
        await server.stop(grace=None)
        raise FatalError(f"cannot listen on {settings.grpc_host}:{settings.grpc_port}") from error
    await server.start()
    log.info("listening", host=settings.grpc_host, port=port)


class _Intake:
    """Ready means: an event that comes now can be made durable, over the processor or, if allowed, over the queue.

    Where API keys are asked for, they must count.
    """

    def __init__(
        self,
        readiness: Readiness,
        broker: Readiness,
        processing: GrpcProcessing,
        access: Access,
        settings: Settings,
    ) -> None:
        self.readiness = readiness
        self._broker = broker
        self._processing = processing
        self._access = access
        self._fallback_to_queue = settings.fallback_to_queue

    def look(self) -> bool:
        """Tell the readiness what is there; return whether calls can be served."""
        processor, rabbitmq = self._processing.connected, self._broker.ready
        self.readiness.set_optional(_PROCESSOR, present=processor)
        self.readiness.set_optional(RABBITMQ, present=rabbitmq)
        self.readiness.set(_INTAKE, present=processor or (rabbitmq and self._fallback_to_queue))
        keys_count = self._access.look()
        if self._access.asks_for_keys:
            self.readiness.set(KEYS, present=keys_count)
        return self.readiness.ready


async def _tell_health(healths: health.aio.HealthServicer, intake: _Intake) -> None:
    """Keep the health service as the readiness is: one door for load balancers, one for operators, one truth."""
    while True:
        serving = intake.look()
        status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        for service in ("", SERVICE_NAME):
            await healths.set(service, status)
        await asyncio.sleep(_READINESS_SECONDS)


async def _stop(server: grpc.aio.Server, servicer: EtlServicer, *, seconds_max: float) -> None:
    """Take no new call, let the calls in flight finish, then cut what only listens, such as health watchers."""
    async with asyncio.TaskGroup() as group:
        group.create_task(server.stop(grace=seconds_max))
        try:
            async with asyncio.timeout(seconds_max):
                await servicer.drain()
        except TimeoutError:
            log.warning("calls in flight were cut off; what they had handed over is stored", seconds_max=seconds_max)
        # The last answers are on their way to the socket; a shorter grace takes the place of the longer one.
        group.create_task(server.stop(grace=_FLUSH_SECONDS))
