"""A canary through a queue: the proof that what RabbitMQ confirms to the queue is also delivered from it.

A confirmation says that a message is in the queue, and a broker can be wrong about it: one is known to confirm and
discard (https://github.com/rabbitmq/rabbitmq-server/issues/17504). Doors would go on saying yes, so the service that
reads the queue finds out, at the beginning of every session.
"""

import asyncio
import uuid
from typing import Final, Protocol

import structlog
from aio_pika import DeliveryMode, Message
from aiormq.abc import DeliveredMessage

from shared.contracts.errors import RetryableError
from shared.messaging.publisher import publish_confirmed
from shared.messaging.session import SESSION_ERRORS, Session, open_session, translate_session_errors
from shared.runtime.waiting import wait_any
from shared.settings import AmqpSettings

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

CONTENT_TYPE: Final = "application/x-etlpay-canary"

# Consumers of one queue take turns, so that of so many canaries one comes to each.
_SWALLOWED_MAX: Final = 20
_FLIGHT_SECONDS: Final = 0.5
_PAUSE_SECONDS: Final = 2.0


class Tell(Protocol):
    """Hears what is known of the queue."""

    def __call__(self, *, delivers: bool) -> None:
        """`delivers`: what is confirmed to the queue comes out of it."""


class Canary:
    """Proves one queue to one consumer of it."""

    def __init__(self, settings: AmqpSettings, *, queue: str, name: str, tell: Tell) -> None:
        """`tell` hears of a queue that swallows what is confirmed to it, and of every queue that does not."""
        self._settings = settings
        self._queue = queue
        self._name = f"{name} canary"
        self._tell = tell
        self._token = ""
        self._came = asyncio.Event()

    def caught(self, message: DeliveredMessage) -> bool:
        """Tell whether a delivery is a canary, of whomever, and not an event; it is to be acked and forgotten."""
        properties = message.header.properties
        if properties.content_type != CONTENT_TYPE:
            return False
        if properties.correlation_id == self._token:
            self._came.set()
        return True

    async def prove(self, session: Session) -> None:
        """Send canaries until one has come through to the consumer on `session`, or that is over."""
        self._token = uuid.uuid4().hex
        self._came.clear()
        while not (self._came.is_set() or session.lost.is_set()):
            # A connection of its own: where the broker is short of memory it stops reading those that publish, and
            # the acks of the consumer would wait with them.
            try:
                with translate_session_errors():
                    async with open_session(self._settings, self._name) as own:
                        await self._send_until_one_comes(own, session)
            except (RetryableError, *SESSION_ERRORS) as error:
                log.debug("no canary could be sent; trying again", queue=self._queue, error=type(error).__name__)
            await wait_any(self._came, session.lost, seconds_max=_PAUSE_SECONDS)

    async def _send_until_one_comes(self, own: Session, session: Session) -> None:
        amqp_channel = await own.connection.channel(publisher_confirms=True, on_return_raises=True)
        swallowed = 0
        while not session.lost.is_set():
            deadline = asyncio.get_running_loop().time() + self._settings.publish_seconds_max
            await publish_confirmed(
                own, amqp_channel.default_exchange, self._message(), routing_key=self._queue, deadline=deadline
            )
            seconds_max = _FLIGHT_SECONDS if swallowed < _SWALLOWED_MAX else _PAUSE_SECONDS
            await wait_any(self._came, session.lost, seconds_max=seconds_max)
            while not self._came.is_set() and await self._has_messages(own):
                # It waits behind others, which this consumer or its neighbours are still busy with.
                await wait_any(self._came, session.lost, seconds_max=_PAUSE_SECONDS)
            if self._came.is_set():
                self._tell(delivers=True)
                return
            swallowed += 1
            if swallowed == _SWALLOWED_MAX:
                log.error("RabbitMQ confirms messages and never delivers them", queue=self._queue)
                self._tell(delivers=False)

    def _message(self) -> Message:
        return Message(
            b"",
            content_type=CONTENT_TYPE,
            correlation_id=self._token,
            delivery_mode=DeliveryMode.PERSISTENT,
            message_id=uuid.uuid4().hex,
        )

    async def _has_messages(self, own: Session) -> bool:
        deadline = asyncio.get_running_loop().time() + self._settings.publish_seconds_max
        async with own.bounded(deadline), own.connection.channel() as amqp_channel:
            found = await amqp_channel.declare_queue(self._queue, passive=True)
            return bool(found.declaration_result.message_count)
