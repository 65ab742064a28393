"""The composition root: the parts of the processor, in the order in which they start."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import Final

import structlog

from processor.cache import CacheFeeder
from processor.inputs.callers import Callers, open_callers
from processor.inputs.grpc import ProcessingService
from processor.inputs.queues import settle_one_by_one, settle_receipt, settle_together
from processor.ledger.database import Connections, WriteGate, check
from processor.ledger.drifts import DriftStore
from processor.ledger.holds import Holds
from processor.ledger.owed import OwedEvents
from processor.ledger.receipts import ReceiptStore
from processor.ledger.sqlstates import LedgerRefusesError
from processor.ledger.store import Store
from processor.programs.mask_keys import keys_by_id
from processor.programs.versions import Versions
from processor.settings import ProcessorSettings
from processor.stages.drift import DriftCounts, DriftRecorder
from processor.stages.held import HeldEvents
from processor.stages.processing import Received, Stages, batch_bytes, checked
from processor.stages.transform import transform
from shared.batching import Batcher
from shared.cache import Cache
from shared.contracts.errors import FatalError, RetryableError
from shared.contracts.result import Recorded
from shared.messaging.consumer import Consumer, Delivery
from shared.messaging.topology import INGEST_QUEUE, RECEIPTS_QUEUE, SLOW_QUEUE, declare_ingest_queues
from shared.rpc.processing_pb2_grpc import add_ProcessingServicer_to_server
from shared.runtime.ops import OpsServer
from shared.runtime.readiness import Readiness
from shared.runtime.rpc_health import Health
from shared.runtime.rpc_server import build_server, health_calls, listen
from shared.runtime.service import Periodic, running
from shared.runtime.waiting import wait_any

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_POSTGRES: Final = "postgres"
_LOOK_SECONDS: Final = 2.0
_GRPC_GRACE_SECONDS: Final = 10.0


async def serve(settings: ProcessorSettings, stopping: asyncio.Event) -> None:
    """Run the processor until `stopping`; then take nothing more, write and settle what was taken.

    Raises:
        FatalError: the port would be open without tokens, the certificates cannot be used, RabbitMQ refuses this
            service, or PostgreSQL cannot keep what it commits.
    """
    callers = open_callers(settings, host=settings.processing_host)
    readiness = Readiness(_POSTGRES, f"queue {INGEST_QUEUE}", f"queue {SLOW_QUEUE}", stopping=stopping)
    connections = await Connections.open(settings, name="etlpay-processor")
    cache = Cache.connect(settings)
    mask_keys = keys_by_id(settings.mask_key.get_secret_value(), settings.former_mask_keys.get_secret_value())
    holds = Holds(connections, readiness)
    versions = Versions(connections.taken, mask_keys, held=lambda: holds.held)
    try:
        async with running(OpsServer(readiness, host=settings.ops_host, port=settings.ops_port)):
            if await _ledger_is_ready(connections, cache, holds, versions, stopping):
                await _process(settings, callers, connections, cache, holds, versions, readiness, stopping)
    finally:
        await cache.close()
        await connections.close()


async def _process(  # noqa: PLR0913, PLR0917 - what `serve` has opened
    settings: ProcessorSettings,
    callers: Callers,
    connections: Connections,
    cache: Cache,
    holds: Holds,
    versions: Versions,
    readiness: Readiness,
    stopping: asyncio.Event,
) -> None:
    store = Store(
        connections,
        copy_events_min=settings.copy_events_min,
        source_names_max=settings.source_names_max,
        compared_bytes_max=settings.compared_bytes_max,
        answered_bytes_max=settings.answered_bytes_max,
        typed_lock_seconds_max=settings.typed_lock_seconds_max,
        holds=holds,
    )
    feeder = CacheFeeder(cache)
    drift = DriftCounts()
    stages = Stages(store, feeder, lambda: versions.active, drift)
    batcher: Batcher[Received, Recorded] = Batcher(stages.write, limits=settings.batch, weigh=batch_bytes)
    async with (
        running(Periodic(partial(_look, connections, cache, versions, readiness), seconds=_LOOK_SECONDS)),
        running(DriftRecorder(DriftStore(connections), drift)),
        running(
            HeldEvents(
                holds,
                OwedEvents(connections, store.ids, store.causes, store.typed),
                active=lambda: versions.active,
                transform=transform,
                drift=drift,
            )
        ),
        running(feeder),
        running(batcher),
        running(
            _Intake(
                settings,
                callers,
                stages,
                batcher,
                receipts=ReceiptStore(connections),
                gate=connections.gate,
                readiness=readiness,
            )
        ),
    ):
        await stopping.wait()


class _Intake:
    """Takes events from gRPC calls and from the queues, and receipts. All of them stop at the same time.

    No queue is read while the ledger cannot be written by this code.
    """

    def __init__(  # noqa: PLR0913 - what events go through
        self,
        settings: ProcessorSettings,
        callers: Callers,
        stages: Stages,
        batcher: Batcher[Received, Recorded],
        *,
        receipts: ReceiptStore,
        gate: WriteGate,
        readiness: Readiness,
    ) -> None:
        self._settings = settings
        self._stages = stages
        self._batcher = batcher
        self._receipts = receipts
        self._gate = gate
        self._readiness = readiness
        # The caller has gathered, and waits: lingering for more took 28 turns of the loop a batch of 31, 32.5
        # microseconds of CPU an event instead of 30.0 (single HTTP requests, 64 connections). Messages of the queues
        # wait for one another: without that NDJSON files took 27,500 events a second, with it 29,700 (one run each).
        write = checked(partial(batcher.submit, at_once=True), acknowledged=False, alone=stages.write)
        self._servicer = ProcessingService(write, keep=receipts.keep, callers=callers)
        self._closing = asyncio.Event()

    async def run(self) -> None:
        """Take events until `close`, then settle what was taken."""
        settings, write = self._settings, self._stages.write
        # From then on a delivery that cannot be written goes back to the broker.
        until = (self._gate.closed, self._closing)
        together_write = checked(self._batcher.submit, acknowledged=True, alone=write)
        together = partial(settle_together, write=together_write, until=until)
        one_by_one = partial(settle_one_by_one, write=checked(write, acknowledged=True), until=until)
        # No event waits for a receipt, so reading them is no part of being ready.
        receipts = partial(settle_receipt, keep=self._receipts.keep, until=until)
        async with asyncio.TaskGroup() as group:
            group.create_task(
                self._consume(
                    together, queue=INGEST_QUEUE, prefetch_count=settings.ingest_prefetch, readiness=self._readiness
                )
            )
            group.create_task(self._consume(one_by_one, queue=SLOW_QUEUE, prefetch_count=1, readiness=self._readiness))
            group.create_task(
                self._consume(receipts, queue=RECEIPTS_QUEUE, prefetch_count=1, name="processor receipts")
            )
            group.create_task(self._serve_calls())

    def close(self) -> None:
        """Take no more."""
        self._closing.set()

    async def _consume(
        self,
        settle: Callable[[Delivery], Coroutine[None, None, None]],
        *,
        queue: str,
        prefetch_count: int,
        name: str = "processor",
        readiness: Readiness | None = None,
    ) -> None:
        """Read a queue until `close`, one consumer after the other: each ends when the gate is closed.

        Its unsettled deliveries go back to the broker then, where a processor of another version may take them.
        """
        while not self._closing.is_set():
            await wait_any(self._gate.opened, self._closing)
            if self._closing.is_set():
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
                canary=True,
            )
            async with running(consumer):
                await wait_any(self._gate.closed, self._closing)

    async def _serve_calls(self) -> None:
        settings = self._settings
        server = build_server(settings)
        add_ProcessingServicer_to_server(self._servicer, server)
        health = Health([], health_calls(settings, share=1))
        server.add_generic_rpc_handlers((health.handler(),))
        listen(server, f"{settings.processing_host}:{settings.processing_port}", settings)
        await server.start()
        log.info("ready", processing_port=settings.processing_port)
        await self._closing.wait()
        health.close()
        async with asyncio.TaskGroup() as group:
            # Callers are told to connect elsewhere before their streams end.
            group.create_task(server.stop(_GRPC_GRACE_SECONDS))
            await asyncio.sleep(0)
            self._servicer.drain()


async def _ledger_is_ready(
    connections: Connections, cache: Cache, holds: Holds, versions: Versions, stopping: asyncio.Event
) -> bool:
    """Wait until the ledger can be written and its pipelines are loaded; return False when `stopping` came first."""
    reported = ""
    while not stopping.is_set():
        try:
            state = await check(connections)
            await holds.look()
            await versions.follow(state.pipelines)
            cache.turn_to(state.epoch)
        except RetryableError as error:
            if str(error) != reported:
                log.warning("waiting for the ledger; nothing is taken yet", reason=str(error))
                reported = str(error)
            await wait_any(stopping, seconds_max=0.5)
        else:
            return True
    return False


async def _look(connections: Connections, cache: Cache, versions: Versions, readiness: Readiness) -> None:
    """Check the ledger, and set the pipelines, the readiness, the gate and the epoch of the cache accordingly."""
    gate = connections.gate
    try:
        async with asyncio.timeout(_LOOK_SECONDS):
            state = await check(connections)
            cache.turn_to(state.epoch)
    except (FatalError, LedgerRefusesError) as error:
        # Ending the process would cost every unacked message one of its deliveries.
        gate.close(str(error))
        cache.turn_to(None)
    except (RetryableError, TimeoutError):
        cache.turn_to(None)
        readiness.set(_POSTGRES, present=False)
    else:
        gate.open()
        readiness.set(_POSTGRES, present=not gate.refused)
        # Where the ledger cannot be read now, the next look tries again.
        with suppress(RetryableError):
            await versions.follow(state.pipelines)
    if gate.closed.is_set():
        readiness.set(_POSTGRES, present=False)
    readiness.set_optional("redis", present=cache.present)
    readiness.set_optional("pipelines", present=not versions.failures)
