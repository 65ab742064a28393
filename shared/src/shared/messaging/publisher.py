"""Confirmed publishing: a call that returns has put the message into a quorum queue; any other end raises its error."""

import asyncio
import uuid
from time import monotonic
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
from shared.runtime.timeouts import Timeouts
from shared.runtime.waiting import wait_any
from shared.settings import PublisherSettings
from shared.wire import CONTENT_TYPE

READY: Final = "rabbitmq"

# RabbitMQ 4 closes the channel on larger ones, and with it everything in flight.
MESSAGE_BYTES_MAX: Final = 16 * 1024 * 1024

_SETUP_SECONDS_MAX: Final = 15.0
_BLOCKED_SECONDS: Final = 1.0


class BatchPublisher(Protocol):
    """Sends event batches to the processor through the broker."""

    async def publish_batch(self, body: bytes) -> None:
        """Return when the broker has stored `body` (an encoded EventBatch).

        Raises:
            UnavailableError, OverloadedError: it was not stored.
            OutcomeUnknownError: it may have been stored.
            PermanentError: it is larger than the broker accepts.
        """


class Publisher:
    """Publishes on its own connection with confirms, mandatory routing and a deadline. A part of a service."""

    def __init__(self, settings: PublisherSettings, *, name: str, readiness: Readiness | None = None) -> None:
        """`name` shows in the broker's list of connections."""
        self._settings = settings
        self._name = f"{name} publisher"
        self._readiness = readiness
        self._in_flight = asyncio.Semaphore(settings.publishes_in_flight_max)
        self._timeouts = Timeouts()
        self._connected = asyncio.Event()
        self._closing = asyncio.Event()
        self._session: Session | None = None
        self._direct: AbstractExchange | None = None

    async def run(self) -> None:
        """Keep a session open until `close`."""
        await run_sessions(self._settings, name=self._name, use=self._serve, closing=self._closing)

    def close(self) -> None:
        """Let `run` return. The outcome of publishes still in flight is unknown."""
        self._closing.set()

    async def publish_batch(self, body: bytes) -> None:
        """Publish an encoded EventBatch to the ingest queue; see `BatchPublisher`."""
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
        try:
            with translate_session_errors(), session.within(monotonic() + self._settings.publish_seconds_max):
                return await ingest_queue_depths(session.connection)
        except (ChannelNotFoundEntity, *SESSION_ERRORS) as error:
            raise UnavailableError("RabbitMQ cannot be asked now") from error

    async def park(self, parkable: Parkable, *, reason: str, queue: str) -> None:
        """Put a message from `queue` that is not to be stored into the parked queue; see `parked_message`.

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
                self._report(present=not await session.is_blocked())
                await wait_any(session.lost, self._closing, seconds_max=_BLOCKED_SECONDS)
        finally:
            self._connected.clear()
            self._session = self._direct = None
            self._report(present=False)

    async def _publish(self, message: Message, queue: str) -> None:
        deadline = monotonic() + self._settings.publish_seconds_max
        try:
            with self._timeouts.until(deadline):
                await self._in_flight.acquire()
        except TimeoutError as error:
            raise UnavailableError("RabbitMQ is slow to confirm") from error
        try:
            session, direct = await self._connection(deadline)
            await publish_confirmed(session, direct, message, routing_key=queue, deadline=deadline)
        finally:
            self._in_flight.release()

    async def _connection(self, deadline: float) -> tuple[Session, AbstractExchange]:
        """Wait for a session that is not lost. One that was lost a moment ago may still be set."""
        try:
            with self._timeouts.until(deadline):
                while self._session is None or self._direct is None or self._session.lost.is_set():
                    self._connected.clear()
                    await self._connected.wait()
        except TimeoutError as error:
            raise UnavailableError("RabbitMQ is not connected") from error
        return self._session, self._direct

    def _report(self, *, present: bool) -> None:
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
    """Publish and wait for the broker's confirmation until `deadline` (of `time.monotonic`).

    Raises:
        UnavailableError: the broker accepts no messages now, or no queue is bound under this routing key.
        OverloadedError: the queue is at its limit and refused the message.
        OutcomeUnknownError: the session ended, or the deadline came, before the broker answered.
    """
    try:
        with session.within(deadline):
            await session.unblocked()
    except TimeoutError as error:
        raise UnavailableError("RabbitMQ takes no messages now") from error
    try:
        with translate_session_errors(), session.within(deadline):
            answer = await exchange.publish(message, routing_key=routing_key, mandatory=True)
    except PublishError as error:
        # A new session declares the queue again, in case somebody has deleted it.
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
