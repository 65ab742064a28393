"""Publishes events to EtlPay through RabbitMQ."""

import asyncio
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, Self
from urllib.parse import unquote, urlsplit

import aio_pika
import msgspec
from aio_pika import DeliveryMode, Message
from aio_pika.abc import AbstractConnection
from aio_pika.exceptions import DeliveryError, PublishError
from aiormq.exceptions import ChannelAccessRefused, ChannelNotFoundEntity

from etlpay_client.errors import OutcomeUnknownError, UnavailableError
from etlpay_client.settings import broker_url

EXCHANGE: Final = "etlpay.events"


class QueueClient:
    """Publishes events to the exchange `etlpay.events`; the broker confirms each.

    ```python
    client = QueueClient("amqp://producer-shop:password@broker/")
    await client.publish("etl-queue", {"value": 1}, id="order-1")
    ```

    Each call connects anew; within `async with QueueClient() as client:` all calls use one connection.
    """

    def __init__(self, url: str | None = None, *, seconds_max: float = 5.0) -> None:
        """Connect nowhere yet.

        `url` is `amqp://user:password@host:port/`; without it see `etlpay_client.settings.broker_url`. `seconds_max`
        limits each attempt to connect, and each publish.
        """
        self._url = url or broker_url()
        self._seconds_max = seconds_max
        self._connection: AbstractConnection | None = None

    async def publish(
        self,
        queue: str,
        payload: Mapping[str, Any] | Sequence[Mapping[str, Any]] | bytes,
        *,
        source: str | None = None,
        id: str | None = None,  # noqa: A002 - the producer's word for it
        type: str | None = None,  # noqa: A002 - the producer's word for it
    ) -> None:
        """Return when the broker holds the message durably in `queue`.

        `payload` is one event (an object), several (a list of objects) or JSON bytes that are sent unchanged. With an
        `id` repeating is safe: the same `(source, id)` is stored once.

        Raises:
            UnavailableError: there is no such queue or exchange, this user may not publish to it, or the broker takes
                no messages now. Nothing was taken.
            OutcomeUnknownError: the broker did not confirm in time.
            OSError: the broker cannot be reached.
        """
        headers = {"ce-source": source, "ce-id": id, "ce-type": type}
        message = Message(
            payload if isinstance(payload, bytes) else msgspec.json.encode(payload),
            content_type="application/json",
            delivery_mode=DeliveryMode.PERSISTENT,
            message_id=uuid.uuid4().hex,
            # The broker checks the user. EtlPay takes a message only from a user who may send for its source.
            user_id=unquote(urlsplit(self._url).username or "") or None,
            headers={name: value for name, value in headers.items() if value is not None},
        )
        if self._connection is not None:
            await self._send(self._connection, queue, message)
            return
        async with await self._connect() as connection:
            await self._send(connection, queue, message)

    async def __aenter__(self) -> Self:
        """Connect."""
        self._connection = await self._connect()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def _connect(self) -> AbstractConnection:
        return await aio_pika.connect(self._url, timeout=self._seconds_max)

    async def _send(self, connection: AbstractConnection, queue: str, message: Message) -> None:
        with _translate_errors():
            await self._wait_while_blocked(connection)
            async with asyncio.timeout(self._seconds_max):
                # A channel for each message: when the broker closes it, it refused this message.
                async with connection.channel(publisher_confirms=True, on_return_raises=True) as amqp_channel:
                    exchange = await amqp_channel.get_exchange(EXCHANGE, ensure=False)
                    await exchange.publish(message, routing_key=queue, mandatory=True)

    async def _wait_while_blocked(self, connection: AbstractConnection) -> None:
        """Return once the broker takes messages; it blocks publishers while it is short of memory or disk."""
        try:
            async with asyncio.timeout(self._seconds_max):
                if connection.transport is not None:
                    await connection.transport.ready()
        except TimeoutError as error:
            raise UnavailableError("RabbitMQ takes no messages now") from error


@contextmanager
def _translate_errors() -> Iterator[None]:
    """Raise UnavailableError where the broker refused the message, and else OutcomeUnknownError."""
    try:
        yield
    except UnavailableError:
        raise
    except asyncio.CancelledError as error:
        # When a connection ends, the library cancels whoever waits for it.
        if (task := asyncio.current_task()) is not None and task.cancelling():
            raise
        raise OutcomeUnknownError("the connection ended") from error
    except PublishError as error:
        raise UnavailableError("no queue is bound under this routing key") from error
    except DeliveryError as error:
        raise UnavailableError("the queue is full") from error
    except (ChannelNotFoundEntity, ChannelAccessRefused) as error:
        raise UnavailableError("the exchange does not exist, or this user may not publish to it") from error
    # The library has many classes for a lost connection, also the plain `Exception`.
    except Exception as error:
        raise OutcomeUnknownError("no confirmation in time") from error
