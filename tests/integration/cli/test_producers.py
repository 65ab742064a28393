"""A producer of the local stack: it comes, is bound, outlasts the broker's restart, and goes with its connections."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import aio_pika
import msgspec
import pytest
from aio_pika.abc import ExchangeType
from aiormq.exceptions import AMQPError

from etlpay_cli.layout import Layout
from etlpay_cli.local import rabbitmq
from etlpay_cli.provision import DEFINITIONS_PLACE, PRODUCERS_PLACE
from etlpay_cli.state import read_state
from etlpay_client import QueueClient
from shared.auth.producers import PRODUCERS_FILE
from shared.messaging.topology import EVENTS_EXCHANGE, PUBLIC_QUEUE
from support.servers import run_etlpay, stack_environment


class Stack:
    """The servers of a local stack of the tests' own."""

    def __init__(self, folder: Path) -> None:
        self.layout = Layout(folder)
        self.environment = stack_environment(folder)

    def etlpay(self, *arguments: str) -> str:
        return run_etlpay(*arguments, environment=self.environment).stdout.strip()

    def rabbitmqctl(self, *arguments: str) -> str:
        known = read_state(self.layout.state)
        assert known is not None
        return rabbitmq.control(self.layout, known.ports, *arguments).stdout

    def url(self, user: str) -> str:
        known = read_state(self.layout.state)
        assert known is not None
        place = "operator/producer_password" if user == "producer" else "operator/amqp_password"
        return f"amqp://{user}:{self.layout.read_secret(place)}@127.0.0.1:{known.ports['amqp']}/"

    async def declare(self) -> None:
        """Declare what queue-consumer does."""
        async with await aio_pika.connect(self.url("operator")) as connection:
            amqp_channel = await connection.channel()
            exchange = await amqp_channel.declare_exchange(EVENTS_EXCHANGE, ExchangeType.TOPIC, durable=True)
            queue = await amqp_channel.declare_queue(PUBLIC_QUEUE, durable=True, arguments={"x-queue-type": "quorum"})
            await queue.bind(exchange, routing_key=PUBLIC_QUEUE)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    running = Stack(tmp_path_factory.mktemp("stack"))
    running.etlpay("up", "--servers")
    yield running
    running.etlpay("down")


async def test_a_producer_publishes_under_its_own_user_alone(stack: Stack) -> None:
    await stack.declare()

    address = await asyncio.to_thread(stack.etlpay, "producers", "create", "--name", "shop", "--source", "shop*")

    await QueueClient(address).publish(PUBLIC_QUEUE, {"value": 1}, source="shop", id="1")
    async with await aio_pika.connect(stack.url("operator")) as connection:
        message = await (await (await connection.channel()).get_queue(PUBLIC_QUEUE)).get()
        await message.ack()
    assert message.user_id == "producer-shop"
    bound = PRODUCERS_FILE.read(stack.layout.secret(PRODUCERS_PLACE))
    assert [(each.user, each.sources) for each in bound][-1] == ("producer-shop", ("shop*",))
    assert "producer-shop\t^$\t^etlpay\\.events$\t^$" in stack.rabbitmqctl("list_permissions", "-p", "/")


async def test_its_files_are_nobody_elses_to_read(stack: Stack) -> None:
    for place in (PRODUCERS_PLACE, DEFINITIONS_PLACE):
        assert stack.layout.secret(place).stat().st_mode & 0o077 == 0


async def test_a_producer_that_is_revoked_is_cut_off(stack: Stack) -> None:
    address = await asyncio.to_thread(stack.etlpay, "producers", "create", "--name", "bank", "--source", "bank")
    connection = await aio_pika.connect(address)
    closed = asyncio.Event()
    connection.close_callbacks.add(lambda *_: closed.set())

    await asyncio.to_thread(stack.etlpay, "producers", "revoke", "--name", "bank")

    async with asyncio.timeout(20):
        await closed.wait()
    with pytest.raises(AMQPError):
        await aio_pika.connect(address)


async def test_a_start_keeps_producers_and_replaces_what_an_older_version_allowed(stack: Stack) -> None:
    """The broker keeps its users; what it loads at its start is what counts."""
    address = await asyncio.to_thread(stack.etlpay, "producers", "create", "--name", "kept", "--source", "kept")
    stack.rabbitmqctl("set_permissions", "-p", "/", "producer", "^etl-queue$", ".*", "^etl-queue$")
    path = stack.layout.secret(DEFINITIONS_PLACE)
    old = msgspec.json.decode(path.read_bytes())
    for permission in old["permissions"]:
        if permission["user"] == "producer":
            permission |= {"configure": "^etl-queue$", "write": ".*", "read": "^etl-queue$"}
    path.write_bytes(msgspec.json.encode(old))

    await asyncio.to_thread(stack.etlpay, "down")
    await asyncio.to_thread(stack.etlpay, "up", "--servers")

    assert "producer\t^$\t^etlpay\\.events$\t^$" in stack.rabbitmqctl("list_permissions", "-p", "/")
    await QueueClient(address).publish(PUBLIC_QUEUE, {}, source="kept", id="1")


def test_a_consumer_that_is_started_by_hand_is_bound_too(stack: Stack) -> None:
    written = stack.layout.stack_env.read_text(encoding="utf-8")

    assert f"ETLPAY_PRODUCERS_FILE={stack.layout.secret(PRODUCERS_PLACE)}" in written
