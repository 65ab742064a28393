"""Consuming: each delivery is handed to a coroutine that settles it; the ack is that coroutine's last line."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, Final

import structlog
from aio_pika.abc import AbstractConnection, AbstractIncomingMessage, AbstractQueue

from shared.messaging.acks import Acks
from shared.messaging.canary import Canary
from shared.messaging.room import Room
from shared.messaging.session import SESSION_ERRORS, Session, first_of, keep_session, told_session_end
from shared.messaging.tolerance import tolerate_unreadable_properties
from shared.runtime.readiness import Readiness
from shared.settings import AmqpSettings

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_SETUP_SECONDS_MAX: Final = 15.0
_STOP_SECONDS_MAX: Final = 2.0
_SETTLE_SECONDS_MAX: Final = 5.0


class Delivery:
    """A message taken from a queue, with its handle."""

    def __init__(self, session: Session, message: AbstractIncomingMessage, acks: Acks) -> None:
        """Hold the message, which came on `session` and is in hand in `acks`, until it is settled."""
        self._session = session
        self._message = message
        self._acks = acks

    @property
    def body(self) -> bytes:
        """The received bytes."""
        return self._message.body

    @property
    def headers(self) -> Mapping[str, Any]:
        """The AMQP headers, values of any AMQP type."""
        return self._message.headers

    @property
    def content_type(self) -> str:
        """The content type; empty where the publisher gave none."""
        return self._message.content_type or ""

    @property
    def redelivered(self) -> bool:
        """True where the message was handed out before, to us or to another consumer."""
        return bool(self._message.redelivered)

    @property
    def message_id(self) -> str:
        """The `message_id` property; empty where the publisher gave none."""
        return self._message.message_id or ""

    async def ack(self) -> None:
        """Give the message up for good. Where the session is over it comes back, so settling is idempotent."""
        await self._settle(self._acks.ack(self._message))

    async def reject(self) -> None:
        """Hand the message to the dead letter queue of its queue."""
        await self._settle(self._acks.reject(self._message))

    async def _settle(self, frame: Awaitable[None]) -> None:
        try:
            with told_session_end():
                async with self._session.bounded(asyncio.get_running_loop().time() + _SETTLE_SECONDS_MAX):
                    await frame
        except SESSION_ERRORS as error:
            self._session.abandon("a delivery could not be settled")
            log.debug("not settled; the broker will deliver it again", error=type(error).__name__)


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
        settle: Callable[[Delivery], Coroutine[None, None, None]],
        readiness: Readiness | None = None,
        proved: bool = False,
    ) -> None:
        """`declare` makes sure that the queue exists; `settle` must end with the delivery's ack or reject.

        A queue that is to be `proved` is ours alone, and may be written to: a canary goes through it.
        """
        self._settings = settings
        self._name = name
        self._queue = queue
        self._prefetch_count = prefetch_count
        self._bytes_max = bytes_max
        self._declare = declare
        self._settle = settle
        self._readiness = readiness
        self._canary = Canary(settings, queue=queue, name=name, tell=self._tell_proof) if proved else None
        self._delivers = True
        self._closing = asyncio.Event()
        tolerate_unreadable_properties()

    async def run(self) -> None:
        """Consume until `close`, then settle what is in hand and return."""
        await keep_session(self._settings, name=f"{self._name} consumer", use=self._serve, closing=self._closing)

    def close(self) -> None:
        """Receive nothing more; deliveries in hand are settled before `run` returns."""
        self._closing.set()

    async def _serve(self, session: Session) -> None:
        # The library cancels its callbacks when a channel closes, so they only hand over; prefetch bounds what waits.
        inbox: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
        room = Room(self._bytes_max)
        async with asyncio.timeout(_SETUP_SECONDS_MAX):
            await self._declare(session.connection)
            queue, tag = await self._consume(session, inbox, room)
        self._tell(present=self._delivers)
        try:
            async with asyncio.TaskGroup() as settling:
                receiving = settling.create_task(self._receive(session, inbox, room, settling))
                proving = settling.create_task(self._canary.prove(session)) if self._canary else None
                await first_of(session.lost, self._closing)
                if proving is not None:
                    proving.cancel()
                self._tell(present=False)
                await _stop_receiving(session, queue, tag)
                receiving.cancel()
        finally:
            self._tell(present=False)

    async def _consume(
        self, session: Session, inbox: "asyncio.Queue[AbstractIncomingMessage]", room: Room
    ) -> tuple[AbstractQueue, str]:
        async def take(message: AbstractIncomingMessage) -> None:
            room.take(message.body_size)
            inbox.put_nowait(message)

        amqp_channel = await session.connection.channel(publisher_confirms=False)
        amqp_channel.close_callbacks.add(lambda *_: session.abandon("channel closed"))
        # The broker cancels a consumer whose queue is gone; a new session declares it again.
        underlay = await amqp_channel.get_underlay_channel()
        underlay.on_consumer_cancel_callbacks.add(lambda _: session.abandon("consumer cancelled by the broker"))
        room.guard(underlay.frames)
        await amqp_channel.set_qos(prefetch_count=self._prefetch_count)
        queue = await amqp_channel.get_queue(self._queue, ensure=False)
        return queue, await queue.consume(take, no_ack=False)

    async def _receive(
        self,
        session: Session,
        inbox: asyncio.Queue[AbstractIncomingMessage],
        room: Room,
        settling: asyncio.TaskGroup,
    ) -> None:
        acks = Acks()
        while True:
            # No name here keeps a message: the last one would stay in memory until the next one came.
            self._begin(await inbox.get(), session, acks, room, settling)

    def _begin(
        self, message: AbstractIncomingMessage, session: Session, acks: Acks, room: Room, settling: asyncio.TaskGroup
    ) -> None:
        size = message.body_size
        acks.take(message)
        delivery = Delivery(session, message, acks)
        is_canary = self._canary is not None and self._canary.caught(message)
        task = settling.create_task(delivery.ack() if is_canary else self._settle(delivery))
        task.add_done_callback(lambda _: room.give_back(size))

    def _tell_proof(self, *, delivers: bool) -> None:
        self._delivers = delivers
        self._tell(present=delivers)

    def _tell(self, *, present: bool) -> None:
        if self._readiness is not None:
            self._readiness.set(f"queue {self._queue}", present=present)


async def _stop_receiving(session: Session, queue: AbstractQueue, tag: str) -> None:
    """Ask the broker for no more. Must not raise: that would cancel those who are settling."""
    if session.lost.is_set():
        return
    try:
        with told_session_end():
            async with session.bounded(asyncio.get_running_loop().time() + _STOP_SECONDS_MAX):
                await queue.cancel(tag)
    except SESSION_ERRORS:
        session.abandon("consumer could not be cancelled")
