"""One behaviour of `BatchPublisher`, of the fake in memory and of the real one on RabbitMQ."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import aio_pika
import pytest

from shared.contracts.errors import OutcomeUnknownError, PermanentError, UnavailableError
from shared.contracts.event import Envelope
from shared.messaging.publisher import MESSAGE_BYTES_MAX, BatchPublisher, Publisher
from shared.messaging.topology import INGEST_QUEUE, declare_ingest_queues
from shared.runtime.service import running
from shared.settings import PublisherSettings
from shared.testing.publisher import FakePublisher
from shared.wire import decode_batch, encode_batch
from support.events import event
from support.proxy import Proxy
from support.servers import Servers


@dataclass
class BrokerEdge:
    """A publisher, what the processor would receive from it, and how to make its broker fail."""

    publisher: BatchPublisher
    receive: Callable[[], Awaitable[list[Envelope]]]
    take_away: Callable[[], None]
    keep_silent: Callable[[], None]
    bring_back: Callable[[], None]


class Suite:
    """What both must do."""

    async def test_batch_arrives_whole_and_in_order(self, edge: BrokerEdge) -> None:
        events = [event(b'{"value": %d}' % number, key=str(number)) for number in range(1_000)]

        await edge.publisher.publish_batch(encode_batch(events))

        assert events == await edge.receive()

    async def test_batches_published_at_once_all_arrive(self, edge: BrokerEdge) -> None:
        events = [event(key=str(number)) for number in range(100)]

        async with asyncio.TaskGroup() as group:
            for one in events:
                group.create_task(edge.publisher.publish_batch(encode_batch([one])))

        assert {one.event_id for one in events} == {one.event_id for one in await edge.receive()}

    async def test_batch_is_not_taken_while_the_broker_is_away(self, edge: BrokerEdge) -> None:
        await edge.publisher.publish_batch(encode_batch([event(key="before")]))
        edge.take_away()

        with pytest.raises(UnavailableError):
            await _publish_when_noticed(edge, event(key="away"))
        edge.bring_back()
        await edge.publisher.publish_batch(encode_batch([event(key="after")]))

        assert [one.idempotency_key for one in await edge.receive()] == ["before", "after"]

    async def test_batch_without_a_confirmation_in_time_is_unknown(self, edge: BrokerEdge) -> None:
        await edge.publisher.publish_batch(encode_batch([event(key="before")]))
        edge.keep_silent()

        with pytest.raises(OutcomeUnknownError):
            await edge.publisher.publish_batch(encode_batch([event(key="unknown")]))
        edge.bring_back()
        await _publish_until_taken(edge, event(key="after"))

        received = {one.idempotency_key for one in await edge.receive()}
        assert received - {"unknown"} == {"before", "after"}

    async def test_batch_that_the_broker_would_never_take_is_permanent(self, edge: BrokerEdge) -> None:
        with pytest.raises(PermanentError):
            await edge.publisher.publish_batch(b"x" * (MESSAGE_BYTES_MAX + 1))
        await edge.publisher.publish_batch(encode_batch([event(key="after")]))

        assert [one.idempotency_key for one in await edge.receive()] == ["after"]

    async def test_largest_batch_is_taken(self, edge: BrokerEdge) -> None:
        body = b"x" * (MESSAGE_BYTES_MAX - 1_000)

        await edge.publisher.publish_batch(encode_batch([event(body)]))

        assert [body] == [one.body for one in await edge.receive()]


class TestFake(Suite):
    """The fake in memory."""

    @pytest.fixture
    def edge(self) -> BrokerEdge:
        publisher = FakePublisher()

        async def receive() -> list[Envelope]:
            return publisher.events

        def fail(error: UnavailableError | OutcomeUnknownError | None) -> Callable[[], None]:
            return lambda: setattr(publisher, "fault", error)

        return BrokerEdge(
            publisher=publisher,
            receive=receive,
            take_away=fail(UnavailableError("away")),
            keep_silent=fail(OutcomeUnknownError("silent")),
            bring_back=fail(None),
        )


class TestRabbitMQ(Suite):
    """The real one, on a real broker, behind an edge that can be cut."""

    @pytest.fixture
    async def edge(self, servers: Servers) -> AsyncIterator[BrokerEdge]:
        await _empty_queue(servers)
        async with Proxy(servers.amqp_host, servers.amqp_port).listen() as proxy:
            settings = PublisherSettings(
                amqp_url=f"amqp://operator@127.0.0.1:{proxy.port}/",
                amqp_password=servers.amqp_password,
                publish_seconds_max=2,
                reconnect_seconds_max=0.2,
            )
            async with running(Publisher(settings, name="test")) as publisher:
                yield BrokerEdge(
                    publisher=publisher,
                    receive=lambda: _receive(servers),
                    take_away=proxy.cut,
                    keep_silent=proxy.hold,
                    bring_back=proxy.heal,
                )


async def _publish_when_noticed(edge: BrokerEdge, one: Envelope) -> None:
    """Publish; where the connection broke beneath the first attempt, the next one knows that the broker is away."""
    try:
        await edge.publisher.publish_batch(encode_batch([one]))
    except OutcomeUnknownError:
        await edge.publisher.publish_batch(encode_batch([one]))


async def _publish_until_taken(edge: BrokerEdge, one: Envelope) -> None:
    while True:
        try:
            return await edge.publisher.publish_batch(encode_batch([one]))
        except (UnavailableError, OutcomeUnknownError):
            await asyncio.sleep(0.1)


async def _empty_queue(servers: Servers) -> None:
    connection = await aio_pika.connect(servers.amqp_url)
    async with connection:
        await declare_ingest_queues(connection)
        async with connection.channel() as amqp_channel:
            await (await amqp_channel.get_queue(INGEST_QUEUE)).purge()


async def _receive(servers: Servers) -> list[Envelope]:
    found: list[Envelope] = []
    connection = await aio_pika.connect(servers.amqp_url)
    async with connection, connection.channel() as amqp_channel:
        queue = await amqp_channel.get_queue(INGEST_QUEUE)
        while (message := await queue.get(fail=False)) is not None:
            found += decode_batch(message.body)
            await message.ack()
    return found
