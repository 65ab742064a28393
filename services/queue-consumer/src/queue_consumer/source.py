"""The way of a foreign message: map, publish as our own batch, and ack as the last line, after the confirm."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

import structlog

from queue_consumer import metrics
from queue_consumer.mapping import Message, Place, to_envelopes
from shared.batching import Batcher, BatchLimits
from shared.contracts.errors import PermanentError, RetryableError
from shared.contracts.event import Envelope, now
from shared.failpoints import failpoint
from shared.messaging.consumer import Delivery
from shared.messaging.session import first_of
from shared.wire import encode_batch, envelope_bytes, split_batches

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_FIRST_PAUSE_SECONDS: Final = 0.1


class Handing(Protocol):
    """Takes over batches, and messages that no batch can hold, such as `shared.messaging.publisher.Publisher`."""

    async def publish_batch(self, body: bytes) -> None:
        """Return when the batch is durable. Raises RetryableError, or PermanentError where it is too large."""

    async def park(self, body: bytes, *, reason: str, queue: str) -> None:
        """Return when the message is durable among the parked ones. Raises RetryableError."""


class Source:
    """Settles deliveries of a foreign queue: each is handed on completely before it is acked."""

    def __init__(
        self, publisher: Handing, *, place: Place, limits: BatchLimits, events_max: int, interval_seconds: float
    ) -> None:
        """Run `run` beside those who settle.

        `events_max` is how many events may be in hand before another message is taken apart, `interval_seconds` the
        longest pause between two attempts.
        """
        self._publisher = publisher
        self._place = place
        self._limits = limits
        self._events_max = events_max
        self._interval_seconds = interval_seconds
        self._events = 0
        self._fewer = asyncio.Event()
        self._batcher: Batcher[Envelope, None] = Batcher(self._publish, limits=limits, weigh=envelope_bytes)
        self._draining = asyncio.Event()

    async def run(self) -> None:
        """Publish batches until `close`."""
        await self._batcher.run()

    @property
    def events_in_hand(self) -> int:
        """How many events of messages that are not settled yet have been taken apart."""
        return self._events

    def drain(self) -> None:
        """Give up what cannot be handed on now: it is not acked, so it comes back."""
        self._draining.set()

    def close(self) -> None:
        """Take nothing more; `run` returns when all that was taken is published or given up."""
        self._batcher.close()

    async def settle(self, delivery: Delivery) -> None:
        """Hand on every event of a delivery, then ack it. Where that ends early the delivery stays unsettled."""
        failpoint("queue-consumer.received")
        # A message of two bytes an event takes a hundred times its size once it is taken apart.
        while self._events >= self._events_max:
            self._fewer.clear()
            await self._fewer.wait()
        events = to_envelopes(
            Message(
                body=delivery.body,
                headers=delivery.headers,
                content_type=delivery.content_type,
                message_id=delivery.message_id,
            ),
            place=self._place,
            received_at=now(),
        )
        self._events += len(events)
        try:
            await self._hand_on(delivery, events)
        except RetryableError:
            return
        finally:
            self._events -= len(events)
            self._fewer.set()
        failpoint("queue-consumer.before_ack")
        await delivery.ack()
        failpoint("queue-consumer.acked")

    async def _hand_on(self, delivery: Delivery, events: list[Envelope]) -> None:
        limits = self._limits
        handed = 0
        try:
            for batch in split_batches(events, events_max=limits.batch_events_max, bytes_max=limits.batch_bytes_max):
                await self._batcher.submit(batch)
                metrics.count_queued(batch)
                handed += len(batch)
        except PermanentError as error:
            await self._park(delivery, events[handed:], str(error))
        except RetryableError:
            metrics.count_given_up(events[handed:])
            raise

    async def _park(self, delivery: Delivery, events: Sequence[Envelope], reason: str) -> None:
        log.error("message parked; an operator must look at it", queue=self._place.queue, reason=reason)
        await self._persist(lambda: self._publisher.park(delivery.body, reason=reason, queue=self._place.queue))
        metrics.count_parked(events)

    async def _publish(self, events: list[Envelope]) -> list[None]:
        body = encode_batch(events)
        failpoint("queue-consumer.before_publish")
        await self._persist(lambda: self._publisher.publish_batch(body))
        return [None] * len(events)

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
