"""The way of foreign messages: map, publish as our own batches, and ack as the last line, after the confirm."""

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Final, NamedTuple, Protocol

import structlog

from queue_consumer import metrics
from queue_consumer.mapping import Place, to_envelopes
from queue_consumer.message import Message
from shared.batching import BatchLimits
from shared.contracts.errors import OutcomeUnknownError, PermanentError, RetryableError
from shared.contracts.event import Envelope, now, stamp
from shared.counters import in_hand
from shared.failpoints import failpoint
from shared.messaging.consumer import Delivery, DeliveryBatch
from shared.messaging.parking import Parkable
from shared.producers import Producers
from shared.runtime.retry import retry
from shared.runtime.waiting import wait_any
from shared.wire import encode_batch, split_batches

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_PRODUCERS_SECONDS: Final = 0.2


class Handing(Protocol):
    """Takes over batches, and messages that no batch can hold, such as `shared.messaging.publisher.Publisher`."""

    async def publish_batch(self, body: bytes) -> None:
        """Return when the batch is durable. Raises RetryableError, or PermanentError where it is too large."""

    async def park(self, parkable: Parkable, *, reason: str, queue: str) -> None:
        """Return when the message is durable among the parked ones. Raises RetryableError."""


class _Fault(NamedTuple):
    """Events of a run, from `start` to before `end`, that could not be handed on."""

    start: int
    end: int
    error: PermanentError | RetryableError


class _Stranger(NamedTuple):
    """A delivery that its sender may not have sent, why, and the events in it, which are not handed on."""

    delivery: Delivery
    problem: str
    events: Sequence[Envelope]


class _Mapped(NamedTuple):
    """Deliveries that were taken apart: their events, where those of each end, who may not send; and all events."""

    deliveries: list[Delivery]
    events: list[Envelope]
    ends: list[int]
    strangers: list[_Stranger]
    taken: int


class Source:
    """Settles deliveries of a foreign queue: each is handed on completely before it is acked."""

    def __init__(  # noqa: PLR0913 - each is a decision of the operator
        self,
        publisher: Handing,
        *,
        place: Place,
        limits: BatchLimits,
        events_max: int,
        interval_seconds: float,
        producers: Producers | None = None,
    ) -> None:
        """`interval_seconds` is the longest pause between two attempts. Without `producers` anybody names any source.

        `events_max` is how many events may be in hand before another message is taken apart: one of two bytes an event
        takes a hundred times its size then.
        """
        self._publisher = publisher
        self._place = place
        self._limits = limits
        self._events_max = events_max
        self._interval_seconds = interval_seconds
        self._producers = producers
        self._draining = asyncio.Event()

    def drain(self) -> None:
        """Give up what cannot be handed on now: it is not acked, so it comes back."""
        self._draining.set()

    async def settle(self, run: DeliveryBatch) -> None:
        """Publish every event of the batch, then ack its deliveries; one that was not published stays unacked."""
        if not await self._know_producers():
            return
        waiting = deque(run.deliveries)
        with in_hand():
            received_at = now()
            while waiting:
                mapped = self._map(waiting, received_at)
                await self._settle(run, mapped)
                received_at = stamp(received_at, mapped.taken)

    async def _know_producers(self) -> bool:
        """Return once it is known who may name which source. False: draining, and nobody knows."""
        while self._producers is not None and not self._producers.is_readable:
            if self._draining.is_set():
                return False
            await wait_any(self._draining, seconds_max=_PRODUCERS_SECONDS)
        return True

    async def _settle(self, run: DeliveryBatch, mapped: _Mapped) -> None:
        faults = await self._hand_on(mapped.events)
        settled = await self._after_faults(mapped, faults) if faults else mapped.deliveries
        if mapped.strangers:
            settled = [*settled, *await self._park_strangers(mapped.strangers)]
        for _ in settled:
            failpoint("queue-consumer.before_ack")
        await run.ack(settled)
        for _ in settled:
            failpoint("queue-consumer.acked")

    def _map(self, waiting: deque[Delivery], received_at: datetime) -> _Mapped:
        """Take apart as many deliveries as may be in hand."""
        deliveries: list[Delivery] = []
        events: list[Envelope] = []
        ends: list[int] = []
        strangers: list[_Stranger] = []
        taken = 0
        while waiting and taken < self._events_max:
            failpoint("queue-consumer.received")
            delivery = waiting.popleft()
            found = to_envelopes(_message(delivery), place=self._place, received_at=stamp(received_at, taken))
            taken += len(found)
            if problem := self._problem(delivery, found):
                strangers.append(_Stranger(delivery, problem, found))
                continue
            events += found
            deliveries.append(delivery)
            ends.append(len(events))
        return _Mapped(deliveries, events, ends, strangers, taken)

    def _problem(self, delivery: Delivery, events: Sequence[Envelope]) -> str | None:
        """Return why the sender of a delivery may not have sent its events, which are of one source; or None."""
        return self._producers.problem(delivery.properties.user_id or "", events[0].source) if self._producers else None

    async def _hand_on(self, events: Sequence[Envelope]) -> list[_Fault]:
        """Publish events in batches, some at a time; return when each batch is confirmed, or has failed."""
        limits = self._limits
        places = asyncio.Semaphore(limits.in_flight_max)
        faults: list[_Fault] = []

        async def publish(batch: Sequence[Envelope], start: int) -> None:
            try:
                body = encode_batch(batch)
                failpoint("queue-consumer.before_publish")
                await self._persist(lambda: self._publisher.publish_batch(body))
                metrics.count_queued(batch)
            except (PermanentError, RetryableError) as error:
                faults.append(_Fault(start, start + len(batch), error))
            except BaseException:
                metrics.count_given_up(batch, published=True)
                raise
            finally:
                places.release()

        start = 0
        async with asyncio.TaskGroup() as publishing:
            for batch in split_batches(events, events_max=limits.events_max, bytes_max=limits.bytes_max):
                await places.acquire()
                publishing.create_task(publish(batch, start))
                start += len(batch)
        return faults

    async def _after_faults(self, mapped: _Mapped, faults: Sequence[_Fault]) -> list[Delivery]:
        """Park what no batch can hold, and return the deliveries that can be acked."""
        settled = []
        for delivery, start, end in zip(mapped.deliveries, (0, *mapped.ends), mapped.ends, strict=False):
            found = [fault for fault in faults if fault.start < end and start < fault.end]
            missing = [(fault, mapped.events[max(start, fault.start) : min(end, fault.end)]) for fault in found]
            refused = [fault.error for fault in found if isinstance(fault.error, PermanentError)]
            if len(refused) < len(found) or (refused and not await self._park(delivery, str(refused[0]))):
                for fault, part in missing:
                    metrics.count_given_up(part, published=isinstance(fault.error, OutcomeUnknownError))
                continue
            if refused:
                self._tell_parked(Counter([str(refused[0])]))
                metrics.count_parked([event for _, part in missing for event in part])
            settled.append(delivery)
        return settled

    async def _park_strangers(self, strangers: Sequence[_Stranger]) -> list[Delivery]:
        """Park what its sender may not send, and return the deliveries that can be acked."""
        async with asyncio.TaskGroup() as group:
            parking = [group.create_task(self._park(each.delivery, each.problem)) for each in strangers]
        parked = [each for each, task in zip(strangers, parking, strict=True) if task.result()]
        for each, task in zip(strangers, parking, strict=True):
            if task.result():
                metrics.count_parked(each.events)
            else:
                metrics.count_given_up(each.events, published=False)
        if parked:
            self._tell_parked(Counter(each.problem for each in parked))
        return [each.delivery for each in parked]

    def _tell_parked(self, reasons: Counter[str]) -> None:
        for reason, number in reasons.items():
            log.error(
                "messages parked; an operator must look at them",
                queue=self._place.queue,
                reason=reason,
                messages=number,
            )

    async def _park(self, delivery: Delivery, reason: str) -> bool:
        """Return True when the message is durable among the parked ones."""
        try:
            await self._persist(lambda: self._publisher.park(delivery, reason=reason, queue=self._place.queue))
        except RetryableError:
            return False
        return True

    async def _persist(self, publish: Callable[[], Awaitable[None]]) -> None:
        """Publish again and again until it is confirmed.

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
