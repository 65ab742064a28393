"""Forwards foreign messages: map, publish as batches, and ack as the last line, after the confirm."""

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Final, NamedTuple, Protocol

import msgspec
import structlog

from queue_consumer import metrics
from queue_consumer.mapping import MappingOptions, to_envelopes
from queue_consumer.message import Message
from shared.auth.producers import Producers
from shared.batching import BatchLimits
from shared.contracts.errors import OutcomeUnknownError, PermanentError, RetryableError
from shared.contracts.event import Envelope, now, stamp
from shared.counters import in_hand
from shared.failpoints import failpoint
from shared.messaging.consumer import Delivery, DeliveryBatch
from shared.messaging.parking import Parkable
from shared.runtime.retry import retry
from shared.runtime.waiting import wait_any
from shared.wire import encode_batch, split_batches

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_PRODUCERS_SECONDS: Final = 0.2


class BatchPublisher(Protocol):
    """Publishes batches, and parks messages that no batch can hold: `shared.messaging.publisher.Publisher`."""

    async def publish_batch(self, body: bytes) -> None:
        """Return when the batch is durable. Raises RetryableError, or PermanentError where it is too large."""

    async def park(self, parkable: Parkable, *, reason: str, queue: str) -> None:
        """Return when the message is durable in the parking queue. Raises RetryableError."""


class Mapped(msgspec.Struct, frozen=True):
    """A delivery with its events; `problem` says why its sender may not send them, and they are not published."""

    delivery: Delivery
    events: list[Envelope]
    problem: str | None


class _Fault(NamedTuple):
    """Events from `start` to before `end` of those that were published together, and why they could not be."""

    start: int
    end: int
    error: PermanentError | RetryableError


class Forwarder:
    """Settles deliveries of a foreign queue: every event of one is published before it is acked."""

    def __init__(  # noqa: PLR0913 - each is a decision of the operator
        self,
        publisher: BatchPublisher,
        *,
        options: MappingOptions,
        limits: BatchLimits,
        events_max: int,
        interval_seconds: float,
        producers: Producers | None = None,
    ) -> None:
        """`interval_seconds` is the longest pause between two attempts. Without `producers` anybody names any source.

        While `events_max` events or more are not settled no further message is mapped: a message of two bytes an event
        takes a hundred times its size then.
        """
        self._publisher = publisher
        self._options = options
        self._limits = limits
        self._events_max = events_max
        self._interval_seconds = interval_seconds
        self._producers = producers
        self._draining = asyncio.Event()

    def drain(self) -> None:
        """Give up what cannot be published now: it is not acked, so the broker delivers it again."""
        self._draining.set()

    async def settle(self, batch: DeliveryBatch) -> None:
        """Publish every event of the batch, then ack its deliveries; one that was not published stays unacked."""
        if not await self._producers_known():
            return
        waiting = deque(batch.deliveries)
        with in_hand():
            received_at = now()
            while waiting:
                mapped = self._map(waiting, received_at)
                await self._settle(batch, mapped)
                received_at = stamp(received_at, sum(len(each.events) for each in mapped))

    async def _producers_known(self) -> bool:
        """Return True once it is known who may name which source, False where the service drains before that."""
        while self._producers is not None and not self._producers.is_readable:
            if self._draining.is_set():
                return False
            await wait_any(self._draining, seconds_max=_PRODUCERS_SECONDS)
        return True

    def _map(self, waiting: deque[Delivery], received_at: datetime) -> list[Mapped]:
        """Take deliveries from `waiting` and map them, up to `events_max` events and at least one delivery."""
        mapped: list[Mapped] = []
        number = 0
        while waiting and number < self._events_max:
            failpoint("queue-consumer.received")
            delivery = waiting.popleft()
            events = to_envelopes(_message(delivery), options=self._options, received_at=stamp(received_at, number))
            number += len(events)
            mapped.append(Mapped(delivery, events, self._problem(delivery, events)))
        return mapped

    def _problem(self, delivery: Delivery, events: Sequence[Envelope]) -> str | None:
        """Return why the sender of a delivery may not have sent its events, which are of one source; or None."""
        return self._producers.problem(delivery.properties.user_id or "", events[0].source) if self._producers else None

    async def _settle(self, batch: DeliveryBatch, mapped: Sequence[Mapped]) -> None:
        allowed = [each for each in mapped if each.problem is None]
        faults = await self._publish([event for each in allowed for event in each.events])
        settled = await self._settle_faults(allowed, faults) if faults else [each.delivery for each in allowed]
        if len(allowed) < len(mapped):
            settled += await self._park_all([each for each in mapped if each.problem is not None])
        for _ in settled:
            failpoint("queue-consumer.before_ack")
        await batch.ack(settled)
        for _ in settled:
            failpoint("queue-consumer.acked")

    async def _publish(self, events: Sequence[Envelope]) -> list[_Fault]:
        """Publish events in batches, some at a time; return when each batch is confirmed, or has failed."""
        limits = self._limits
        in_flight = asyncio.Semaphore(limits.in_flight_max)
        faults: list[_Fault] = []

        async def publish(batch: Sequence[Envelope], start: int) -> None:
            try:
                body = encode_batch(batch)
                failpoint("queue-consumer.before_publish")
                await self._retry(lambda: self._publisher.publish_batch(body))
                metrics.count_queued(batch)
            except (PermanentError, RetryableError) as error:
                # Its frames hold what was published, and `faults`: that would stay in memory until Python looks for it.
                faults.append(_Fault(start, start + len(batch), error.with_traceback(None)))
            except BaseException:
                metrics.count_given_up(batch, published=True)
                raise
            finally:
                in_flight.release()

        start = 0
        async with asyncio.TaskGroup() as publishing:
            for batch in split_batches(events, events_max=limits.events_max, bytes_max=limits.bytes_max):
                await in_flight.acquire()
                publishing.create_task(publish(batch, start))
                start += len(batch)
        return faults

    async def _settle_faults(self, mapped: Sequence[Mapped], faults: Sequence[_Fault]) -> list[Delivery]:
        """Park what no batch can hold, and return the deliveries that can be acked."""
        settled = []
        end = 0
        for each in mapped:
            start, end = end, end + len(each.events)
            found = [fault for fault in faults if fault.start < end and start < fault.end]
            missing = [(fault, each.events[max(0, fault.start - start) : fault.end - start]) for fault in found]
            refused = [fault.error for fault in found if isinstance(fault.error, PermanentError)]
            if len(refused) < len(found) or (refused and not await self._park(each.delivery, str(refused[0]))):
                for fault, events in missing:
                    metrics.count_given_up(events, published=isinstance(fault.error, OutcomeUnknownError))
                continue
            if refused:
                self._log_parked(Counter([str(refused[0])]))
                metrics.count_parked([event for _, events in missing for event in events])
            settled.append(each.delivery)
        return settled

    async def _park_all(self, foreign: Sequence[Mapped]) -> list[Delivery]:
        """Park what its sender may not send, and return the deliveries that can be acked."""
        async with asyncio.TaskGroup() as group:
            parking = [group.create_task(self._park(each.delivery, str(each.problem))) for each in foreign]
        parked = []
        for each, task in zip(foreign, parking, strict=True):
            if task.result():
                metrics.count_parked(each.events)
                parked.append(each)
            else:
                metrics.count_given_up(each.events, published=False)
        self._log_parked(Counter(str(each.problem) for each in parked))
        return [each.delivery for each in parked]

    def _log_parked(self, reasons: Counter[str]) -> None:
        for reason, number in reasons.items():
            log.error(
                "messages parked; an operator must look at them",
                queue=self._options.queue,
                reason=reason,
                messages=number,
            )

    async def _park(self, delivery: Delivery, reason: str) -> bool:
        """Return True when the message is durable in the parking queue, False where the service drains before that."""
        try:
            await self._retry(lambda: self._publisher.park(delivery, reason=reason, queue=self._options.queue))
        except RetryableError:
            return False
        return True

    async def _retry(self, publish: Callable[[], Awaitable[None]]) -> None:
        """Publish until it is confirmed.

        Raises:
            RetryableError: only while draining. OutcomeUnknownError: one of the attempts may have been taken.
        """
        await retry(publish, self._draining, pause_seconds_max=self._interval_seconds)


def _message(delivery: Delivery) -> Message:
    said = delivery.properties
    return Message(
        delivery.body,
        said.headers or {},
        said.content_type or "",
        said.message_id or "",
        said.content_encoding or "",
        said.message_type or "",
        said.timestamp,
        said.correlation_id or "",
        said.app_id or "",
        said.user_id or "",
        delivery.is_readable,
    )
