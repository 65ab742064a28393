"""The broker's users: what each may do is a fact of the broker, not a habit of the code."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, ExchangeType
from aiormq.exceptions import AMQPError, ChannelAccessRefused, ChannelPreconditionFailed
from pamqp.commands import Basic

from etlpay_cli.provision import INGEST_VHOST, PUBLIC_VHOST
from etlpay_client import QueueClient, UnavailableError
from shared.contracts.errors import RetryableError
from shared.messaging.consumer import Consumer
from shared.messaging.publisher import READY, Publisher
from shared.messaging.topology import (
    EVENTS_EXCHANGE,
    INGEST_QUEUE,
    PARKED_QUEUE,
    PUBLIC_QUEUE,
    RECEIPTS_QUEUE,
    SLOW_QUEUE,
    declare_ingest_queues,
    declare_public,
)
from shared.runtime.readiness import Readiness
from shared.runtime.service import running
from shared.settings import PublisherSettings
from support.amqp import publish
from support.servers import Servers

EDGE_SERVICES = ("api-gateway", "grpc-ingest", "file-watcher", "queue-consumer")
INGEST_QUEUES = (INGEST_QUEUE, SLOW_QUEUE, PARKED_QUEUE, RECEIPTS_QUEUE)


def settings(servers: Servers, user: str, vhost: str = INGEST_VHOST) -> PublisherSettings:
    """Return the settings of one user for one virtual host."""
    return PublisherSettings(
        amqp_url=f"amqp://{user}@{servers.amqp_host}:{servers.amqp_port}/{vhost.removeprefix('/')}",
        amqp_password=servers.broker_password(user),
    )


@pytest.fixture
async def declared(servers: Servers) -> Servers:
    """The servers, with every queue declared by the service that declares it, under that service's own user."""
    async with await aio_pika.connect(servers.broker_url("processor", INGEST_VHOST)) as connection:
        await declare_ingest_queues(connection)
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


async def test_a_foreign_producer_cannot_open_our_virtual_host(declared: Servers) -> None:
    with pytest.raises(AMQPError, match=r"Connection\.Close"):
        await aio_pika.connect(declared.broker_url("producer", INGEST_VHOST))


@pytest.mark.parametrize("user", ["api-gateway", "grpc-ingest", "file-watcher", "processor"])
async def test_a_service_without_foreign_queues_cannot_enter_where_they_are(declared: Servers, user: str) -> None:
    with pytest.raises(AMQPError, match=r"Connection\.Close"):
        await aio_pika.connect(declared.broker_url(user, PUBLIC_VHOST))


@pytest.mark.parametrize("user", EDGE_SERVICES)
@pytest.mark.parametrize("queue", INGEST_QUEUES)
async def test_an_edge_service_cannot_read_an_ingest_queue(open_channel: OpenChannel, user: str, queue: str) -> None:
    ingest = await (await open_channel(user, INGEST_VHOST)).get_queue(queue, ensure=False)
    with pytest.raises(ChannelAccessRefused):
        await ingest.get(fail=False)

    ingest = await (await open_channel(user, INGEST_VHOST)).get_queue(queue, ensure=False)
    with pytest.raises(ChannelAccessRefused):
        await ingest.consume(asyncio.Queue[AbstractIncomingMessage]().put)


@pytest.mark.parametrize("user", EDGE_SERVICES)
@pytest.mark.parametrize("queue", INGEST_QUEUES)
async def test_an_edge_service_cannot_delete_or_empty_an_ingest_queue(
    open_channel: OpenChannel, user: str, queue: str
) -> None:
    amqp_channel = await open_channel(user, INGEST_VHOST)
    with pytest.raises(ChannelAccessRefused):
        await amqp_channel.queue_delete(queue)

    amqp_channel = await open_channel(user, INGEST_VHOST)
    found = await amqp_channel.get_queue(queue, ensure=False)
    with pytest.raises(ChannelAccessRefused):
        await found.purge()


async def test_what_is_parked_is_not_the_processors_to_read(
    open_channel: OpenChannel,
) -> None:
    amqp_channel = await open_channel("processor", INGEST_VHOST)
    found = await amqp_channel.get_queue(PARKED_QUEUE, ensure=False)

    with pytest.raises(ChannelAccessRefused):
        await found.get(fail=False)


async def test_a_producer_hands_events_to_the_exchange(open_channel: OpenChannel, declared: Servers) -> None:
    amqp_channel = await open_channel("producer", PUBLIC_VHOST)
    exchange = await amqp_channel.get_exchange(EVENTS_EXCHANGE, ensure=False)

    answer = await exchange.publish(
        aio_pika.Message(b"{}", user_id="producer"), routing_key=PUBLIC_QUEUE, mandatory=True
    )

    assert isinstance(answer, Basic.Ack)
    assert await taken(declared, PUBLIC_QUEUE) == b"{}"


async def taken(servers: Servers, queue: str) -> bytes:
    """Return the body of the next message of a queue, as its operator, and ack it."""
    async with await aio_pika.connect(servers.broker_url("operator")) as connection:
        found = await (await connection.channel()).get_queue(queue)
        message = await found.get()
        await message.ack()
        return message.body


async def _get(amqp_channel: AbstractChannel, queue: str) -> None:
    await (await amqp_channel.get_queue(queue, ensure=False)).get(fail=False)


async def _consume(amqp_channel: AbstractChannel, queue: str) -> None:
    found = await amqp_channel.get_queue(queue, ensure=False)
    await found.consume(asyncio.Queue[AbstractIncomingMessage]().put)


async def _purge(amqp_channel: AbstractChannel, queue: str) -> None:
    await (await amqp_channel.get_queue(queue, ensure=False)).purge()


async def _delete(amqp_channel: AbstractChannel, queue: str) -> None:
    await amqp_channel.queue_delete(queue)


async def _declare(amqp_channel: AbstractChannel, queue: str) -> None:
    await amqp_channel.declare_queue(f"{queue}-2", durable=True, arguments={"x-queue-type": "quorum"})


async def _declare_exchange(amqp_channel: AbstractChannel, queue: str) -> None:
    await amqp_channel.declare_exchange(f"{queue}-exchange", ExchangeType.FANOUT)


async def _delete_exchange(amqp_channel: AbstractChannel, _queue: str) -> None:
    await amqp_channel.exchange_delete(EVENTS_EXCHANGE)


async def _bind(amqp_channel: AbstractChannel, queue: str) -> None:
    found = await amqp_channel.get_queue(queue, ensure=False)
    await found.bind(EVENTS_EXCHANGE, routing_key="*")


async def _unbind(amqp_channel: AbstractChannel, queue: str) -> None:
    found = await amqp_channel.get_queue(queue, ensure=False)
    await found.unbind(EVENTS_EXCHANGE, routing_key=queue)


async def _publish_directly(amqp_channel: AbstractChannel, queue: str) -> None:
    await amqp_channel.default_exchange.publish(aio_pika.Message(b"forged"), routing_key=queue)


async def _publish_to_amq_topic(amqp_channel: AbstractChannel, queue: str) -> None:
    exchange = await amqp_channel.get_exchange("amq.topic", ensure=False)
    await exchange.publish(aio_pika.Message(b"forged"), routing_key=queue)


@pytest.mark.parametrize("queue", [PUBLIC_QUEUE, f"{PUBLIC_QUEUE}.parked"])
@pytest.mark.parametrize(
    "act",
    [
        _get, _consume, _purge, _delete, _declare, _declare_exchange, _delete_exchange, _bind, _unbind,
        _publish_directly, _publish_to_amq_topic,
    ],
)  # fmt: skip
async def test_a_producer_can_do_nothing_else(
    open_channel: OpenChannel, act: Callable[[AbstractChannel, str], Awaitable[None]], queue: str
) -> None:
    amqp_channel = await open_channel("producer", PUBLIC_VHOST)

    with pytest.raises(ChannelAccessRefused):
        await act(amqp_channel, queue)


async def test_what_one_producer_was_confirmed_no_other_takes_away(declared: Servers) -> None:
    """With one credential 50 messages are confirmed; with the same, and a second connection, nobody reads one."""
    await publish(declared.broker_url("producer"), (aio_pika.Message(b"%d" % number) for number in range(50)))

    async with await aio_pika.connect(declared.broker_url("producer")) as connection:
        for act in (_get, _consume, _purge, _delete):
            with pytest.raises(ChannelAccessRefused):
                await act(await connection.channel(), PUBLIC_QUEUE)

    assert [await taken(declared, PUBLIC_QUEUE) for _ in range(50)] == [b"%d" % number for number in range(50)]


async def test_a_producer_cannot_say_that_it_is_another(open_channel: OpenChannel) -> None:
    amqp_channel = await open_channel("producer", PUBLIC_VHOST)
    exchange = await amqp_channel.get_exchange(EVENTS_EXCHANGE, ensure=False)

    with pytest.raises(ChannelPreconditionFailed, match="user_id"):
        await exchange.publish(aio_pika.Message(b"{}", user_id="operator"), routing_key=PUBLIC_QUEUE)


async def test_what_no_queue_takes_comes_back_to_a_producer_that_asks_for_it(declared: Servers) -> None:
    client = QueueClient(declared.broker_url("producer"))

    with pytest.raises(UnavailableError, match="no queue is bound"):
        await client.publish("nobody-declared-this", {})


async def test_a_producer_is_told_that_no_consumer_was_ever_here(declared: Servers) -> None:
    """A broker that queue-consumer has not seen yet has no exchange: that is an error, and nothing is taken."""
    async with await aio_pika.connect(declared.broker_url("operator")) as connection:
        await (await connection.channel()).exchange_delete(EVENTS_EXCHANGE)

    with pytest.raises(UnavailableError, match="exchange does not exist"):
        await QueueClient(declared.broker_url("producer")).publish(PUBLIC_QUEUE, {})


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
async def without_queues(declared: Servers) -> AsyncIterator[Servers]:
    """The servers, with the ingest queues deleted."""
    async with await aio_pika.connect(declared.broker_url("operator", INGEST_VHOST)) as connection:
        amqp_channel = await connection.channel()
        for queue in INGEST_QUEUES:
            await amqp_channel.queue_delete(queue)
        yield declared


async def test_a_service_publishes_nothing_until_the_processor_has_declared_the_queues(without_queues: Servers) -> None:
    readiness = Readiness(READY)
    publisher = Publisher(settings(without_queues, "grpc-ingest"), name="test", readiness=readiness)
    consumer = Consumer(
        settings(without_queues, "processor"),
        name="test",
        queue=INGEST_QUEUE,
        prefetch_count=1,
        bytes_max=1_000_000,
        declare=declare_ingest_queues,
        settle=lambda delivery: delivery.ack(),
    )
    async with running(publisher):
        await asyncio.sleep(1)
        before = readiness.ready

        async with running(consumer):
            async with asyncio.timeout(20):
                while not readiness.ready:  # noqa: ASYNC110 - the publisher tells nobody
                    await asyncio.sleep(0.05)
            await _publish_until_taken(publisher)
    assert before is False


async def _publish_until_taken(publisher: Publisher) -> None:
    """A queue that was declared a moment ago may refuse the first message."""
    async with asyncio.timeout(10):
        while True:
            try:
                return await publisher.publish_batch(b"")
            except RetryableError:
                await asyncio.sleep(0.1)
