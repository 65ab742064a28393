"""The composition root: the parts of grpc-ingest, in the order in which they start."""

import asyncio

import grpc.aio
import structlog

from grpc_ingest.context import Calls, admit
from grpc_ingest.reflection import SERVICE_NAME as REFLECTION
from grpc_ingest.reflection import reflection_handler
from grpc_ingest.servicer import SERVICE_NAME, EtlServicer
from grpc_ingest.settings import Settings
from grpc_ingest.streams import StreamLimits
from shared.auth.authenticator import KEYS, Access, open_access
from shared.contracts.errors import FatalError
from shared.contracts.event import Channel
from shared.counters import TALLY
from shared.intake import Intake
from shared.messaging.publisher import READY as RABBITMQ
from shared.messaging.publisher import Publisher
from shared.messaging.receipts import ReceiptSender
from shared.runtime.ops import OpsServer
from shared.runtime.readiness import Readiness
from shared.runtime.rpc_connections import RpcConnections
from shared.runtime.rpc_health import SERVICE_NAME as HEALTH
from shared.runtime.rpc_health import Context, Health, RpcAbort, SideCalls
from shared.runtime.rpc_server import build_server, health_calls, listen
from shared.runtime.service import Periodic, running
from shared.submit.processing import GrpcProcessing
from shared.submit.submitter import Submitter

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_INTAKE = "intake"
_PROCESSOR = "processor"
_LOOK_SECONDS = 1.0
_FLUSH_SECONDS = 0.5


async def serve(settings: Settings, stopping: asyncio.Event) -> None:
    """Serve until `stopping`; then finish the calls in flight, and write what they submitted.

    Raises:
        FatalError: the port is taken, a file of keys or certificates cannot be used, the port would be open
            without keys, or RabbitMQ refuses this service.
    """
    access = open_access(settings, host=settings.grpc_host, host_setting="ETLPAY_GRPC_HOST")
    readiness, broker = Readiness(_INTAKE, stopping=stopping), Readiness(RABBITMQ)
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
    connections = RpcConnections(settings.rpc_connections_max)
    calls = build_calls(settings, connections)
    servicer = build_servicer(settings, submitter, access, calls)
    side_calls = _side_calls(settings, access)
    health = Health([SERVICE_NAME, HEALTH, REFLECTION], side_calls)
    server = _CallServer(settings, servicer, connections, side_calls, health)
    intake = _Intake(readiness, broker, processing, access, settings)

    async def look() -> None:
        health.set(serving=intake.look())
        calls.close_unread()

    try:
        async with (
            running(OpsServer(readiness, host=settings.ops_host, port=settings.ops_port)),
            running(publisher),
            running(receipts),
            running(submitter),
            running(Periodic(look, seconds=_LOOK_SECONDS)),
        ):
            await receipts.opened(stopping)
            async with running(server):
                await stopping.wait()
    finally:
        await processing.close()


def build_calls(settings: Settings, connections: RpcConnections) -> Calls:
    """Return the limits of calls."""
    return Calls(
        calls_max=settings.rpc_calls_max,
        requests_bytes_max=settings.grpc_requests_bytes_max,
        share=settings.caller_share_max,
        send_seconds_max=settings.grpc_send_seconds_max,
        close_connection=connections.close,
    )


def _side_calls(settings: Settings, access: Access) -> SideCalls:
    """Return the limits of health checking and reflection; their streams need an API key if keys are required."""

    def may_stream(context: Context) -> bool:
        try:
            admit(context, access)
        except RpcAbort:
            return False
        return True

    return health_calls(settings, share=settings.caller_share_max, may_stream=may_stream)


def build_servicer(settings: Settings, submitter: Submitter, access: Access, calls: Calls) -> EtlServicer:
    """Return the servicer of `etlpay.EtlService`."""
    return EtlServicer(
        Intake(
            submitter,
            Channel.GRPC,
            batch_events_max=settings.grpc_batch_events_max,
            batch_bytes_max=settings.batch.bytes_max,
        ),
        access,
        calls,
        batch_events_max=settings.grpc_batch_events_max,
        body_bytes_max=settings.body_bytes_max,
        calls_read_max=settings.grpc_calls_read_max,
        call_seconds_max=settings.grpc_call_seconds_max,
        streams_max=settings.grpc_streams_max,
        stream_limits=StreamLimits(
            batches_max=settings.grpc_stream_batches_max,
            pause_seconds_max=settings.grpc_stream_seconds_max,
            send_seconds_max=settings.grpc_send_seconds_max,
            age_seconds_max=settings.grpc_stream_age_seconds_max,
        ),
        caller_share_max=settings.caller_share_max,
    )


class _CallServer:
    """The gRPC server as a part of the service: it finishes the calls in flight once it is closed."""

    def __init__(
        self,
        settings: Settings,
        servicer: EtlServicer,
        connections: RpcConnections,
        side_calls: SideCalls,
        health: Health,
    ) -> None:
        self._settings = settings
        self._servicer = servicer
        self._connections = connections
        self._health = health
        self._handlers = (servicer.handler(), health.handler(), reflection_handler([SERVICE_NAME, HEALTH], side_calls))
        self._closing = asyncio.Event()

    async def run(self) -> None:
        """Serve until `close`. Raises FatalError if the port is taken."""
        server = build_server(self._settings)
        server.add_generic_rpc_handlers(self._handlers)
        port = await _listen(server, self._settings)
        async with asyncio.TaskGroup() as group:
            bounding = group.create_task(self._connections.keep_bounded(port))
            await self._closing.wait()
            self._health.close()
            await _stop(server, self._servicer, seconds_max=self._settings.grpc_drain_seconds_max)
            bounding.cancel()

    def close(self) -> None:
        """Accept no new call."""
        self._closing.set()


async def _listen(server: grpc.aio.Server, settings: Settings) -> int:
    try:
        port = listen(server, f"{settings.grpc_host}:{settings.grpc_port}", settings)
    except RuntimeError as error:
        await server.stop(grace=None)
        raise FatalError(f"cannot listen on {settings.grpc_host}:{settings.grpc_port}") from error
    await server.start()
    log.info("listening", host=settings.grpc_host, port=port)
    return port


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
        self._readiness = readiness
        self._broker = broker
        self._processing = processing
        self._access = access
        self._fallback_to_queue = settings.fallback_to_queue

    def look(self) -> bool:
        """Report what is present; return whether calls can be served."""
        processor, rabbitmq = self._processing.connected, self._broker.ready
        self._readiness.set_optional(_PROCESSOR, present=processor)
        self._readiness.set_optional(RABBITMQ, present=rabbitmq)
        self._readiness.set(_INTAKE, present=processor or (rabbitmq and self._fallback_to_queue))
        keys_count = self._access.look()
        if self._access.asks_for_keys:
            self._readiness.set(KEYS, present=keys_count)
        return self._readiness.ready


async def _stop(server: grpc.aio.Server, servicer: EtlServicer, *, seconds_max: float) -> None:
    """Accept no new call, finish the calls in flight, then end the streams that only listen, such as health watches."""
    async with asyncio.TaskGroup() as group:
        group.create_task(server.stop(grace=seconds_max))
        try:
            async with asyncio.timeout(seconds_max):
                await servicer.drain()
        except TimeoutError:
            log.warning("calls in flight were cut off; what they had handed over is stored", seconds_max=seconds_max)
        # The last responses still have to reach the socket; the shorter grace replaces the longer one.
        group.create_task(server.stop(grace=_FLUSH_SECONDS))
