"""Publish: a batch is published again and again until the broker confirms it."""

import asyncio
from typing import Final

from file_watcher.batches import Batch
from file_watcher.metrics import count_given_up, count_queued
from shared.contracts.errors import OutcomeUnknownError, RetryableError
from shared.messaging.publisher import BatchPublisher
from shared.runtime.retry import retry
from shared.wire import decode_batch

_PAUSE_SECONDS_MAX: Final = 5.0


class ConfirmedPublisher:
    """Publishes batches until they are confirmed."""

    def __init__(self, publisher: BatchPublisher, *, stopping: asyncio.Event) -> None:
        """Once `stopping` is set, a batch that is being published gets one more attempt."""
        self._publisher = publisher
        self._stopping = stopping

    async def publish(self, batch: Batch, *, source: str) -> bool:
        """Return True when the batch is confirmed and counted, False when `stopping` was set before."""
        if batch.events and not await self._publish_until_confirmed(batch.body):
            return False
        count_queued(batch.arrivals, source=source)
        return True

    async def _publish_until_confirmed(self, body: bytes) -> bool:
        try:
            await retry(
                lambda: self._publisher.publish_batch(body), self._stopping, pause_seconds_max=_PAUSE_SECONDS_MAX
            )
        except RetryableError as error:
            if isinstance(error, OutcomeUnknownError):
                count_given_up(decode_batch(body))
            return False
        return True
