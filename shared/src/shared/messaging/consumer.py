"""Consuming: each delivery is passed to a coroutine that settles it; the ack is the last line of that coroutine.

The library's own wrapper of a delivery is not used: it cost 20 of the 75 microseconds of CPU that a small message took
from the socket to the ack.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from functools import partial
from time import monotonic
from typing import Any, Final, TypeVar

import structlog
from aio_pika.abc import AbstractConnection
from aiormq.abc import AbstractChannel, DeliveredMessage

from shared.linger import linger
from shared.messaging.acks import AckCoalescer
from shared.messaging.canary import Canary
from shared.messaging.patches import UnreadableProperties, patch_unreadable_properties
from shared.messaging.session import SESSION_ERRORS, Session, run_sessions, translate_session_errors
from shared.messaging.throttle import ReadThrottle
from shared.runtime.readiness import Readiness
from shared.runtime.waiting import wait_any
from shared.settings import AmqpSettings

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

T = TypeVar("T")

_SETUP_SECONDS_MAX: Final = 15.0
_STOP_SECONDS_MAX: Final = 2.0
_SETTLE_SECONDS_MAX: Final = 5.0


class Delivery:
    """A message received from a queue. It is settled by `ack` or `reject`."""

    __slots__ = ("_unacked", "body", "properties", "redelivered", "tag")

    def __init__(self, unacked: "UnackedDeliveries", message: DeliveredMessage) -> None:
        """Use `UnackedDeliveries.add`.

        Attributes:
            body: the received bytes.
            properties: the AMQP properties, as the library has them. The broker has checked `user_id`.
            redelivered: whether the message was delivered before, to us or to another consumer.
            tag: its number on the AMQP channel.
        """
        self._unacked = unacked
        self.properties = message.header.properties
        self.body: bytes = message.body
        self.redelivered = bool(message.redelivered)
        self.tag = _tag(message)

    def forget_body(self) -> None:
        """Free the bytes: for callers that have parsed them and settle the delivery later."""
        self.body = b""

    @property
    def headers(self) -> Mapping[str, Any]:
        """The AMQP headers, values of any AMQP type."""
        return self.properties.headers or {}

    @property
    def content_type(self) -> str:
        """The content type; empty where the publisher gave none."""
        return self.properties.content_type or ""

    @property
    def message_id(self) -> str:
        """The `message_id` property; empty where the publisher gave none."""
        return self.properties.message_id or ""

    @property
    def is_readable(self) -> bool:
        """Whether headers and properties could be read; where they could not, all of them are missing."""
        return type(self.properties) is not UnreadableProperties

    async def ack(self) -> None:
        """Remove the message from its queue. If the session is lost the broker delivers it again."""
        await self._unacked.ack([self])

    async def reject(self) -> None:
        """Move the message to the dead letter queue of its queue."""
        await self._unacked.reject(self)


class UnackedDeliveries:
    """The deliveries of one session that are not settled yet."""

    def __init__(self, session: Session, amqp_channel: AbstractChannel) -> None:
        """Begin empty; deliveries come on `amqp_channel`, which belongs to `session`."""
        self._session = session
        self._acks = AckCoalescer(amqp_channel)

    def add(self, message: DeliveredMessage) -> Delivery:
        """Add a message, in the order in which the broker sent them."""
        delivery = Delivery(self, message)
        self._acks.add(delivery.tag)
        return delivery

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        """Ack deliveries together; see `Delivery.ack`."""
        await self._settle(self._acks.ack, [delivery.tag for delivery in deliveries])

    async def reject(self, delivery: Delivery) -> None:
        """See `Delivery.reject`."""
        await self._settle(self._acks.reject, delivery.tag)

    async def _settle(self, send: Callable[[T], Awaitable[None]], tags: T) -> None:
        try:
            with translate_session_errors(), self._session.within(monotonic() + _SETTLE_SECONDS_MAX):
                await send(tags)
        except SESSION_ERRORS as error:
            self._session.abandon("a delivery could not be settled")
            log.debug("not settled; the broker will deliver it again", error=type(error).__name__)


class DeliveryBatch:
    """Deliveries that are settled by one coroutine."""

    def __init__(self, unacked: UnackedDeliveries, deliveries: Sequence[Delivery]) -> None:
        """All of them belong to `unacked`."""
        self._unacked = unacked
        self.deliveries = deliveries

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        """Ack some deliveries of the batch, or all; see `Delivery.ack`."""
        if deliveries:
            await self._unacked.ack(deliveries)


class ReceiveBuffer:
    """The messages that the broker has sent and nobody has taken. The prefetch and the throttle limit it."""

    def __init__(self, throttle: ReadThrottle) -> None:
        """`throttle` counts a message from `put` until `settled`."""
        self._throttle = throttle
        self._messages: deque[DeliveredMessage] = deque()
        self._arrived = asyncio.Event()

    async def put(self, message: DeliveredMessage) -> None:
        """Add a message. The library's callback does nothing else: it is cancelled when its channel closes."""
        self._throttle.acquire(len(message.body))
        self._messages.append(message)
        self._arrived.set()

    async def take(self) -> DeliveredMessage:
        """Wait for the next message."""
        while not self._messages:
            self._arrived.clear()
            await self._arrived.wait()
        return self._messages.popleft()

    async def take_batch(self, bytes_max: int) -> list[DeliveredMessage]:
        """Wait for a message; return it with those that follow at once: `bytes_max` of bodies, or one larger body."""
        messages = [await self.take()]
        await linger(lambda: len(self._messages))
        size = len(messages[0].body)
        while self._messages and size + len(self._messages[0].body) <= bytes_max:
            message = self._messages.popleft()
            size += len(message.body)
            messages.append(message)
        return messages

    def settled(self, size: int, _task: asyncio.Task[None]) -> None:
        """Note that messages of `size` bytes are settled: a callback for the task that has done so."""
        self._throttle.release(size)


class Consumer:
    """Reads one queue on its own connection. It limits the number and, roughly, the bytes of unsettled deliveries."""

    def __init__(  # noqa: PLR0913 - each is a decision of the service that consumes
        self,
        settings: AmqpSettings,
        *,
        name: str,
        queue: str,
        prefetch_count: int,
        bytes_max: int,
        declare: Callable[[AbstractConnection], Awaitable[None]],
        settle: Callable[[Delivery], Coroutine[None, None, None]] | None = None,
        settle_batch: Callable[[DeliveryBatch], Coroutine[None, None, None]] | None = None,
        batch_bytes_max: int = 1,
        readiness: Readiness | None = None,
        canary: bool = False,
    ) -> None:
        """`declare` makes sure that the queue exists.

        `settle` gets one delivery; many calls run at the same time. `settle_batch` is for small messages: it gets all
        deliveries that arrived during the call before, up to `batch_bytes_max` of bodies. The coroutine must ack or
        reject each delivery, except those that are to be delivered again.

        With `canary` each session sends a message through the queue, and the queue counts as missing when it does not
        arrive. It is for queues of ours, which only our services write to.
        """
        self._settings = settings
        self._name = name
        self._queue = queue
        self._prefetch_count = prefetch_count
        self._bytes_max = bytes_max
        self._declare = declare
        if (settle is None) is (settle_batch is None):
            raise TypeError("give either settle or settle_batch")
        self._settle = settle
        self._settle_batch = settle_batch
        self._batch_bytes_max = batch_bytes_max
        self._readiness = readiness
        self._canary = Canary(settings, queue=queue, name=name, report=self._report_canary) if canary else None
        self._delivers = True
        self._closing = asyncio.Event()
        patch_unreadable_properties()

    async def run(self) -> None:
        """Consume until `close`, then settle what was received and return."""
        await run_sessions(self._settings, name=f"{self._name} consumer", use=self._serve, closing=self._closing)

    def close(self) -> None:
        """Receive nothing more; unsettled deliveries are settled before `run` returns."""
        self._closing.set()

    async def _serve(self, session: Session) -> None:
        throttle = ReadThrottle(self._bytes_max)
        buffer = ReceiveBuffer(throttle)
        async with asyncio.timeout(_SETUP_SECONDS_MAX):
            await self._declare(session.connection)
            amqp_channel, tag = await self._consume(session, buffer, throttle)
        self._report(present=self._delivers)
        try:
            async with asyncio.TaskGroup() as settling:
                unacked = UnackedDeliveries(session, amqp_channel)
                receiving = settling.create_task(self._receive(unacked, buffer, settling))
                proving = settling.create_task(self._canary.prove(session)) if self._canary else None
                await wait_any(session.lost, self._closing)
                if proving is not None:
                    proving.cancel()
                self._report(present=False)
                await _stop_receiving(session, amqp_channel, tag)
                receiving.cancel()
        finally:
            self._report(present=False)

    async def _consume(
        self, session: Session, buffer: ReceiveBuffer, throttle: ReadThrottle
    ) -> tuple[AbstractChannel, str]:
        amqp_channel = await session.open_channel()
        amqp_channel.closing.add_done_callback(lambda _: session.abandon("channel closed"))
        # The broker cancels a consumer whose queue is deleted; a new session declares it again.
        amqp_channel.on_consumer_cancel_callbacks.add(lambda _: session.abandon("consumer cancelled by the broker"))
        throttle.apply_to(amqp_channel.frames)
        await amqp_channel.basic_qos(prefetch_count=self._prefetch_count)
        consuming = await amqp_channel.basic_consume(self._queue, buffer.put, no_ack=False)
        return amqp_channel, str(consuming.consumer_tag)

    async def _receive(self, unacked: UnackedDeliveries, buffer: ReceiveBuffer, settling: asyncio.TaskGroup) -> None:
        """Start to settle deliveries until cancelled; the tasks that settle them go on."""
        while self._settle is not None:
            # No name here keeps a message: the last one would stay in memory until the next one came.
            self._start(self._settle, await buffer.take(), unacked, buffer, settling)
        while self._settle_batch is not None:
            deliveries = [unacked.add(message) for message in await buffer.take_batch(self._batch_bytes_max)]
            size = sum(len(delivery.body) for delivery in deliveries)
            task = settling.create_task(self._settle_batch(DeliveryBatch(unacked, deliveries)))
            task.add_done_callback(partial(buffer.settled, size))
            del deliveries
            await asyncio.wait([task])

    def _start(
        self,
        settle: Callable[[Delivery], Coroutine[None, None, None]],
        message: DeliveredMessage,
        unacked: UnackedDeliveries,
        buffer: ReceiveBuffer,
        settling: asyncio.TaskGroup,
    ) -> None:
        size = len(message.body)
        delivery = unacked.add(message)
        is_canary = self._canary is not None and self._canary.recognize(message)
        task = settling.create_task(delivery.ack() if is_canary else settle(delivery))
        task.add_done_callback(partial(buffer.settled, size))

    def _report_canary(self, *, delivers: bool) -> None:
        self._delivers = delivers
        self._report(present=delivers)

    def _report(self, *, present: bool) -> None:
        if self._readiness is not None:
            self._readiness.set(f"queue {self._queue}", present=present)


async def _stop_receiving(session: Session, amqp_channel: AbstractChannel, tag: str) -> None:
    """Cancel the consumer at the broker. Must not raise: that would cancel the tasks that settle deliveries."""
    try:
        with translate_session_errors(), session.within(monotonic() + _STOP_SECONDS_MAX):
            # The answer would come after deliveries that are not read while the throttle is at its limit.
            await amqp_channel.basic_cancel(tag, nowait=True)
    except SESSION_ERRORS:
        session.abandon("consumer could not be cancelled")


def _tag(message: DeliveredMessage) -> int:
    if message.delivery_tag is None:
        raise ValueError("the message was not received with acks")
    return message.delivery_tag
