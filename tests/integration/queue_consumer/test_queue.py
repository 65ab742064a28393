"""queue-consumer on a real broker: what lands in a foreign queue comes out as batches for the processor."""

import asyncio
import struct
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aio_pika
import pytest
from aio_pika import Message
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from aiormq.abc import ChannelFrame, FrameType
from pamqp.body import ContentBody
from pamqp.commands import Basic, Queue
from pamqp.header import ContentHeader

from etlpay_client import QueueClient
from queue_consumer.service import serve
from queue_consumer.settings import Settings
from shared.contracts.errors import FatalError
from shared.contracts.event import Envelope
from shared.contracts.failure import failure_reason
from shared.messaging.topology import EVENTS_EXCHANGE, INGEST_QUEUE, PARKED_QUEUE, declare_ingest_queues
from shared.wire import decode_batch
from support.proxy import Proxy
from support.servers import Servers


class Bench:
    """A running queue-consumer behind an edge that can be cut, a foreign publisher, and the processor's end."""

    def __init__(self, servers: Servers, proxy: Proxy, amqp_channel: AbstractChannel, queue: str) -> None:
        self.servers = servers
        self.proxy = proxy
        self.amqp_channel = amqp_channel
        self.queue = queue
        self.stopping = asyncio.Event()

    async def publish(self, body: bytes, **headers: str) -> None:
        exchange = await self.amqp_channel.get_exchange(EVENTS_EXCHANGE, ensure=False)
        await exchange.publish(Message(body, headers=dict(headers), delivery_mode=2), routing_key=self.queue)

    async def receive(self, *keys: str, seconds: float = 20) -> list[Envelope]:
        """Return what came for the processor once every one of the keys was among it."""
        ingest = await self.amqp_channel.get_queue(INGEST_QUEUE)
        found: list[Envelope] = []
        async with asyncio.timeout(seconds):
            while not {*keys} <= {event.idempotency_key for event in found}:
                message = await ingest.get(fail=False)
                if message is None:
                    await asyncio.sleep(0.05)
                    continue
                found += decode_batch(message.body)
                await message.ack()
        return found

    async def left(self) -> int:
        return (await _declared(self, self.queue)).message_count or 0


@asynccontextmanager
async def run_bench(servers: Servers, **settings: object) -> AsyncIterator[Bench]:
    queue = f"foreign-{uuid.uuid4().hex[:8]}"
    connection = await aio_pika.connect(servers.amqp_url)
    async with connection, Proxy(servers.amqp_host, servers.amqp_port).listen() as proxy, asyncio.TaskGroup() as group:
        await declare_ingest_queues(connection)
        amqp_channel = await connection.channel()
        for name in (INGEST_QUEUE, PARKED_QUEUE):
            await (await amqp_channel.get_queue(name)).purge()
        bench = Bench(servers, proxy, amqp_channel, queue)
        values = {
            "amqp_url": f"amqp://operator@127.0.0.1:{proxy.port}/",
            "amqp_password": servers.amqp_password,
            "publish_seconds_max": 1,
            "reconnect_seconds_max": 0.2,
            "queue": queue,
            "queue_source": "queue-demo",
            "queue_interval_seconds": 0.2,
        }
        serving = group.create_task(serve(Settings.model_validate(values | settings), bench.stopping))
        await _until(lambda: _is_read(bench))
        yield bench
        bench.stopping.set()
        async with asyncio.timeout(20):
            await serving
        await amqp_channel.queue_delete(queue)


@pytest.fixture
async def bench(servers: Servers) -> AsyncIterator[Bench]:
    async with run_bench(servers) as running:
        yield running


async def test_plain_message_of_any_client_lands_byte_for_byte(bench: Bench) -> None:
    await bench.publish(b'{ "value" : 1.10 }')
    await bench.publish(b"{}", id="last")

    first, *_ = await bench.receive("last")

    assert first.body == b'{ "value" : 1.10 }'
    assert (first.source, first.content_type, first.origin) == (
        "queue-demo",
        "application/json",
        f"queue:{bench.queue}",
    )


async def test_small_client_of_ours_lands_events(bench: Bench) -> None:
    client = QueueClient(bench.servers.amqp_url)

    await client.publish(bench.queue, [{"value": 1}, {"value": 2}], source="shop", id="m")

    found = await bench.receive("item:m#0", "item:m#1")
    assert [(event.source, event.body) for event in found] == [("shop", b'{"value":1}'), ("shop", b'{"value":2}')]
    assert {event.sender for event in found} == {"operator"}


async def test_nothing_is_lost_while_the_broker_is_cut_off_again_and_again(bench: Bench) -> None:
    keys = [f"event-{number}" for number in range(600)]

    async def cut() -> None:
        for _ in range(3):
            await asyncio.sleep(0.2)
            bench.proxy.cut()
            await asyncio.sleep(0.3)
            bench.proxy.heal()

    async with asyncio.TaskGroup() as group:
        group.create_task(cut())
        for key in keys:
            await bench.publish(b"{}", id=key)
            await asyncio.sleep(0.001)
    found = await bench.receive(*keys)

    assert {*keys} == {event.idempotency_key for event in found}
    await _until(lambda: _is_empty(bench))


async def test_message_is_not_acked_before_the_processor_has_it(bench: Bench) -> None:
    await bench.publish(b"{}", id="before")
    await bench.receive("before")
    bench.proxy.hold()
    await bench.publish(b"{}", id="frozen")
    await asyncio.sleep(2.5)
    bench.proxy.cut()
    await asyncio.sleep(0.5)
    waiting = await bench.left()
    bench.proxy.heal()

    await bench.receive("frozen")

    assert waiting == 1


async def test_queue_that_somebody_deletes_is_declared_again(bench: Bench) -> None:
    await bench.publish(b"{}", id="before")
    await bench.receive("before")

    await bench.amqp_channel.queue_delete(bench.queue)
    await _until(lambda: _is_read(bench))
    await bench.publish(b"{}", id="after")

    await bench.receive("after")


async def test_ingest_queue_that_somebody_deletes_is_declared_again(bench: Bench) -> None:
    await bench.publish(b"{}", id="before")
    await bench.receive("before")

    await bench.amqp_channel.queue_delete(INGEST_QUEUE)
    await bench.publish(b"{}", id="after")
    await _until(lambda: _holds_message(bench, INGEST_QUEUE))

    await bench.receive("after")


async def test_message_whose_properties_cannot_be_read_lands_and_stops_nobody(bench: Bench) -> None:
    """A name of a header that is not UTF-8: RabbitMQ takes it, the client library cannot read it."""
    table = b"\x03k\xff\xfeS" + struct.pack(">I", 1) + b"v"
    properties = struct.pack(">H", 0x2000) + struct.pack(">I", len(table)) + table
    body = b'{"unreadable": true}'

    class RawHeader(ContentHeader):
        def marshal(self) -> bytes:
            return struct.pack(">HxxQ", 60, len(body)) + properties

    await _publish_raw(bench, RawHeader(), body)
    await bench.publish(b"{}", id="behind")

    [event] = [event for event in await bench.receive("behind") if event.body == body]
    assert "properties" in (failure_reason(event.content_type) or "")


async def test_message_that_no_batch_can_hold_is_parked_whole(bench: Bench) -> None:
    body = b'{"a": "' + b"x" * (16 * 1024 * 1024 - 9) + b'"}'

    await bench.publish(body)

    parked = await bench.amqp_channel.get_queue(PARKED_QUEUE)
    await _until(lambda: _holds_message(bench, PARKED_QUEUE))
    message = await parked.get()
    await message.ack()
    assert message.body == body
    assert message.headers["etlpay-queue"] == bench.queue


BOUND = """
[[producers]]
name = "shop"
user = "operator"
sources = ["shop*"]
created = 2026-11-27T00:00:00Z
"""


async def test_on_a_bound_queue_only_what_a_producer_may_name_is_stored(servers: Servers, tmp_path: Path) -> None:
    path = tmp_path / "producers.toml"
    path.write_text(BOUND, encoding="utf-8")
    async with run_bench(servers, producers_file=str(path)) as bench:
        exchange = await bench.amqp_channel.get_exchange(EVENTS_EXCHANGE, ensure=False)
        stranger = Message(
            b"{}", headers={"ce-source": "shop", "ce-id": "1", "CC": [INGEST_QUEUE]}, content_type="a/b", app_id="app"
        )
        await exchange.publish(stranger, routing_key=bench.queue)
        for source in ("bank", "shop-eu"):
            message = Message(b"{}", headers={"ce-source": source, "ce-id": "2"}, user_id="operator")
            await exchange.publish(message, routing_key=bench.queue)

        [event] = await bench.receive("2")
        await _until(lambda: _is_empty(bench))
        parked = [await _take(bench, PARKED_QUEUE) for _ in range(2)]

    assert (event.source, event.sender) == ("shop-eu", "operator")
    [kept] = [message for message in parked if "user_id" in str(message.headers["etlpay-reason"])]
    assert kept.headers["etlpay-headers"] == {"ce-source": "shop", "ce-id": "1", "CC": [INGEST_QUEUE]}
    said = kept.headers["etlpay-properties"]
    assert isinstance(said, dict)
    assert (said["content_type"], said["app_id"]) == ("a/b", "app")
    assert said["message_id"] not in {None, kept.message_id}


async def test_a_change_of_the_producers_counts_without_a_restart(servers: Servers, tmp_path: Path) -> None:
    path = tmp_path / "producers.toml"
    path.write_text(BOUND.replace('"operator"', '"nobody"'), encoding="utf-8")
    async with run_bench(servers, producers_file=str(path)) as bench:
        path.write_text(BOUND, encoding="utf-8")
        client = QueueClient(bench.servers.amqp_url)
        async with asyncio.timeout(20):
            number, found = 0, list[Envelope]()
            while not found:
                number += 1
                await client.publish(bench.queue, {}, source="shop", id=str(number))
                await asyncio.sleep(0.2)
                ingest = await bench.amqp_channel.get_queue(INGEST_QUEUE)
                if (message := await ingest.get(fail=False)) is not None:
                    found = decode_batch(message.body)
                    await message.ack()

    assert {event.source for event in found} == {"shop"}


async def test_a_service_without_its_file_of_producers_does_not_start(servers: Servers, tmp_path: Path) -> None:
    settings = Settings(amqp_url=servers.amqp_url, producers_file=str(tmp_path / "none.toml"))

    with pytest.raises(FatalError, match="file of producers"):
        await serve(settings, asyncio.Event())


async def test_no_more_messages_are_taken_than_allowed(servers: Servers) -> None:
    async with run_bench(servers, queue_messages_max=10) as bench:
        await bench.publish(b"{}", id="before")
        await bench.receive("before")
        bench.proxy.hold()
        for number in range(50):
            await bench.publish(b"{}", id=str(number))
        await asyncio.sleep(1)
        ready = await bench.left()
        bench.proxy.heal()
        await bench.receive(*map(str, range(50)))

    assert ready == 40


async def test_stopping_settles_what_is_in_hand(servers: Servers) -> None:
    async with run_bench(servers) as bench:
        for number in range(200):
            await bench.publish(b"{}", id=str(number))
        bench.stopping.set()
        await _until(lambda: _is_unread(bench))
        found = {event.idempotency_key for event in await bench.receive()}
        ingest = await bench.amqp_channel.get_queue(INGEST_QUEUE)
        while (message := await ingest.get(fail=False)) is not None:
            found |= {event.idempotency_key for event in decode_batch(message.body)}
            await message.ack()
        left = await bench.left()

    assert len(found) + left == 200


async def _until(holds: Callable[[], Awaitable[bool]], *, seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not await holds():  # noqa: ASYNC110 - only asking tells
            await asyncio.sleep(0.1)


async def _exists(bench: Bench, queue: str) -> bool:
    try:
        await _declared(bench, queue)
    except aio_pika.exceptions.ChannelNotFoundEntity:
        return False
    return True


async def _is_read(bench: Bench) -> bool:
    return await _exists(bench, bench.queue) and bool((await _declared(bench, bench.queue)).consumer_count)


async def _is_unread(bench: Bench) -> bool:
    return not await _is_read(bench)


async def _is_empty(bench: Bench) -> bool:
    return not await bench.left()


async def _take(bench: Bench, queue: str) -> AbstractIncomingMessage:
    """Return the next message of a queue, acked."""
    await _until(lambda: _holds_message(bench, queue))
    message = await (await bench.amqp_channel.get_queue(queue)).get()
    await message.ack()
    return message


async def _holds_message(bench: Bench, queue: str) -> bool:
    """A quorum queue is known before its process is up: until then getting from it ends the connection with noproc."""
    return await _exists(bench, queue) and bool((await _declared(bench, queue)).message_count)


async def _declared(bench: Bench, queue: str) -> Queue.DeclareOk:
    async with await aio_pika.connect(bench.servers.amqp_url) as connection, connection.channel() as amqp_channel:
        return (await amqp_channel.declare_queue(queue, passive=True)).declaration_result


async def _publish_raw(bench: Bench, header: ContentHeader, body: bytes) -> None:
    """Publish with a header of our own making, which no client library would write."""
    async with await aio_pika.connect(bench.servers.amqp_url) as connection:
        amqp_channel = await connection.channel(publisher_confirms=False)
        underlay = await amqp_channel.get_underlay_channel()
        frames: list[FrameType] = [Basic.Publish(exchange="", routing_key=bench.queue), header, ContentBody(body)]
        payload = ChannelFrame.marshall(channel_number=underlay.number, frames=frames)
        await underlay.connection.write_queue.put(payload)
        await amqp_channel.declare_queue(bench.queue, passive=True)
