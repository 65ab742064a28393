"""Deliveries that are settled in batches: what was acked is gone, what was not comes again."""

import asyncio
from collections.abc import AsyncIterator

import aio_pika
import pytest
from aio_pika.abc import AbstractConnection

from etlpay_cli.provision import INGEST_VHOST
from shared.messaging.consumer import Consumer, DeliveryBatch
from shared.settings import AmqpSettings
from support.servers import Servers

QUEUE = "batches-test"
BODIES = [b"%d" % number for number in range(50)]


async def declare(connection: AbstractConnection) -> None:
    async with connection.channel() as amqp_channel:
        await amqp_channel.declare_queue(QUEUE, durable=True, arguments={"x-queue-type": "quorum"})


@pytest.fixture
async def operator(servers: Servers) -> AsyncIterator[AbstractConnection]:
    """A connection with all permissions. The queue holds the bodies, and is deleted afterwards."""
    async with await aio_pika.connect(servers.broker_url("operator", INGEST_VHOST)) as connection:
        await declare(connection)
        async with connection.channel() as amqp_channel:
            for body in BODIES:
                await amqp_channel.default_exchange.publish(aio_pika.Message(body), routing_key=QUEUE)
        yield connection
        async with connection.channel() as amqp_channel:
            await amqp_channel.queue_delete(QUEUE)


async def left_over(connection: AbstractConnection) -> list[tuple[bytes, bool]]:
    """Return what is in the queue, and whether it was delivered before."""
    found = []
    async with connection.channel() as amqp_channel:
        queue = await amqp_channel.get_queue(QUEUE, ensure=False)
        while (message := await queue.get(fail=False)) is not None:
            found.append((message.body, bool(message.redelivered)))
            await message.ack()
    return found


async def test_a_delivery_of_a_batch_that_is_not_acked_comes_again_alone(
    servers: Servers, operator: AbstractConnection
) -> None:
    batches: list[list[bytes]] = []

    async def settle(batch: DeliveryBatch) -> None:
        batches.append([delivery.body for delivery in batch.deliveries])
        await batch.ack([delivery for delivery in batch.deliveries if delivery.body != b"17"])
        if sum(map(len, batches)) == len(BODIES):
            consumer.close()

    consumer = Consumer(
        AmqpSettings(
            amqp_url=f"amqp://operator@{servers.amqp_host}:{servers.amqp_port}/{INGEST_VHOST}",
            amqp_password=servers.broker_password("operator"),
        ),
        name="test",
        queue=QUEUE,
        prefetch_count=20,
        bytes_max=1_000_000,
        declare=declare,
        settle_batch=settle,
        batch_bytes_max=1_000,
    )
    async with asyncio.timeout(20):
        await consumer.run()

    assert [body for batch in batches for body in batch] == BODIES
    assert len(batches) < len(BODIES)
    assert await left_over(operator) == [(b"17", True)]
