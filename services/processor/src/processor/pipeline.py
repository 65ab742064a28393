"""The hot path: what happens to every event, whichever door it came through."""

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

import msgspec

from processor.cache import CacheFeeder
from processor.metrics import FAILURES, count_batch
from processor.rows import Entry
from processor.sqlstates import LedgerRefusesError
from processor.store import Store
from processor.transform import transform
from shared.contracts.errors import EtlPayError, PermanentError
from shared.contracts.event import Envelope, has_own_id, now
from shared.contracts.outcome import Outcome

WriteEvents: TypeAlias = Callable[[Sequence[Envelope]], Awaitable[list[Outcome]]]
WriteArrivals: TypeAlias = Callable[[Sequence["Arrival"]], Awaitable[list[Outcome]]]


class Arrival(msgspec.Struct, frozen=True, gc=False):
    """An event as it came through a door of the processor. `acknowledged`: see `Entry`."""

    event: Envelope
    acknowledged: bool


class Pipeline:
    """Transforms a batch, stores it at once, and lets the cache know."""

    def __init__(self, store: Store, cache: CacheFeeder) -> None:
        """Both are shared with nobody who writes."""
        self._store = store
        self._cache = cache

    async def write(self, arrivals: Sequence[Arrival]) -> list[Outcome]:
        """Return one outcome per event, in order, after the commit. Idempotent by event id; raises as `Store.write`."""
        began = time.perf_counter()
        epoch = self._cache.epoch
        entries = [Entry(each.event, transform(each.event), each.acknowledged) for each in arrivals]
        try:
            outcomes = await self._store.write(entries, processed_at=now())
        except EtlPayError as error:
            FAILURES.labels(type(error).__name__).inc()
            raise
        count_batch(outcomes, seconds=time.perf_counter() - began)
        self._cache.feed([each.event for each in arrivals], outcomes, epoch=epoch)
        return outcomes


def called(write: WriteArrivals, *, alone: WriteArrivals | None = None) -> WriteEvents:
    """Return what writes events whose caller waits for the outcome.

    It raises PermanentError, and writes none of them, where the id of one is not its own: whoever can reach the
    processor must not take the place of another's event.

    `write` may write them in a batch with those of others, who may be why it cannot be kept; then `alone` writes them
    by themselves.
    """
    return _arriving(write, alone or write, acknowledged=False)


def delivered(write: WriteArrivals, *, alone: WriteArrivals | None = None) -> WriteEvents:
    """Return what writes events of a lane, which their doors have acknowledged. Otherwise as `called`."""
    return _arriving(write, alone or write, acknowledged=True)


def _arriving(write: WriteArrivals, alone: WriteArrivals, *, acknowledged: bool) -> WriteEvents:
    async def write_events(events: Sequence[Envelope]) -> list[Outcome]:
        # Before they share a batch with those of others.
        if not all(map(has_own_id, events)):
            raise PermanentError("an event id is not the one that its source and key make")
        arrivals = [Arrival(event, acknowledged) for event in events]
        try:
            return await write(arrivals)
        except PermanentError as error:
            if alone is write:
                raise
            return await _write_alone(arrivals, alone, error)

    return write_events


async def _write_alone(arrivals: Sequence[Arrival], alone: WriteArrivals, why: PermanentError) -> list[Outcome]:
    try:
        return await alone(arrivals)
    except LedgerRefusesError:
        # What is refused is in here, and others were taken: so it is not held where it would hold up others.
        raise why from None
