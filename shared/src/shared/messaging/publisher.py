"""Confirmed publishing: a publish that returns is in a quorum queue, anything else is told as what it is."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, Protocol

from aio_pika import DeliveryMode, Message
from aio_pika.abc import AbstractExchange
from aio_pika.exceptions import DeliveryError, PublishError
from aiormq.exceptions import ChannelNotFoundEntity
from pamqp.commands import Basic

from shared.contracts.errors import OutcomeUnknownError, OverloadedError, PermanentError, UnavailableError
from shared.messaging.parking import Parkable, parked_message
from shared.messaging.session import SESSION_ERRORS, Session, run_sessions, translate_session_errors
from shared.messaging.topology import (
    INGEST_QUEUE,
    PARKED_QUEUE,
    RECEIPTS_QUEUE,
    ingest_queue_depths,
    require_ingest_queues,
)
from shared.runtime.readiness import Readiness
from shared.runtime.waiting import wait_any
from shared.settings import PublisherSettings
from shared.wire import CONTENT_TYPE

READY: Final = "rabbitmq"

# RabbitMQ 4 closes the channel on larger ones, and with it everything in flight.
MESSAGE_BYTES_MAX: Final = 16 * 1024 * 1024

_SETUP_SECONDS_MAX: Final = 15.0
_BLOCKED_SECONDS: Final = 1.0


class BatchPublisher(Protocol):
    """Hands event batches to the processor by way of the broker."""

    async def publish_batch(self, body: bytes) -> None:
        """Return when the broker holds `body` (an encoded EventBatch) durably.

        Raises:
            UnavailableError, OverloadedError: it was not taken.
            OutcomeUnknownError: it may have been taken.
            PermanentError: it is larger than the broker takes.
        """


class Publisher:
    """Publishes on one connection of its own with confirms, mandatory routing and a deadline.

    Run `run` beside those who publish; `close` it when they are done.
    """

    def __init__(self, settings: PublisherSettings, *, name: str, readiness: Readiness | None = None) -> None:
        """`name` shows in the broker's list of connections."""
        self._settings = settings
        self._name = f"{name} publisher"
        self._readiness = readiness
        self._places = asyncio.Semaphore(settings.publishes_in_flight_max)
        self._connected = asyncio.Event()
        self._closing = asyncio.Event()
        self._session: Session | None = None
        self._direct: AbstractExchange | None = None

    async def run(self) -> None:
        """Keep a session open until `close`."""
        await run_sessions(self._settings, name=self._name, use=self._serve, closing=self._closing)

    def close(self) -> None:
        """Let `run` return. Publishes still in flight are unknown."""
        self._closing.set()

    async def publish_batch(self, body: bytes) -> None:
        """Publish an encoded EventBatch to the ingest lane; see `BatchPublisher`."""
        if len(body) > MESSAGE_BYTES_MAX:
            raise PermanentError(f"a batch is larger than {MESSAGE_BYTES_MAX} bytes")
        await self._publish(_message(body), INGEST_QUEUE)

    async def publish_receipt(self, body: bytes) -> None:
        """Publish an encoded Receipt to the processor. Raises RetryableError."""
        await self._publish(_message(body), RECEIPTS_QUEUE)

    async def depths(self) -> dict[str, int]:
        """Return how many messages wait in each queue between the services. Raises UnavailableError."""
        session = self._session
        if session is None or session.lost.is_set():
            raise UnavailableError("RabbitMQ cannot be reached")
        deadline = asyncio.get_running_loop().time() + self._settings.publish_seconds_max
        try:
            with translate_session_errors():
                async with session.bounded(deadline):
                    return await ingest_queue_depths(session.connection)
        except (ChannelNotFoundEntity, *SESSION_ERRORS) as error:
            raise UnavailableError("RabbitMQ cannot be asked now") from error

    async def park(self, parkable: Parkable, *, reason: str, queue: str) -> None:
        """Set aside a message that came from `queue` and is not to be stored; see `parked_message`.

        Raises as `publish_batch` does.
        """
        await self._publish(parked_message(parkable, reason=reason, queue=queue), PARKED_QUEUE)

    async def _serve(self, session: Session) -> None:
        async with asyncio.timeout(_SETUP_SECONDS_MAX):
            await require_ingest_queues(session.connection)
            amqp_channel = await session.connection.channel(publisher_confirms=True, on_return_raises=True)
        amqp_channel.close_callbacks.add(lambda *_: session.abandon("channel closed"))
        self._session, self._direct = session, amqp_channel.default_exchange
        self._connected.set()
        try:
            while not (session.lost.is_set() or self._closing.is_set()):
                self._tell(present=not await session.is_blocked())
                await wait_any(session.lost, self._closing, seconds_max=_BLOCKED_SECONDS)
        finally:
            self._connected.clear()
            self._session = self._direct = None
            self._tell(present=False)

    async def _publish(self, message: Message, queue: str) -> None:
        deadline = asyncio.get_running_loop().time() + self._settings.publish_seconds_max
        async with self._place(deadline):
            session, direct = self._session, self._direct
            if session is None or direct is None:
                raise UnavailableError("RabbitMQ is not connected")
            await publish_confirmed(session, direct, message, routing_key=queue, deadline=deadline)

    @asynccontextmanager
    async def _place(self, deadline: float) -> AsyncIterator[None]:
        """Hold one of the places in flight, with a connection, or raise UnavailableError at the deadline."""
        try:
            async with asyncio.timeout_at(deadline):
                await self._places.acquire()
        except TimeoutError as error:
            raise UnavailableError("RabbitMQ is slow to confirm") from error
        try:
            async with asyncio.timeout_at(deadline):
                await self._session_alive()
        except TimeoutError as error:
            self._places.release()
            raise UnavailableError("RabbitMQ is not connected") from error
        try:
            yield
        finally:
            self._places.release()

    async def _session_alive(self) -> None:
        """Return once there is a session that is not over; one that ended a moment ago may still be in its place."""
        while self._session is None or self._session.lost.is_set():
            self._connected.clear()
            await self._connected.wait()

    def _tell(self, *, present: bool) -> None:
        if self._readiness is not None:
            self._readiness.set(READY, present=present)


def _message(body: bytes) -> Message:
    return Message(
        body,
        content_type=CONTENT_TYPE,
        delivery_mode=DeliveryMode.PERSISTENT,
        # New for every attempt: the client library matches returned messages by it.
        message_id=uuid.uuid4().hex,
    )


async def publish_confirmed(
    session: Session, exchange: AbstractExchange, message: Message, *, routing_key: str, deadline: float
) -> None:
    """Publish and wait for the broker's confirmation until `deadline` (the event loop's time).

    Raises:
        UnavailableError: the broker takes no messages now, or no queue takes them under this routing key.
        OverloadedError: the queue is at its limit and refused it.
        OutcomeUnknownError: the session ended, or the deadline came, before the broker answered.
    """
    try:
        async with session.bounded(deadline):
            await session.unblocked()
    except TimeoutError as error:
        raise UnavailableError("RabbitMQ takes no messages now") from error
    try:
        with translate_session_errors():
            async with session.bounded(deadline):
                answer = await exchange.publish(message, routing_key=routing_key, mandatory=True)
    except PublishError as error:
        # A new session declares the queue again, should somebody have deleted it.
        session.abandon("unroutable")
        raise UnavailableError("no queue is bound under this routing key") from error
    except DeliveryError as error:
        raise OverloadedError("the queue is full") from error
    except SESSION_ERRORS as error:
        if not await session.is_blocked():
            session.abandon(f"publish unconfirmed: {type(error).__name__}")
        raise OutcomeUnknownError("no confirmation in time") from error
    if not isinstance(answer, Basic.Ack):
        raise OverloadedError("the queue is full")
