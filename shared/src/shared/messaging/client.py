"""A client for producers that publish events to EtlPay through RabbitMQ."""

import uuid
from collections.abc import Mapping, Sequence
from time import monotonic
from typing import Any, Self

import aio_pika
import msgspec
from aio_pika import DeliveryMode, Message
from aiormq.exceptions import ChannelAccessRefused, ChannelNotFoundEntity
from yarl import URL

from shared.contracts.errors import OutcomeUnknownError, UnavailableError
from shared.messaging.publisher import publish_confirmed
from shared.messaging.session import SESSION_ERRORS, Session, translate_session_errors
from shared.messaging.topology import EVENTS_EXCHANGE
from shared.settings import QueueBrokerSettings, ServiceSettings


class ClientSettings(ServiceSettings, QueueBrokerSettings):
    """The settings that the client reads when it is given no URL."""


class QueueClient:
    """Publishes events to the exchange `etlpay.events`, each confirmed by the broker.

    ```python
    client = QueueClient()
    await client.publish("etl-queue", {"value": 1})
    ```

    Each call opens a connection. Within `async with QueueClient() as client:` all calls share one.
    """

    def __init__(self, url: str | None = None) -> None:
        """`url` is `amqp://user:password@host:port/`. Without it the settings of the queue channel are used."""
        settings = ClientSettings().queue_broker()
        self._deadline_seconds = settings.publish_seconds_max
        self._connect_seconds_max = settings.amqp_connect_seconds_max
        self._url = URL(url) if url else URL(settings.amqp_url).with_password(settings.amqp_password.get_secret_value())
        self._session: Session | None = None

    async def publish(
        self,
        queue: str,
        payload: Mapping[str, Any] | Sequence[Mapping[str, Any]] | bytes,
        *,
        source: str | None = None,
        id: str | None = None,  # noqa: A002 - the producer's word for it
        type: str | None = None,  # noqa: A002 - the producer's word for it
    ) -> None:
        """Return when the broker has stored the message in `queue`. The exchange routes by the queue's name.

        `payload` is one event (an object), several (a list of objects) or JSON bytes, which are sent as they are.
        `id` makes repeating safe: the same `(source, id)` is stored once.

        Raises:
            UnavailableError: no consumer has declared exchange and queue, or this user may not publish. Nothing was
                stored. OutcomeUnknownError: no confirmation in time. OSError: the broker cannot be reached.
        """
        headers = {"ce-source": source, "ce-id": id, "ce-type": type}
        message = Message(
            payload if isinstance(payload, bytes) else msgspec.json.encode(payload),
            content_type="application/json",
            delivery_mode=DeliveryMode.PERSISTENT,
            message_id=uuid.uuid4().hex,
            # The broker checks it. So the consumer knows whose message it is, and which sources the user may name.
            user_id=self._url.user or None,
            headers={name: value for name, value in headers.items() if value is not None},
        )
        if self._session is not None:
            await self._send(self._session, queue, message)
            return
        async with self:
            await self.publish(queue, payload, source=source, id=id, type=type)

    async def __aenter__(self) -> Self:
        """Connect."""
        connection = await aio_pika.connect(self._url, timeout=self._connect_seconds_max)
        self._session = Session(connection)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connection."""
        session, self._session = self._session, None
        if session is not None:
            await session.connection.close()

    async def _send(self, session: Session, queue: str, message: Message) -> None:
        try:
            with translate_session_errors():
                async with session.connection.channel(publisher_confirms=True, on_return_raises=True) as amqp_channel:
                    exchange = await amqp_channel.get_exchange(EVENTS_EXCHANGE, ensure=False)
                    deadline = monotonic() + self._deadline_seconds
                    await publish_confirmed(session, exchange, message, routing_key=queue, deadline=deadline)
        except OutcomeUnknownError as error:
            # The channel carried only this message, so this message was refused.
            if isinstance(error.__cause__, ChannelNotFoundEntity | ChannelAccessRefused):
                raise UnavailableError("the exchange does not exist, or this user may not publish to it") from error
            raise
        except SESSION_ERRORS as error:
            # The library raises several classes, also after the confirmation.
            raise OutcomeUnknownError("the session ended") from error
