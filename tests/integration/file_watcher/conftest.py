"""What the tests of the watcher's process share."""

from collections.abc import AsyncIterator

import aio_pika
import pytest

from shared.messaging.topology import INGEST_QUEUE, PARKED_QUEUE, SLOW_QUEUE
from support.servers import Servers


@pytest.fixture
async def broker(servers: Servers) -> AsyncIterator[aio_pika.abc.AbstractChannel]:
    """A channel with the broker, whose ingest queues are empty."""
    async with await aio_pika.connect(servers.amqp_url) as connection:
        amqp_channel = await connection.channel()
        for queue in (INGEST_QUEUE, SLOW_QUEUE, PARKED_QUEUE):
            await amqp_channel.queue_delete(queue)
        yield amqp_channel
