"""Publishing to the queue channel as a foreign producer does: to the exchange, which is all that it may write to."""

from collections.abc import Iterable

import aio_pika

from shared.messaging.topology import EVENTS_EXCHANGE, PUBLIC_QUEUE


async def publish(url: str, messages: Iterable[aio_pika.Message], routing_key: str = PUBLIC_QUEUE) -> None:
    """Return when the broker has confirmed each message. Raises where one reaches no queue."""
    async with await aio_pika.connect(url) as connection:
        amqp_channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
        exchange = await amqp_channel.get_exchange(EVENTS_EXCHANGE, ensure=False)
        for message in messages:
            await exchange.publish(message, routing_key=routing_key)
