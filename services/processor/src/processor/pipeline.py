"""The hot path: what happens to every event, whichever door it came through."""

import time
from collections.abc import Sequence

from processor.cache import CacheFeeder
from processor.metrics import FAILURES, count_batch
from processor.store import Entry, Store
from processor.transform import transform
from shared.contracts.errors import EtlPayError
from shared.contracts.event import Envelope, now
from shared.contracts.outcome import Outcome


class Pipeline:
    """Transforms a batch, stores it in one transaction, and lets the cache know."""

    def __init__(self, store: Store, cache: CacheFeeder) -> None:
        """Both are shared with nobody who writes."""
        self._store = store
        self._cache = cache

    async def write(self, events: Sequence[Envelope]) -> list[Outcome]:
        """Return one outcome per event, in order, after the commit. Idempotent by event id; raises as `Store.write`."""
        began = time.perf_counter()
        entries = [Entry(event, transform(event)) for event in events]
        try:
            outcomes = await self._store.write(entries, processed_at=now())
        except EtlPayError as error:
            FAILURES.labels(type(error).__name__).inc()
            raise
        count_batch(outcomes, seconds=time.perf_counter() - began)
        self._cache.feed(events, outcomes, sources_known=self._store.sources_known)
        return outcomes
