"""The composition root: what is made, in which order it starts, and how it drains."""

import asyncio
from typing import NamedTuple

import grpc.aio
import structlog

from grpc_ingest.admission import Calls, RpcAbort, admit
from grpc_ingest.reflection import SERVICE_NAME as REFLECTION
from grpc_ingest.reflection import reflection_handler
from grpc_ingest.servicer import SERVICE_NAME, EtlServicer
from grpc_ingest.settings import Settings
from grpc_ingest.streams import StreamLimits
from shared.auth.authenticator import KEYS, Access, open_access
from shared.contracts.errors import FatalError
from shared.contracts.event import Channel
from shared.counters import TALLY
from shared.messaging.publisher import READY as RABBITMQ
from shared.messaging.publisher import Publisher
from shared.messaging.receipts import ReceiptSender
from shared.runtime.ops import serve_ops
from shared.runtime.readiness import Readiness
from shared.runtime.rpc_connections import RpcConnections
from shared.runtime.rpc_health import SERVICE_NAME as HEALTH
from shared.runtime.rpc_health import Context, Health, SideCalls
from shared.runtime.rpc_server import build_server, health_calls, listen
from shared.submit.processing import GrpcProcessing
from shared.submit.submitter import Submitter

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
    connections = RpcConnections(settings.rpc_connections_max)
    calls = build_calls(settings, connections)
    servicer = build_servicer(settings, submitter, access, calls)
    side_calls = _side_calls(settings, access)
    door = _Door(servicer, calls, connections, side_calls, Health([SERVICE_NAME, HEALTH, REFLECTION], side_calls))
    drained = asyncio.Event()
    try:
        async with asyncio.TaskGroup() as group:
            publishing = group.create_task(publisher.run())
            telling = group.create_task(receipts.run())
            submitting = group.create_task(submitter.run())
            group.create_task(serve_ops(readiness, host=settings.ops_host, port=settings.ops_port, stopping=drained))
            await receipts.opened(stopping)
            await _serve_calls(settings, door, _Intake(readiness, broker, processing, access, settings), stopping)
            submitter.close()
            await submitting
            receipts.close()
            await telling
            publisher.close()
            await publishing
            drained.set()
    finally:
        await processing.close()


class _Door(NamedTuple):
    """What calls meet."""

    servicer: EtlServicer
    calls: Calls
    connections: RpcConnections
    side_calls: SideCalls
    health: Health


def build_calls(settings: Settings, connections: RpcConnections) -> Calls:
    """Return the bounds of calls."""
    return Calls(
        calls_max=settings.rpc_calls_max,
        requests_bytes_max=settings.grpc_requests_bytes_max,
        share=settings.caller_share_max,
        send_seconds_max=settings.grpc_send_seconds_max,
        close_connection=connections.close,
    )


def _side_calls(settings: Settings, access: Access) -> SideCalls:
    """Return the bounds of health checking and reflection; streams of theirs need a key where keys are asked for."""

    def may_stream(context: Context) -> bool:
        try:
            admit(context, access)
        except RpcAbort:
            return False
        return True

    return health_calls(settings, share=settings.caller_share_max, may_stream=may_stream)


def build_servicer(settings: Settings, submitter: Submitter, access: Access, calls: Calls) -> EtlServicer:
    """Return what answers calls."""
    return EtlServicer(
        submitter,
        access,
        calls,
        batch_events_max=settings.grpc_batch_events_max,
        batch_bytes_max=settings.batch.batch_bytes_max,
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


async def _serve_calls(settings: Settings, door: _Door, intake: "_Intake", stopping: asyncio.Event) -> None:
    server = build_server(settings)
    reflected = reflection_handler([SERVICE_NAME, HEALTH], door.side_calls)
    server.add_generic_rpc_handlers((door.servicer.handler(), door.health.handler(), reflected))
    port = await _listen(server, settings)
    async with asyncio.TaskGroup() as group:
        bounding = group.create_task(door.connections.keep_bounded(port))
        telling = group.create_task(_look(door, intake))
        await stopping.wait()
        intake.readiness.draining = True
        telling.cancel()
        door.health.close()
        await _stop(server, door.servicer, seconds_max=settings.grpc_drain_seconds_max)
        bounding.cancel()


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


async def _look(door: _Door, intake: _Intake) -> None:
    """Keep the health service as the readiness is, and see to clients that do not read."""
    while True:
        door.health.set(serving=intake.look())
        door.calls.close_unread()
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
