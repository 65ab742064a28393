"""Handover: the batches of files go to the broker, several at once, each again and again until it is confirmed."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Final

import structlog

from file_watcher.batches import Batch
from file_watcher.metrics import count_empty, count_given_up, count_queued, count_refused
from shared.contracts.errors import OutcomeUnknownError, RetryableError
from shared.contracts.receipt import InHand
from shared.counters import in_hand
from shared.failpoints import failpoint
from shared.messaging.publisher import BatchPublisher
from shared.runtime.retry import retry
from shared.wire import decode_batch

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_PAUSE_SECONDS_MAX: Final = 5.0

TakeBatch = Callable[[Batch], None]


class FilePublisher:
    """Publishes batches; what is in memory is bounded over all files together."""

    def __init__(self, publisher: BatchPublisher, *, batches_in_flight_max: int, stopping: asyncio.Event) -> None:
        """Once `stopping` is set nothing new is read; what is in flight gets one more chance."""
        self._publisher = publisher
        self._places = asyncio.Semaphore(batches_in_flight_max)
        self._stopping = stopping

    async def publish_all(
        self, batches: Iterator[Batch], *, source: str, rejected: TakeBatch, confirmed: TakeBatch | None = None
    ) -> bool:
        """Return True when every batch, all of one source, is confirmed, False when `stopping` came first.

        `rejected` is called, in a thread, with each batch that has rejects, in order; `confirmed` with each batch once
        it is durable. What reading raises is raised when the batches in flight are settled.
        """
        stream = _Stream(source)
        async with asyncio.TaskGroup() as publishing:
            while not self._stopping.is_set():
                taken = await self._next(batches, rejected, stream)
                if taken is None:
                    break
                batch, held = taken
                count_refused(len(batch.rejects), source=source, received_at=batch.received_at)
                count_empty(batch.skipped)
                publishing.create_task(self._publish(batch, held, stream, confirmed))
        if stream.fault:
            raise stream.fault
        return stream.ended and not stream.unconfirmed

    async def _next(
        self, batches: Iterator[Batch], rejected: TakeBatch, stream: "_Stream"
    ) -> tuple[Batch, InHand] | None:
        """Wait for a place, which the batch then holds, and read the batch, which is in hand; None at the end."""
        batch = None
        await self._places.acquire()
        held = in_hand()
        held.begin()
        try:
            batch = await asyncio.to_thread(_read_batch, batches, rejected, stream)
        finally:
            if batch is None:
                held.end()
                self._places.release()
        return None if batch is None else (batch, held)

    async def _publish(self, batch: Batch, held: InHand, stream: "_Stream", confirmed: TakeBatch | None) -> None:
        try:
            if batch.events and not await self._publish_until_confirmed(batch):
                stream.unconfirmed = True
                return
            count_queued(batch.arrivals, source=stream.source)
        finally:
            held.end()
            self._places.release()
        failpoint("file-watcher.mid_file")
        if confirmed:
            confirmed(batch)

    async def _publish_until_confirmed(self, batch: Batch) -> bool:
        try:
            await retry(
                lambda: self._publisher.publish_batch(batch.body), self._stopping, pause_seconds_max=_PAUSE_SECONDS_MAX
            )
        except RetryableError as error:
            if isinstance(error, OutcomeUnknownError):
                count_given_up(decode_batch(batch.body))
            return False
        return True


class _Stream:
    """How far the batches of one file have come."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.ended = False
        self.unconfirmed = False
        self.fault: OSError | None = None


def _read_batch(batches: Iterator[Batch], rejected: TakeBatch, stream: _Stream) -> Batch | None:
    """Return the next batch, or None at the end. A fault is kept for later: publishes in flight are not cancelled."""
    try:
        batch = next(batches, None)
        if batch is None:
            stream.ended = True
        elif batch.rejects:
            rejected(batch)
    except OSError as error:
        stream.fault = error
        return None
    return batch
