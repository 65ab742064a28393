"""The way of foreign messages: map, publish as our own batches, and ack as the last line, after the confirm."""

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Final, NamedTuple, Protocol

import structlog

from queue_consumer import metrics
from queue_consumer.mapping import Message, Place, to_envelopes
from shared.batching import BatchLimits
from shared.contracts.errors import PermanentError, RetryableError
from shared.contracts.event import Envelope, now, stamp
from shared.failpoints import failpoint
from shared.messaging.consumer import Delivery, Run
from shared.messaging.session import first_of
from shared.wire import encode_batch, split_batches

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_FIRST_PAUSE_SECONDS: Final = 0.1


class Handing(Protocol):
    """Takes over batches, and messages that no batch can hold, such as `shared.messaging.publisher.Publisher`."""

    async def publish_batch(self, body: bytes) -> None:
        """Return when the batch is durable. Raises RetryableError, or PermanentError where it is too large."""

    async def park(self, body: bytes, *, reason: str, queue: str) -> None:
        """Return when the message is durable among the parked ones. Raises RetryableError."""


class _Fault(NamedTuple):
    """Events of a run, from `start` to before `end`, that could not be handed on."""

    start: int
    end: int
    error: PermanentError | RetryableError


class Source:
    """Settles deliveries of a foreign queue: each is handed on completely before it is acked."""

    def __init__(
        self, publisher: Handing, *, place: Place, limits: BatchLimits, events_max: int, interval_seconds: float
    ) -> None:
        """`interval_seconds` is the longest pause between two attempts.

        `events_max` is how many events may be in hand before another message is taken apart: one of two bytes an event
        takes a hundred times its size then.
        """
        self._publisher = publisher
        self._place = place
        self._limits = limits
        self._events_max = events_max
        self._interval_seconds = interval_seconds
        self._draining = asyncio.Event()

    def drain(self) -> None:
        """Give up what cannot be handed on now: it is not acked, so it comes back."""
        self._draining.set()

    async def settle(self, run: Run) -> None:
        """Hand on every event of the run, then ack its deliveries; one that was not handed on stays unsettled."""
        waiting = deque(run.deliveries)
        received_at = now()
        while waiting:
            deliveries, events, ends = self._map(waiting, received_at)
            await self._settle(run, deliveries, events, ends)
            received_at = stamp(received_at, len(events))

    async def _settle(
        self, run: Run, deliveries: Sequence[Delivery], events: Sequence[Envelope], ends: Sequence[int]
    ) -> None:
        faults = await self._hand_on(events)
        settled = await self._after_faults(deliveries, events, ends, faults) if faults else deliveries
        for _ in settled:
            failpoint("queue-consumer.before_ack")
        await run.ack(settled)
        for _ in settled:
            failpoint("queue-consumer.acked")

    def _map(self, waiting: deque[Delivery], received_at: datetime) -> tuple[list[Delivery], list[Envelope], list[int]]:
        """Take apart as many deliveries as may be in hand; return them, their events, and where those of each end."""
        deliveries: list[Delivery] = []
        events: list[Envelope] = []
        ends: list[int] = []
        while waiting and len(events) < self._events_max:
            failpoint("queue-consumer.received")
            delivery = waiting.popleft()
            message = Message(delivery.body, delivery.headers, delivery.content_type, delivery.message_id)
            events += to_envelopes(message, place=self._place, received_at=stamp(received_at, len(events)))
            deliveries.append(delivery)
            ends.append(len(events))
        return deliveries, events, ends

    async def _hand_on(self, events: Sequence[Envelope]) -> list[_Fault]:
        """Publish events in batches, some at a time; return when each batch is confirmed, or has failed."""
        limits = self._limits
        places = asyncio.Semaphore(limits.batches_in_flight_max)
        faults: list[_Fault] = []

        async def publish(batch: Sequence[Envelope], start: int) -> None:
            try:
                body = encode_batch(batch)
                failpoint("queue-consumer.before_publish")
                await self._persist(lambda: self._publisher.publish_batch(body))
                metrics.count_queued(batch)
            except (PermanentError, RetryableError) as error:
                faults.append(_Fault(start, start + len(batch), error))
            finally:
                places.release()

        start = 0
        async with asyncio.TaskGroup() as publishing:
            for batch in split_batches(events, events_max=limits.batch_events_max, bytes_max=limits.batch_bytes_max):
                await places.acquire()
                publishing.create_task(publish(batch, start))
                start += len(batch)
        return faults

    async def _after_faults(
        self, deliveries: Sequence[Delivery], events: Sequence[Envelope], ends: Sequence[int], faults: Sequence[_Fault]
    ) -> list[Delivery]:
        """Park what no batch can hold, and return the deliveries that can be acked."""
        settled = []
        for delivery, start, end in zip(deliveries, (0, *ends), ends, strict=False):
            found = [fault for fault in faults if fault.start < end and start < fault.end]
            missing = [event for fault in found for event in events[max(start, fault.start) : min(end, fault.end)]]
            refused = [fault.error for fault in found if isinstance(fault.error, PermanentError)]
            if len(refused) < len(found) or (refused and not await self._park(delivery, str(refused[0]))):
                metrics.count_given_up(missing)
                continue
            if refused:
                metrics.count_parked(missing)
            settled.append(delivery)
        return settled

    async def _park(self, delivery: Delivery, reason: str) -> bool:
        """Return True when the message is durable among the parked ones."""
        log.error("message parked; an operator must look at it", queue=self._place.queue, reason=reason)
        try:
            await self._persist(lambda: self._publisher.park(delivery.body, reason=reason, queue=self._place.queue))
        except RetryableError:
            return False
        return True

    async def _persist(self, publish: Callable[[], Awaitable[None]]) -> None:
        """Publish again and again until it is confirmed. Raises RetryableError only while draining."""
        attempt = 0
        while True:
            try:
                return await publish()
            except RetryableError:
                if self._draining.is_set():
                    raise
            attempt += 1
            pause = random.uniform(0, min(self._interval_seconds, _FIRST_PAUSE_SECONDS * 2 ** min(attempt, 10)))  # noqa: S311 - jitter, not a secret
            await first_of(self._draining, seconds_max=pause)
