"""A canary: a message that shows that what RabbitMQ confirms to a queue is also delivered from it.

A confirmation means that a message is in the queue. One broker is known to confirm and discard
(https://github.com/rabbitmq/rabbitmq-server/issues/17504): publishers cannot see it, so the service that reads the
queue checks it at the start of every session.
"""

import asyncio
import uuid
from time import monotonic
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

# The broker delivers to the consumers of a queue in turn, so one of so many canaries comes to each of them.
_MISSING_MAX: Final = 20
_FLIGHT_SECONDS: Final = 0.5
_PAUSE_SECONDS: Final = 2.0


class CanaryReport(Protocol):
    """Gets the result of a check."""

    def __call__(self, *, delivers: bool) -> None:
        """`delivers`: a message that was confirmed to the queue has come out of it."""


class Canary:
    """Checks one queue for one of its consumers."""

    def __init__(self, settings: AmqpSettings, *, queue: str, name: str, report: CanaryReport) -> None:
        """`report` is called when the canary has arrived, and when too many have not."""
        self._settings = settings
        self._queue = queue
        self._name = f"{name} canary"
        self._report = report
        self._token = ""
        self._arrived = asyncio.Event()

    def recognize(self, message: DeliveredMessage) -> bool:
        """Return whether a delivery is a canary of any consumer: it is to be acked, and is no event."""
        properties = message.header.properties
        if properties.content_type != CONTENT_TYPE:
            return False
        if properties.correlation_id == self._token:
            self._arrived.set()
        return True

    async def prove(self, session: Session) -> None:
        """Send canaries until one arrives at the consumer on `session`, or the session is lost."""
        self._token = uuid.uuid4().hex
        self._arrived.clear()
        while not (self._arrived.is_set() or session.lost.is_set()):
            # A connection of its own: a broker that is short of memory stops reading from connections that publish,
            # and would not read the acks of the consumer either.
            try:
                with translate_session_errors():
                    async with open_session(self._settings, self._name) as own:
                        await self._send_until_one_arrives(own, session)
            except (RetryableError, *SESSION_ERRORS) as error:
                log.debug("no canary could be sent; trying again", queue=self._queue, error=type(error).__name__)
            await wait_any(self._arrived, session.lost, seconds_max=_PAUSE_SECONDS)

    async def _send_until_one_arrives(self, own: Session, session: Session) -> None:
        amqp_channel = await own.connection.channel(publisher_confirms=True, on_return_raises=True)
        missing = 0
        while not session.lost.is_set():
            deadline = monotonic() + self._settings.publish_seconds_max
            await publish_confirmed(
                own, amqp_channel.default_exchange, self._message(), routing_key=self._queue, deadline=deadline
            )
            seconds_max = _FLIGHT_SECONDS if missing < _MISSING_MAX else _PAUSE_SECONDS
            await wait_any(self._arrived, session.lost, seconds_max=seconds_max)
            while not self._arrived.is_set() and await self._has_messages(own):
                # It waits behind others, which this consumer or another one is still busy with.
                await wait_any(self._arrived, session.lost, seconds_max=_PAUSE_SECONDS)
            if self._arrived.is_set():
                self._report(delivers=True)
                return
            missing += 1
            if missing == _MISSING_MAX:
                log.error("RabbitMQ confirms messages and never delivers them", queue=self._queue)
                self._report(delivers=False)

    def _message(self) -> Message:
        return Message(
            b"",
            content_type=CONTENT_TYPE,
            correlation_id=self._token,
            delivery_mode=DeliveryMode.PERSISTENT,
            message_id=uuid.uuid4().hex,
        )

    async def _has_messages(self, own: Session) -> bool:
        with own.within(monotonic() + self._settings.publish_seconds_max):
            async with own.connection.channel() as amqp_channel:
                found = await amqp_channel.declare_queue(self._queue, passive=True)
                return bool(found.declaration_result.message_count)
