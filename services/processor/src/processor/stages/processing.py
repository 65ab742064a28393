"""The stages of an event, whichever input it came through: check, transform, store, count, cache."""

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

import msgspec

from processor.cache import CacheFeeder
from processor.ledger.rows import Processed
from processor.ledger.sqlstates import LedgerRefusesError
from processor.ledger.store import Store
from processor.metrics import FAILURES, count_batch
from processor.programs.active import NO_PIPELINES, ActiveSet
from processor.stages.drift import DriftCounts
from processor.stages.transform import transform
from shared.contracts.errors import EtlPayError, PermanentError
from shared.contracts.event import Envelope, has_own_id, now
from shared.contracts.result import Recorded, RecordStatus, ResultKind
from shared.wire import envelope_bytes

WriteEvents: TypeAlias = Callable[[Sequence[Envelope]], Awaitable[list[Recorded]]]
WriteReceived: TypeAlias = Callable[[Sequence["Received"]], Awaitable[list[Recorded]]]


class Received(msgspec.Struct, frozen=True, gc=False):
    """An event that an input has taken. `acknowledged`: see `Processed`."""

    event: Envelope
    acknowledged: bool


def batch_bytes(received: Received) -> int:
    """Return how many bytes of a batch an event takes."""
    return envelope_bytes(received.event)


class Stages:
    """Transforms a batch, stores it in one transaction, and gives its records to the cache."""

    def __init__(
        self,
        store: Store,
        feeder: CacheFeeder,
        pipelines: Callable[[], ActiveSet] = lambda: NO_PIPELINES,
        drift: DriftCounts | None = None,
    ) -> None:
        """Nothing else may write to `store`. `pipelines` returns those that are active now; `drift` counts."""
        self._store = store
        self._feeder = feeder
        self._pipelines = pipelines
        self._drift = drift or DriftCounts()

    async def write(self, received: Sequence[Received]) -> list[Recorded]:
        """Return one outcome per event, in order, after the commit. Idempotent by event id; raises as `Store.write`."""
        began = time.perf_counter()
        epoch = self._feeder.cache.epoch
        # One set for the whole batch: another may replace it meanwhile.
        pipelines = self._pipelines()
        processed = [transform(each.event, pipelines, acknowledged=each.acknowledged) for each in received]
        try:
            outcomes = await self._store.write(processed, processed_at=now())
        except EtlPayError as error:
            FAILURES.labels(type(error).__name__).inc()
            raise
        count_batch(outcomes, seconds=time.perf_counter() - began)
        if pipelines.pipelines:
            self._count_drift(processed, outcomes)
        self._feeder.feed([each.event for each in received], outcomes, epoch=epoch)
        return outcomes

    def _count_drift(self, processed: Sequence[Processed], outcomes: Sequence[Recorded]) -> None:
        """Count what pipelines do not read of events that are stored now; HELD ones count when they are processed."""
        drifted = [
            (each, outcome.raw_event_id)
            for each, outcome in zip(processed, outcomes, strict=True)
            if each.drift and outcome.kind is ResultKind.STORED and outcome.status is not RecordStatus.HELD
        ]
        if drifted:
            self._drift.add(drifted)


def checked(write: WriteReceived, *, acknowledged: bool, alone: WriteReceived | None = None) -> WriteEvents:
    """Return a function that checks the ids of events and writes them.

    Args:
        write: writes the events, perhaps in one batch with others.
        acknowledged: whether the channel of these events has answered already: see `Processed`.
        alone: writes the events in a batch of their own. It is called when `write` raises PermanentError, since
            another event of the batch may be the reason. None: `write` adds no others.

    The function raises PermanentError, and writes nothing, when an event's id is not the one that its source and key
    make. Otherwise it raises as `write`.
    """

    async def write_events(events: Sequence[Envelope]) -> list[Recorded]:
        # Before they share a batch with other events.
        if not all(map(has_own_id, events)):
            raise PermanentError("an event id is not the one that its source and key make")
        received = [Received(event, acknowledged) for event in events]
        try:
            return await write(received)
        except PermanentError as error:
            if alone is None:
                raise
            return await _write_alone(received, alone, error)

    return write_events


async def _write_alone(received: Sequence[Received], alone: WriteReceived, why: PermanentError) -> list[Recorded]:
    try:
        return await alone(received)
    except LedgerRefusesError:
        # The ledger refuses one of these events and took the other events of the batch. To hold these would hold up
        # the events behind them.
        raise why from None
