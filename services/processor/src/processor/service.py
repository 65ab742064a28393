"""The composition root: everything the processor is made of, put together once."""

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Final

import grpc.aio
import structlog

from processor.cache import CacheFeeder
from processor.callers import Callers, open_callers
from processor.consumer import settle_one_by_one, settle_receipt, settle_together
from processor.database import Connections, check
from processor.gate import WriteGate
from processor.pipeline import Arrival, Pipeline, called, delivered
from processor.receipts import ReceiptBook
from processor.servicer import ProcessingDoor
from processor.settings import ProcessorSettings
from processor.sqlstates import LedgerRefusesError
from processor.store import Store
from shared.batching import Batcher
from shared.cache import Cache
from shared.contracts.errors import FatalError, RetryableError
from shared.contracts.outcome import Outcome
from shared.messaging.consumer import Consumer, Delivery
from shared.messaging.topology import INGEST_QUEUE, RECEIPTS_QUEUE, SLOW_QUEUE, declare_ingest_queues
from shared.rpc.processing_pb2_grpc import add_ProcessingServicer_to_server
from shared.runtime.ops import serve_ops
from shared.runtime.readiness import Readiness
from shared.runtime.rpc_health import Health
from shared.runtime.rpc_server import build_server, health_calls, listen
from shared.runtime.waiting import wait_any
from shared.wire import envelope_bytes

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_POSTGRES: Final = "postgres"
_WATCH_SECONDS: Final = 2.0
_GRPC_GRACE_SECONDS: Final = 10.0


async def serve(settings: ProcessorSettings, stopping: asyncio.Event) -> None:
    """Run the processor until `stopping`; then take nothing more, finish, settle and close.

    Raises:
        FatalError: anybody could hand events over, the certificates cannot be used, RabbitMQ does not let us in, or
            PostgreSQL will never do.
    """
    callers = open_callers(settings, host=settings.processing_host)
    readiness = Readiness(_POSTGRES, f"queue {INGEST_QUEUE}", f"queue {SLOW_QUEUE}")
    connections = await Connections.open(settings, name="etlpay-processor")
    cache = Cache.connect(settings)
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(serve_ops(readiness, host=settings.ops_host, port=settings.ops_port, stopping=stopping))
            if await _ledger_is_ready(connections, cache, stopping):
                watching = group.create_task(_watch(connections, cache, readiness, stopping))
                intake = _Intake(settings, connections.gate, stopping)
                book = ReceiptBook(connections)
                keeping = group.create_task(_keep_receipts(intake, book))
                store = Store(
                    connections,
                    copy_events_min=settings.copy_events_min,
                    source_names_max=settings.source_names_max,
                    compared_bytes_max=settings.compared_bytes_max,
                    answered_bytes_max=settings.answered_bytes_max,
                )
                feeder = CacheFeeder(cache)
                feeding = group.create_task(feeder.run())
                pipeline = Pipeline(store, feeder)
                await _process(settings, callers, pipeline, book=book, intake=intake, readiness=readiness)
                await feeder.close()
                await feeding
                await keeping
                await watching
    finally:
        await cache.close()
        await connections.close()


class _Intake:
    """What reads the queues of the processor: none of it while the ledger cannot be written by this code."""

    def __init__(self, settings: ProcessorSettings, gate: WriteGate, stopping: asyncio.Event) -> None:
        self._settings = settings
        self._gate = gate
        self.stopping = stopping

    def holds(self) -> bool:
        """Tell whether a delivery that cannot be written is held, or goes back to the broker."""
        return self._gate.opened.is_set() and not self.stopping.is_set()

    async def consume(
        self,
        settle: Callable[[Delivery], Coroutine[None, None, None]],
        *,
        queue: str,
        prefetch_count: int,
        name: str = "processor",
        readiness: Readiness | None = None,
    ) -> None:
        """Read a queue until `stopping`, one consumer after the other: each ends when the gate is closed.

        What it has in hand goes back to the broker then, where a processor of another version may take it.
        """
        while not self.stopping.is_set():
            await wait_any(self._gate.opened, self.stopping)
            if self.stopping.is_set():
                return
            consumer = Consumer(
                self._settings,
                name=name,
                queue=queue,
                prefetch_count=prefetch_count,
                bytes_max=self._settings.ingest_bytes_max,
                declare=declare_ingest_queues,
                settle=settle,
                readiness=readiness,
                proved=True,
            )
            async with asyncio.TaskGroup() as group:
                group.create_task(consumer.run())
                await wait_any(self._gate.closed, self.stopping)
                consumer.close()


async def _process(  # noqa: PLR0913 - what the doors are opened on
    settings: ProcessorSettings,
    callers: Callers,
    pipeline: Pipeline,
    *,
    book: ReceiptBook,
    intake: _Intake,
    readiness: Readiness,
) -> None:
    """Open both doors on one pipeline. Doors close first, then what they took is written, then the rest goes."""
    batcher: Batcher[Arrival, Outcome] = Batcher(
        pipeline.write, limits=settings.batching, weigh=lambda arrival: envelope_bytes(arrival.event)
    )
    together = partial(settle_together, write=delivered(batcher.submit, alone=pipeline.write), hold=intake.holds)
    one_by_one = partial(settle_one_by_one, write=delivered(pipeline.write), hold=intake.holds)
    # The caller has gathered, and waits: looking for more took 28 turns of the loop a batch of 31, 32.5 microseconds of
    # CPU an event instead of 30.0 (single HTTP requests, 64 connections). Messages of the lanes wait for one another:
    # without that NDJSON files took 27,500 events a second, with it 29,700 (one run each).
    door = ProcessingDoor(
        called(partial(batcher.submit, at_once=True), alone=pipeline.write), keep=book.keep, callers=callers
    )
    server, health = _build_server(settings, door)
    async with asyncio.TaskGroup() as group:
        writing = group.create_task(batcher.run())
        consume = partial(intake.consume, readiness=readiness)
        consuming = [
            group.create_task(consume(together, queue=INGEST_QUEUE, prefetch_count=settings.ingest_prefetch)),
            group.create_task(consume(one_by_one, queue=SLOW_QUEUE, prefetch_count=1)),
        ]
        await server.start()
        log.info("ready", processing_port=settings.processing_port)
        await intake.stopping.wait()
        readiness.draining = True
        health.close()
        # Callers learn that they have to go elsewhere before their streams end.
        closing = group.create_task(server.stop(_GRPC_GRACE_SECONDS))
        await asyncio.sleep(0)
        door.drain()
        await closing
        await asyncio.wait(consuming)
        batcher.close()
        await writing


async def _keep_receipts(intake: _Intake, book: ReceiptBook) -> None:
    """Keep what the doors have counted. No event waits for it, so it is no part of being ready."""
    settle = partial(settle_receipt, keep=book.keep, hold=intake.holds)
    await intake.consume(settle, queue=RECEIPTS_QUEUE, prefetch_count=1, name="processor receipts")


def _build_server(settings: ProcessorSettings, door: ProcessingDoor) -> tuple[grpc.aio.Server, Health]:
    server = build_server(settings)
    add_ProcessingServicer_to_server(door, server)
    health = Health([], health_calls(settings, share=1))
    server.add_generic_rpc_handlers((health.handler(),))
    listen(server, f"{settings.processing_host}:{settings.processing_port}", settings)
    return server, health


async def _ledger_is_ready(connections: Connections, cache: Cache, stopping: asyncio.Event) -> bool:
    """Wait for a ledger that can be written before anything is taken; return False when asked to stop meanwhile."""
    told = ""
    while not stopping.is_set():
        try:
            cache.turn_to(await check(connections))
        except RetryableError as error:
            if str(error) != told:
                log.warning("waiting for the ledger; nothing is taken yet", reason=str(error))
                told = str(error)
            await wait_any(stopping, seconds_max=0.5)
        else:
            return True
    return False


async def _watch(connections: Connections, cache: Cache, readiness: Readiness, stopping: asyncio.Event) -> None:
    """Keep /readyz, the gate of those who write, and what the cache may speak of, true to the ledger."""
    gate = connections.gate
    while not stopping.is_set():
        try:
            async with asyncio.timeout(_WATCH_SECONDS):
                cache.turn_to(await check(connections))
        except (FatalError, LedgerRefusesError) as error:
            # To end would cost everything in hand one of its deliveries, and help nobody.
            gate.close(str(error))
            cache.turn_to(None)
        except (RetryableError, TimeoutError):
            cache.turn_to(None)
            readiness.set(_POSTGRES, present=False)
        else:
            gate.open()
            readiness.set(_POSTGRES, present=not gate.refused)
        if gate.closed.is_set():
            readiness.set(_POSTGRES, present=False)
        readiness.set_optional("redis", present=cache.present)
        await wait_any(stopping, seconds_max=_WATCH_SECONDS)
