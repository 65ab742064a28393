"""The composition root: everything the processor is made of, put together once."""

import asyncio
from functools import partial
from typing import Final

import grpc.aio
import structlog

from processor.cache import CacheFeeder
from processor.consumer import settle_one_by_one, settle_receipt, settle_together
from processor.database import Connections, check
from processor.pipeline import Arrival, Pipeline, called, delivered
from processor.receipts import ReceiptBook
from processor.servicer import ProcessingDoor
from processor.settings import ProcessorSettings
from processor.store import Store
from shared.batching import Batcher
from shared.cache import Cache
from shared.contracts.errors import RetryableError
from shared.contracts.outcome import Outcome
from shared.messaging.consumer import Consumer
from shared.messaging.session import first_of
from shared.messaging.topology import INGEST_QUEUE, RECEIPTS_QUEUE, SLOW_QUEUE, declare_lanes
from shared.rpc.processing_pb2_grpc import add_ProcessingServicer_to_server
from shared.runtime.ops import serve_ops
from shared.runtime.readiness import Readiness
from shared.runtime.rpc_health import Health
from shared.runtime.rpc_server import build_server, health_calls
from shared.wire import envelope_bytes

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_POSTGRES: Final = "postgres"
_WATCH_SECONDS: Final = 2.0
_GRPC_GRACE_SECONDS: Final = 10.0


async def serve(settings: ProcessorSettings, stopping: asyncio.Event) -> None:
    """Run the processor until `stopping`; then take nothing more, finish, settle and close."""
    readiness = Readiness(_POSTGRES, f"queue {INGEST_QUEUE}", f"queue {SLOW_QUEUE}")
    connections = await Connections.open(settings, name="etlpay-processor")
    cache = Cache.connect(settings)
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(serve_ops(readiness, host=settings.ops_host, port=settings.ops_port, stopping=stopping))
            if await _ledger_is_ready(connections, stopping):
                watching = group.create_task(_watch(connections, cache, readiness, stopping))
                keeping = group.create_task(_keep_receipts(settings, ReceiptBook(connections), stopping))
                store = Store(connections, copy_events_min=settings.copy_events_min)
                await _process(settings, store, CacheFeeder(cache), readiness, stopping)
                await keeping
                await watching
    finally:
        await cache.close()
        await connections.close()


async def _process(
    settings: ProcessorSettings, store: Store, feeder: CacheFeeder, readiness: Readiness, stopping: asyncio.Event
) -> None:
    """Open both doors on one pipeline. Doors close first, then what they took is written, then the rest goes."""
    pipeline = Pipeline(store, feeder)
    batcher: Batcher[Arrival, Outcome] = Batcher(
        pipeline.write, limits=settings.batching, weigh=lambda arrival: envelope_bytes(arrival.event)
    )
    open_consumer = partial(
        Consumer,
        settings,
        name="processor",
        bytes_max=settings.ingest_bytes_max,
        declare=declare_lanes,
        readiness=readiness,
        proved=True,
    )
    fast = open_consumer(
        queue=INGEST_QUEUE,
        prefetch_count=settings.ingest_prefetch,
        settle=partial(settle_together, write=delivered(batcher.submit)),
    )
    slow = open_consumer(
        queue=SLOW_QUEUE, prefetch_count=1, settle=partial(settle_one_by_one, write=delivered(pipeline.write))
    )
    # The caller has gathered, and waits: looking for more took 28 turns of the loop a batch of 31, 32.5 microseconds of
    # CPU an event instead of 30.0 (single HTTP requests, 64 connections). Messages of the lanes wait for one another:
    # without that NDJSON files took 27,500 events a second, with it 29,700 (one run each).
    door = ProcessingDoor(called(partial(batcher.submit, at_once=True)))
    server, health = _build_server(settings, door)
    async with asyncio.TaskGroup() as group:
        feeding = group.create_task(feeder.run())
        writing = group.create_task(batcher.run())
        consuming = [group.create_task(fast.run()), group.create_task(slow.run())]
        await server.start()
        log.info("ready", processing_port=settings.processing_port)
        await stopping.wait()
        readiness.draining = True
        health.close()
        fast.close()
        slow.close()
        # Callers learn that they have to go elsewhere before their streams end.
        closing = group.create_task(server.stop(_GRPC_GRACE_SECONDS))
        await asyncio.sleep(0)
        door.drain()
        await closing
        await asyncio.wait(consuming)
        batcher.close()
        await writing
        await feeder.close()
        await feeding


async def _keep_receipts(settings: ProcessorSettings, book: ReceiptBook, stopping: asyncio.Event) -> None:
    """Keep what the doors have counted. No event waits for it, so it is no part of being ready."""
    consumer = Consumer(
        settings,
        name="processor receipts",
        queue=RECEIPTS_QUEUE,
        prefetch_count=1,
        bytes_max=settings.ingest_bytes_max,
        declare=declare_lanes,
        settle=partial(settle_receipt, keep=book.keep),
        proved=True,
    )
    async with asyncio.TaskGroup() as group:
        group.create_task(consumer.run())
        await stopping.wait()
        consumer.close()


def _build_server(settings: ProcessorSettings, door: ProcessingDoor) -> tuple[grpc.aio.Server, Health]:
    server = build_server(settings)
    add_ProcessingServicer_to_server(door, server)
    health = Health([], health_calls(settings, share=1))
    server.add_generic_rpc_handlers((health.handler(),))
    server.add_insecure_port(f"{settings.processing_host}:{settings.processing_port}")
    return server, health


async def _ledger_is_ready(connections: Connections, stopping: asyncio.Event) -> bool:
    """Wait for a ledger that can be written before anything is taken; return False when asked to stop meanwhile."""
    told = ""
    while not stopping.is_set():
        try:
            await check(connections)
        except RetryableError as error:
            if str(error) != told:
                log.warning("waiting for the ledger; nothing is taken yet", reason=str(error))
                told = str(error)
            await first_of(stopping, seconds_max=0.5)
        else:
            return True
    return False


async def _watch(connections: Connections, cache: Cache, readiness: Readiness, stopping: asyncio.Event) -> None:
    """Keep /readyz true to the ledger."""
    while not stopping.is_set():
        try:
            async with asyncio.timeout(_WATCH_SECONDS):
                await check(connections)
        except (RetryableError, TimeoutError):
            readiness.set(_POSTGRES, present=False)
        else:
            readiness.set(_POSTGRES, present=True)
        readiness.set_optional("redis", present=cache.present)
        await first_of(stopping, seconds_max=_WATCH_SECONDS)
