"""What a consumer finds out before anybody relies on it: queues of another kind, and queues that swallow."""

import asyncio
from collections.abc import AsyncIterator, Callable

import aio_pika
import pytest
import structlog
from aio_pika.abc import AbstractConnection
from pamqp.common import FieldTable

from etlpay_cli.provision import INGEST_VHOST
from shared.messaging import canary
from shared.messaging.consumer import Consumer, Delivery
from shared.messaging.topology import INGEST_QUEUE, declare_ingest_queues
from shared.runtime.readiness import Readiness
from shared.runtime.service import running
from shared.settings import AmqpSettings
from support.servers import Servers

QUEUE = "canary-test"


@pytest.fixture
def settings(servers: Servers) -> AmqpSettings:
    return AmqpSettings(
        amqp_url=f"amqp://operator@{servers.amqp_host}:{servers.amqp_port}/{INGEST_VHOST}",
        amqp_password=servers.broker_password("operator"),
    )


@pytest.fixture
async def operator(servers: Servers) -> AsyncIterator[AbstractConnection]:
    """A connection that may do everything in our virtual host."""
    async with await aio_pika.connect(servers.broker_url("operator", INGEST_VHOST)) as connection:
        yield connection


async def declare_alone(connection: AbstractConnection) -> None:
    """Declare a queue of which one consumer gets everything: to the other it is a queue that swallows."""
    arguments: FieldTable = {"x-queue-type": "quorum", "x-single-active-consumer": True}
    async with connection.channel() as amqp_channel:
        await amqp_channel.declare_queue(QUEUE, durable=True, arguments=arguments)


class Watched:
    """A consumer at work, and what it was given."""

    def __init__(self, settings: AmqpSettings, *, with_canary: bool = True) -> None:
        self.readiness = Readiness(f"queue {QUEUE}")
        self.given: list[bytes] = []
        self.consumer = Consumer(
            settings,
            name="test",
            queue=QUEUE,
            prefetch_count=10,
            bytes_max=1_000_000,
            declare=declare_alone,
            settle=self._settle,
            readiness=self.readiness,
            canary=with_canary,
        )

    async def _settle(self, delivery: Delivery) -> None:
        self.given.append(delivery.body)
        await delivery.ack()

    def is_ready(self) -> bool:
        return self.readiness.ready


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not true():  # noqa: ASYNC110 - there is nothing that tells
            await asyncio.sleep(0.02)


@pytest.fixture
async def queue(operator: AbstractConnection) -> AsyncIterator[None]:
    """An empty queue, gone afterwards."""
    await declare_alone(operator)
    yield
    async with operator.channel() as amqp_channel:
        await amqp_channel.queue_delete(QUEUE)


@pytest.mark.usefixtures("queue")
async def test_a_canary_comes_through_and_is_no_event(settings: AmqpSettings, operator: AbstractConnection) -> None:
    watched = Watched(settings)
    async with running(watched.consumer):
        with structlog.testing.capture_logs() as lines:
            await until(watched.is_ready)
            async with operator.channel() as amqp_channel:
                await amqp_channel.default_exchange.publish(aio_pika.Message(b"an event"), QUEUE)
            await until(lambda: bool(watched.given))
            await asyncio.sleep(1)

    assert watched.given == [b"an event"]
    assert lines == []
    async with operator.channel() as amqp_channel:
        left = await amqp_channel.declare_queue(QUEUE, passive=True)
        assert left.declaration_result.message_count == 0


@pytest.mark.usefixtures("queue")
async def test_a_queue_that_confirms_and_never_delivers_is_not_ready_until_it_does(
    settings: AmqpSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(canary, "_MISSING_MAX", 3)
    thief, watched = Watched(settings, with_canary=False), Watched(settings)
    async with running(thief.consumer):
        await until(thief.is_ready)
        async with running(watched.consumer):
            await until(watched.is_ready)
            with structlog.testing.capture_logs() as lines:
                await until(lambda: not watched.is_ready())
            thief.consumer.close()
            await until(watched.is_ready)

    assert [(line["log_level"], line["queue"]) for line in lines] == [("error", QUEUE)]
    assert len(thief.given) >= 3
    assert watched.given == []


async def test_a_queue_of_another_kind_is_named_and_not_read(
    settings: AmqpSettings, operator: AbstractConnection
) -> None:
    await declare_ingest_queues(operator)
    async with operator.channel() as amqp_channel:
        await amqp_channel.queue_delete(INGEST_QUEUE)
        await amqp_channel.declare_queue(INGEST_QUEUE, durable=True, arguments={"x-queue-type": "classic"})
    readiness = Readiness(f"queue {INGEST_QUEUE}")
    consumer = Consumer(
        settings,
        name="test",
        queue=INGEST_QUEUE,
        prefetch_count=1,
        bytes_max=1_000_000,
        declare=declare_ingest_queues,
        settle=lambda delivery: delivery.ack(),
        readiness=readiness,
    )
    try:
        with structlog.testing.capture_logs() as lines:
            async with running(consumer):
                await until(lambda: any(line.get("queue") == INGEST_QUEUE for line in lines))
    finally:
        async with operator.channel() as amqp_channel:
            await amqp_channel.queue_delete(INGEST_QUEUE)
        await declare_ingest_queues(operator)

    assert not readiness.ready
    assert {line["log_level"] for line in lines if line.get("queue") == INGEST_QUEUE} == {"error"}
