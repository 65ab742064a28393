"""Consuming: deliveries are handed to a coroutine that settles them; the ack is that coroutine's last line.

The library's own wrapper of a delivery is left out: it cost 20 of the 75 microseconds of CPU that a small message took
from the socket to the ack.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any, Final

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

_SETUP_SECONDS_MAX: Final = 15.0
_STOP_SECONDS_MAX: Final = 2.0
_SETTLE_SECONDS_MAX: Final = 5.0


class Delivery:
    """A message taken from a queue, with its handle."""

    __slots__ = ("_hand", "body", "properties", "redelivered", "tag")

    def __init__(self, hand: "UnackedDeliveries", message: DeliveredMessage) -> None:
        """Hold what the message says; it is in `hand` until it is settled.

        Attributes:
            body: the received bytes.
            properties: what the publisher said beside them, as the library has it. The broker has checked `user_id`.
            redelivered: whether the message was handed out before, to us or to another consumer.
            tag: its number on the AMQP channel.
        """
        self._hand = hand
        self.properties = message.header.properties
        self.body: bytes = message.body
        self.redelivered = bool(message.redelivered)
        self.tag = _tag(message)

    def forget_body(self) -> None:
        """Free the bytes, for who has made something else of them and is not done with the delivery yet."""
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
        """Whether headers and properties could be read; where they could not, none of them is here."""
        return type(self.properties) is not UnreadableProperties

    async def ack(self) -> None:
        """Give the message up for good. Where the session is over it comes back, so settling is idempotent."""
        await self._hand.ack([self])

    async def reject(self) -> None:
        """Reject the message to the dead letter queue of its queue."""
        await self._hand.reject(self)


class UnackedDeliveries:
    """What one session has taken from a queue, and not settled yet."""

    def __init__(self, session: Session, amqp_channel: AbstractChannel) -> None:
        """Begin empty; deliveries come on `amqp_channel`, which is of `session`."""
        self._session = session
        self._acks = AckCoalescer(amqp_channel)

    def take(self, message: DeliveredMessage) -> Delivery:
        """Take a message, in the order in which the broker sent them."""
        delivery = Delivery(self, message)
        self._acks.take(delivery.tag)
        return delivery

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        """Ack deliveries together; see `Delivery.ack`."""
        await self._settle(self._acks.ack([delivery.tag for delivery in deliveries]))

    async def reject(self, delivery: Delivery) -> None:
        """See `Delivery.reject`."""
        await self._settle(self._acks.reject(delivery.tag))

    async def _settle(self, frame: Awaitable[None]) -> None:
        try:
            with translate_session_errors():
                async with self._session.bounded(asyncio.get_running_loop().time() + _SETTLE_SECONDS_MAX):
                    await frame
        except SESSION_ERRORS as error:
            self._session.abandon("a delivery could not be settled")
            log.debug("not settled; the broker will deliver it again", error=type(error).__name__)


class DeliveryBatch:
    """Deliveries that came together, to be settled by one coroutine."""

    def __init__(self, hand: UnackedDeliveries, deliveries: Sequence[Delivery]) -> None:
        """All of them are in `hand`."""
        self._hand = hand
        self.deliveries = deliveries

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        """Ack some of the run, or all; see `Delivery.ack`."""
        if deliveries:
            await self._hand.ack(deliveries)


class ReceiveBuffer:
    """What the broker has sent and nobody has taken up. The prefetch bounds it, and the room for messages in hand."""

    def __init__(self, room: ReadThrottle) -> None:
        self._room = room
        self._messages: deque[DeliveredMessage] = deque()
        self._arrived = asyncio.Event()

    async def put(self, message: DeliveredMessage) -> None:
        """Only this is done in the library's callbacks: it cancels them when a channel closes."""
        self._room.take(len(message.body))
        self._messages.append(message)
        self._arrived.set()

    async def take(self) -> DeliveredMessage:
        """Wait for the next message."""
        while not self._messages:
            self._arrived.clear()
            await self._arrived.wait()
        return self._messages.popleft()

    async def take_run(self, bytes_max: int) -> list[DeliveredMessage]:
        """Wait for a message, and take with it what came meanwhile: `bytes_max` of bodies, or one that is larger."""
        messages = [await self.take()]
        await linger(lambda: len(self._messages))
        size = len(messages[0].body)
        while self._messages and size + len(self._messages[0].body) <= bytes_max:
            message = self._messages.popleft()
            size += len(message.body)
            messages.append(message)
        return messages


class Consumer:
    """Reads one queue, on a connection of its own, with at most so many deliveries and, about, bytes in hand."""

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
        settle_run: Callable[[DeliveryBatch], Coroutine[None, None, None]] | None = None,
        run_bytes_max: int = 1,
        readiness: Readiness | None = None,
        proved: bool = False,
    ) -> None:
        """`declare` makes sure that the queue exists.

        Either each delivery is settled by itself, beside the others, or one run after the other, where deliveries are
        too small for that: what came while a run was being settled is the next, up to `run_bytes_max` of bodies. The
        coroutine must end with the ack or reject of each delivery, except of those that are to come again.

        A queue that is to be `proved` is ours alone, and may be written to: a canary goes through it.
        """
        self._settings = settings
        self._name = name
        self._queue = queue
        self._prefetch_count = prefetch_count
        self._bytes_max = bytes_max
        self._declare = declare
        if (settle is None) is (settle_run is None):
            raise TypeError("deliveries are settled either by themselves or in runs")
        self._settle = settle
        self._settle_run = settle_run
        self._run_bytes_max = run_bytes_max
        self._readiness = readiness
        self._canary = Canary(settings, queue=queue, name=name, tell=self._tell_proof) if proved else None
        self._delivers = True
        self._closing = asyncio.Event()
        patch_unreadable_properties()

    async def run(self) -> None:
        """Consume until `close`, then settle what is in hand and return."""
        await run_sessions(self._settings, name=f"{self._name} consumer", use=self._serve, closing=self._closing)

    def close(self) -> None:
        """Receive nothing more; deliveries in hand are settled before `run` returns."""
        self._closing.set()

    async def _serve(self, session: Session) -> None:
        room = ReadThrottle(self._bytes_max)
        inbox = ReceiveBuffer(room)
        async with asyncio.timeout(_SETUP_SECONDS_MAX):
            await self._declare(session.connection)
            amqp_channel, tag = await self._consume(session, inbox, room)
        self._tell(present=self._delivers)
        try:
            async with asyncio.TaskGroup() as settling:
                hand = UnackedDeliveries(session, amqp_channel)
                receiving = settling.create_task(self._receive(hand, inbox, room, settling))
                proving = settling.create_task(self._canary.prove(session)) if self._canary else None
                await wait_any(session.lost, self._closing)
                if proving is not None:
                    proving.cancel()
                self._tell(present=False)
                await _stop_receiving(session, amqp_channel, tag)
                receiving.cancel()
        finally:
            self._tell(present=False)

    async def _consume(self, session: Session, inbox: ReceiveBuffer, room: ReadThrottle) -> tuple[AbstractChannel, str]:
        amqp_channel = await session.open_channel()
        amqp_channel.closing.add_done_callback(lambda _: session.abandon("channel closed"))
        # The broker cancels a consumer whose queue is gone; a new session declares it again.
        amqp_channel.on_consumer_cancel_callbacks.add(lambda _: session.abandon("consumer cancelled by the broker"))
        room.guard(amqp_channel.frames)
        await amqp_channel.basic_qos(prefetch_count=self._prefetch_count)
        consuming = await amqp_channel.basic_consume(self._queue, inbox.put, no_ack=False)
        return amqp_channel, str(consuming.consumer_tag)

    async def _receive(
        self, hand: UnackedDeliveries, inbox: ReceiveBuffer, room: ReadThrottle, settling: asyncio.TaskGroup
    ) -> None:
        """Hand deliveries over until cancelled; those who settle are tasks of their own, and go on."""
        while self._settle is not None:
            # No name here keeps a message: the last one would stay in memory until the next one came.
            self._begin(self._settle, await inbox.take(), hand, room, settling)
        while self._settle_run is not None:
            deliveries = [hand.take(message) for message in await inbox.take_run(self._run_bytes_max)]
            size = sum(len(delivery.body) for delivery in deliveries)
            settled = settling.create_task(self._settle_run(DeliveryBatch(hand, deliveries)))
            settled.add_done_callback(partial(_give_back, room, size))
            del deliveries
            await asyncio.wait([settled])

    def _begin(
        self,
        settle: Callable[[Delivery], Coroutine[None, None, None]],
        message: DeliveredMessage,
        hand: UnackedDeliveries,
        room: ReadThrottle,
        settling: asyncio.TaskGroup,
    ) -> None:
        size = len(message.body)
        delivery = hand.take(message)
        is_canary = self._canary is not None and self._canary.caught(message)
        task = settling.create_task(delivery.ack() if is_canary else settle(delivery))
        task.add_done_callback(partial(_give_back, room, size))

    def _tell_proof(self, *, delivers: bool) -> None:
        self._delivers = delivers
        self._tell(present=delivers)

    def _tell(self, *, present: bool) -> None:
        if self._readiness is not None:
            self._readiness.set(f"queue {self._queue}", present=present)


def _give_back(room: ReadThrottle, size: int, _settled: asyncio.Task[None]) -> None:
    room.give_back(size)


async def _stop_receiving(session: Session, amqp_channel: AbstractChannel, tag: str) -> None:
    """Ask the broker for no more. Must not raise: that would cancel those who are settling."""
    if session.lost.is_set():
        return
    try:
        with translate_session_errors():
            async with session.bounded(asyncio.get_running_loop().time() + _STOP_SECONDS_MAX):
                # Its answer would stand behind deliveries that are not read while there is no room for them.
                await amqp_channel.basic_cancel(tag, nowait=True)
    except SESSION_ERRORS:
        session.abandon("consumer could not be cancelled")


def _tag(message: DeliveredMessage) -> int:
    if message.delivery_tag is None:
        raise ValueError("only what is to be acked is settled")
    return message.delivery_tag
