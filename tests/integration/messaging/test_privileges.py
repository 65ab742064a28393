"""The broker's users: what each may do is a fact of the broker, not a habit of the code."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from aiormq.exceptions import AMQPError, ChannelAccessRefused

from etlpay_cli.provision import LANES_VHOST, PUBLIC_VHOST
from shared.contracts.errors import RetryableError
from shared.messaging.consumer import Consumer
from shared.messaging.publisher import READY, Publisher
from shared.messaging.session import first_of
from shared.messaging.topology import (
    EVENTS_EXCHANGE,
    INGEST_QUEUE,
    PARKED_QUEUE,
    PUBLIC_QUEUE,
    RECEIPTS_QUEUE,
    SLOW_QUEUE,
    declare_lanes,
    declare_public,
)
from shared.runtime.readiness import Readiness
from shared.settings import AmqpSettings
from support.servers import Servers

DOORS = ("api-gateway", "grpc-ingest", "file-watcher", "queue-consumer")
LANES = (INGEST_QUEUE, SLOW_QUEUE, PARKED_QUEUE, RECEIPTS_QUEUE)


def settings(servers: Servers, user: str, vhost: str = LANES_VHOST) -> AmqpSettings:
    """Return the settings of one user for one virtual host."""
    return AmqpSettings(
        amqp_url=f"amqp://{user}@{servers.amqp_host}:{servers.amqp_port}/{vhost.removeprefix('/')}",
        amqp_password=servers.broker_password(user),
    )


@pytest.fixture
async def declared(servers: Servers) -> Servers:
    """The servers, with every queue declared by the service that declares it, under that service's own user."""
    async with await aio_pika.connect(servers.broker_url("processor", LANES_VHOST)) as connection:
        await declare_lanes(connection)
    async with await aio_pika.connect(servers.broker_url("queue-consumer")) as connection:
        await declare_public(connection, PUBLIC_QUEUE)
    return servers


OpenChannel = Callable[[str, str], Awaitable[AbstractChannel]]


@pytest.fixture
async def open_channel(declared: Servers) -> AsyncIterator[OpenChannel]:
    """Return what opens a channel as a user in a virtual host."""
    async with AsyncExitStack() as connections:

        async def open_as(user: str, vhost: str) -> AbstractChannel:
            connection = await aio_pika.connect(declared.broker_url(user, vhost))
            await connections.enter_async_context(connection)
            return await connection.channel()

        yield open_as


async def test_a_foreign_producer_cannot_enter_where_the_lanes_are(declared: Servers) -> None:
    with pytest.raises(AMQPError, match=r"Connection\.Close"):
        await aio_pika.connect(declared.broker_url("producer", LANES_VHOST))


@pytest.mark.parametrize("user", ["api-gateway", "grpc-ingest", "file-watcher", "processor"])
async def test_a_service_without_foreign_queues_cannot_enter_where_they_are(declared: Servers, user: str) -> None:
    with pytest.raises(AMQPError, match=r"Connection\.Close"):
        await aio_pika.connect(declared.broker_url(user, PUBLIC_VHOST))


@pytest.mark.parametrize("user", DOORS)
@pytest.mark.parametrize("queue", LANES)
async def test_who_hands_over_cannot_read_a_lane(open_channel: OpenChannel, user: str, queue: str) -> None:
    lane = await (await open_channel(user, LANES_VHOST)).get_queue(queue, ensure=False)
    with pytest.raises(ChannelAccessRefused):
        await lane.get(fail=False)

    lane = await (await open_channel(user, LANES_VHOST)).get_queue(queue, ensure=False)
    with pytest.raises(ChannelAccessRefused):
        await lane.consume(asyncio.Queue[AbstractIncomingMessage]().put)


@pytest.mark.parametrize("user", DOORS)
@pytest.mark.parametrize("queue", LANES)
async def test_who_hands_over_cannot_delete_or_empty_a_lane(open_channel: OpenChannel, user: str, queue: str) -> None:
    amqp_channel = await open_channel(user, LANES_VHOST)
    with pytest.raises(ChannelAccessRefused):
        await amqp_channel.queue_delete(queue)

    amqp_channel = await open_channel(user, LANES_VHOST)
    found = await amqp_channel.get_queue(queue, ensure=False)
    with pytest.raises(ChannelAccessRefused):
        await found.purge()


async def test_what_is_parked_is_not_the_processors_to_read(
    open_channel: OpenChannel,
) -> None:
    amqp_channel = await open_channel("processor", LANES_VHOST)
    found = await amqp_channel.get_queue(PARKED_QUEUE, ensure=False)

    with pytest.raises(ChannelAccessRefused):
        await found.get(fail=False)


async def test_a_producer_can_declare_its_own_queue_alone(
    open_channel: OpenChannel,
) -> None:
    amqp_channel = await open_channel("producer", PUBLIC_VHOST)

    with pytest.raises(ChannelAccessRefused):
        await amqp_channel.declare_queue("etl-queue-2", durable=True, arguments={"x-queue-type": "quorum"})


@pytest.mark.parametrize("exchange", [EVENTS_EXCHANGE, ""])
async def test_a_producer_can_publish_through_both_public_ways(open_channel: OpenChannel, exchange: str) -> None:
    amqp_channel = await open_channel("producer", PUBLIC_VHOST)
    way = await amqp_channel.get_exchange(exchange, ensure=False) if exchange else amqp_channel.default_exchange

    await way.publish(aio_pika.Message(b"{}"), routing_key=PUBLIC_QUEUE, mandatory=True)

    found = await amqp_channel.get_queue(PUBLIC_QUEUE, ensure=False)
    taken = await found.get()
    await taken.ack()
    assert taken.body == b"{}"


async def test_a_producer_cannot_put_anything_into_a_lane_through_the_default_exchange(
    declared: Servers, open_channel: OpenChannel
) -> None:
    """It may write to the default exchange; in its virtual host no lane has a name."""
    async with await aio_pika.connect(declared.broker_url("operator", LANES_VHOST)) as connection:
        lanes = await connection.channel()
        for queue in LANES:
            await (await lanes.get_queue(queue)).purge()
        producing = await open_channel("producer", PUBLIC_VHOST)

        for queue in LANES:
            await producing.default_exchange.publish(aio_pika.Message(b"forged"), routing_key=queue, mandatory=False)

        counts = [(await lanes.declare_queue(queue, passive=True)).declaration_result.message_count for queue in LANES]
    assert counts == [0] * len(LANES)


async def test_a_dead_letter_of_a_public_queue_stays_beside_it(declared: Servers) -> None:
    async with await aio_pika.connect(declared.broker_url("operator")) as connection:
        amqp_channel = await connection.channel()
        await amqp_channel.default_exchange.publish(aio_pika.Message(b"bad"), routing_key=PUBLIC_QUEUE)
        taken = await (await amqp_channel.get_queue(PUBLIC_QUEUE)).get()

        await taken.reject(requeue=False)

        parked = await amqp_channel.get_queue(f"{PUBLIC_QUEUE}.parked")
        async with asyncio.timeout(10):
            while (letter := await parked.get(fail=False)) is None:  # noqa: ASYNC110 - the broker tells nobody
                await asyncio.sleep(0.05)
        await letter.ack()
    assert letter.body == b"bad"


@pytest.fixture
async def without_lanes(declared: Servers) -> AsyncIterator[Servers]:
    """The servers, with the lanes deleted."""
    async with await aio_pika.connect(declared.broker_url("operator", LANES_VHOST)) as connection:
        amqp_channel = await connection.channel()
        for queue in LANES:
            await amqp_channel.queue_delete(queue)
        yield declared


async def test_a_door_takes_nothing_until_the_processor_has_declared_the_lanes(without_lanes: Servers) -> None:
    readiness = Readiness(READY)
    publisher = Publisher(settings(without_lanes, "grpc-ingest"), name="test", readiness=readiness)
    consumer = Consumer(
        settings(without_lanes, "processor"),
        name="test",
        queue=INGEST_QUEUE,
        prefetch_count=1,
        bytes_max=1_000_000,
        declare=declare_lanes,
        settle=lambda delivery: delivery.ack(),
    )
    async with asyncio.TaskGroup() as group:
        group.create_task(publisher.run())
        await first_of(asyncio.Event(), seconds_max=1)
        before = readiness.ready

        group.create_task(consumer.run())

        async with asyncio.timeout(20):
            while not readiness.ready:  # noqa: ASYNC110 - the publisher tells nobody
                await asyncio.sleep(0.05)
        await _publish_until_taken(publisher)
        publisher.close()
        consumer.close()
    assert before is False


async def _publish_until_taken(publisher: Publisher) -> None:
    """A queue that was declared a moment ago may refuse the first message."""
    async with asyncio.timeout(10):
        while True:
            try:
                return await publisher.publish_batch(b"")
            except RetryableError:
                await asyncio.sleep(0.1)
