"""The whole processor on real servers, through both of its inputs."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import aio_pika
import asyncpg
import pytest

from processor.service import serve
from processor.settings import ProcessorSettings
from shared.contracts.errors import RetryableError
from shared.contracts.event import Envelope
from shared.contracts.result import ResultKind
from shared.messaging.publisher import Publisher
from shared.messaging.session import open_session
from shared.messaging.topology import INGEST_QUEUE, PARKED_QUEUE, SLOW_QUEUE, declare_ingest_queues
from shared.runtime.service import running
from shared.settings import PublisherSettings, SubmissionSettings
from shared.submit.processing import GrpcProcessing
from shared.wire import encode_batch
from support.events import event
from support.raising import Raising
from support.servers import Servers, free_port


@asynccontextmanager
async def serving(settings: ProcessorSettings) -> AsyncIterator[GrpcProcessing]:
    """Run the processor until the block ends, then drain it; yield a client of its gRPC service."""
    settings = settings.model_copy(update={"processing_port": free_port()})
    stopping = asyncio.Event()
    client = GrpcProcessing(SubmissionSettings(processor_target=f"127.0.0.1:{settings.processing_port}"))
    async with asyncio.TaskGroup() as group:
        served = group.create_task(serve(settings, stopping))
        await until(lambda: _connected(client))
        yield client
        stopping.set()
        await served
    await client.close()


async def _connected(client: GrpcProcessing) -> bool:
    return client.connected


async def until(condition: Callable[[], Awaitable[bool]], *, seconds_max: float = 20) -> None:
    """Return when the condition holds; fail after `seconds_max`."""
    async with asyncio.timeout(seconds_max):
        while not await condition():  # noqa: ASYNC110 - the condition is on another machine
            await asyncio.sleep(0.05)


@pytest.fixture
async def broker(ledger: Servers) -> AsyncIterator[aio_pika.abc.AbstractChannel]:
    """A channel with the broker, whose ingest queues are empty."""
    async with await aio_pika.connect(ledger.amqp_url) as connection:
        amqp_channel = await connection.channel(on_return_raises=True)
        for queue in (INGEST_QUEUE, SLOW_QUEUE, PARKED_QUEUE):
            await amqp_channel.queue_delete(queue)
        yield amqp_channel


def publishing(settings: ProcessorSettings) -> AbstractAsyncContextManager[Publisher]:
    return running(Publisher(PublisherSettings.model_validate(settings.model_dump()), name="test"))


async def stored(owner: asyncpg.Connection) -> int:
    count = await owner.fetchval(
        "SELECT count(*) FROM processed_records JOIN raw_events ON raw_event_id = raw_events.id"
    )
    return int(count)


@pytest.mark.usefixtures("broker")
async def test_an_event_over_grpc_is_stored_before_the_answer(
    processor_settings: ProcessorSettings, owner: asyncpg.Connection
) -> None:
    async with serving(processor_settings) as processing:
        outcomes = await processing.process([event(key="a"), event(key="a"), event()])

        assert await stored(owner) == 2

    assert [outcome.kind for outcome in outcomes] == [
        ResultKind.STORED,
        ResultKind.DUPLICATE,
        ResultKind.STORED,
    ]


@pytest.mark.usefixtures("broker")
async def test_a_batch_over_the_queue_is_stored_once_however_often_it_is_delivered(
    processor_settings: ProcessorSettings, owner: asyncpg.Connection
) -> None:
    batch = encode_batch([event(key=str(number)) for number in range(50)])

    async with serving(processor_settings), publishing(processor_settings) as publisher:
        await asyncio.gather(*(publisher.publish_batch(batch) for _ in range(5)))
        await until(lambda: _is(stored, owner, 50))

    assert await stored(owner) == 50


async def test_a_message_that_is_no_batch_is_parked_with_its_bytes_and_the_others_are_stored(
    processor_settings: ProcessorSettings, owner: asyncpg.Connection, broker: aio_pika.abc.AbstractChannel
) -> None:
    async with serving(processor_settings), publishing(processor_settings) as publisher:
        await publisher.publish_batch(b"\xff\xffno batch")
        await publisher.publish_batch(encode_batch([event(key="other")]))
        await until(lambda: _is(stored, owner, 1))
        parked = await broker.declare_queue(PARKED_QUEUE, passive=True)
        await until(lambda: _holds(parked, 1))
        message = await parked.get()

    assert message.body == b"\xff\xffno batch"


@pytest.mark.usefixtures("broker")
async def test_an_outage_of_the_database_pauses_the_intake_and_loses_nothing(
    processor_settings: ProcessorSettings, owner: asyncpg.Connection
) -> None:
    async with serving(processor_settings), publishing(processor_settings) as publisher:
        await owner.execute("ALTER ROLE etlpay_processor CONNECTION LIMIT 0")
        await owner.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'etlpay_processor'")
        await asyncio.gather(*(publisher.publish_batch(_batch(number)) for number in range(20)))
        await asyncio.sleep(1)
        assert await stored(owner) == 0

        await owner.execute("ALTER ROLE etlpay_processor CONNECTION LIMIT -1")
        await until(lambda: _is(stored, owner, 200))

    assert await stored(owner) == 200


async def test_a_processor_that_lost_a_grant_takes_nothing_until_it_has_it_again(
    processor_settings: ProcessorSettings, owner: asyncpg.Connection, broker: aio_pika.abc.AbstractChannel
) -> None:
    """Else it would take deliveries and end, again and again, until they had been delivered too often."""
    await declare_queues_of(processor_settings)
    await owner.execute("REVOKE INSERT ON raw_events FROM etlpay_processor")
    stopping = asyncio.Event()
    async with asyncio.TaskGroup() as group, publishing(processor_settings) as publisher:
        served = group.create_task(serve(processor_settings, stopping))
        await publisher.publish_batch(encode_batch([event(key="a")]))
        await asyncio.sleep(2)
        waiting = (await broker.declare_queue(INGEST_QUEUE, passive=True)).declaration_result
        await owner.execute("GRANT INSERT ON raw_events TO etlpay_processor")
        await until(lambda: _is(stored, owner, 1))
        stopping.set()
        await served

    assert (waiting.message_count, waiting.consumer_count) == (1, 0)


async def test_a_processor_whose_schema_changes_takes_and_writes_nothing_until_it_fits_again(
    processor_settings: ProcessorSettings,
    owner: asyncpg.Connection,
    broker: aio_pika.abc.AbstractChannel,
    raising: Raising,
) -> None:
    """A later version has migrated: what this one has in hand goes back, for the later one to take."""
    revision = await owner.fetchval("SELECT version_num FROM alembic_version")
    await raising.tell("40001")
    try:
        async with serving(processor_settings) as processing, publishing(processor_settings) as publisher:
            await asyncio.gather(*(publisher.publish_batch(_batch(number)) for number in range(5)))
            queue = await broker.declare_queue(INGEST_QUEUE, passive=True)
            await until(lambda: _holds(queue, 0))

            await owner.execute("UPDATE alembic_version SET version_num = 'later'")
            await until(lambda: _is_left(queue, messages=5))
            await raising.calm()
            await publisher.publish_batch(_batch(5))
            with pytest.raises(RetryableError):
                await processing.process([event(key="waiting")])
            assert await stored(owner) == 0
            assert await _holds_at_least(queue, 6)

            await owner.execute("UPDATE alembic_version SET version_num = $1", revision)
            await until(lambda: _is(stored, owner, 60))
            [outcome] = await processing.process([event(key="waiting")])
            assert outcome.kind is ResultKind.STORED
    finally:
        await owner.execute("UPDATE alembic_version SET version_num = $1", revision)


async def test_an_event_that_a_rule_refuses_is_held_in_the_slow_queue_and_everything_else_is_stored(
    processor_settings: ProcessorSettings,
    owner: asyncpg.Connection,
    broker: aio_pika.abc.AbstractChannel,
    raising: Raising,
) -> None:
    """A DBA's trigger once ended the processor, again and again, until healthy messages were parked."""
    poison = event(b'{"poison": 1}', key="poison")
    await raising.tell("P0001", only_body=poison.body)
    async with serving(processor_settings), publishing(processor_settings) as publisher:
        await publisher.publish_batch(encode_batch([event(key="beside 1"), poison, event(key="beside 2")]))
        await asyncio.gather(*(publisher.publish_batch(_batch(number)) for number in range(5)))
        await until(lambda: _is(stored, owner, 52))
        parked = await broker.declare_queue(PARKED_QUEUE, passive=True)
        assert await _holds(parked, 0)

        await raising.calm()
        await until(lambda: _is(stored, owner, 53))

    assert await owner.fetchval("SELECT count(*) FROM processed_records WHERE status = 2") == 0


async def test_a_ledger_that_refuses_everything_costs_a_message_no_delivery(
    processor_settings: ProcessorSettings,
    owner: asyncpg.Connection,
    broker: aio_pika.abc.AbstractChannel,
    raising: Raising,
) -> None:
    """Such as one that its owner has frozen by a trigger: all that is in hand is held."""
    await raising.tell("P0001")
    async with serving(processor_settings), publishing(processor_settings) as publisher:
        await asyncio.gather(*(publisher.publish_batch(_batch(number)) for number in range(5)))
        await asyncio.sleep(2)
        assert await stored(owner) == 0
        for queue in (SLOW_QUEUE, PARKED_QUEUE):
            assert await _holds(await broker.declare_queue(queue, passive=True), 0)

        await raising.calm()
        await until(lambda: _is(stored, owner, 50))


async def test_a_drain_gives_back_what_cannot_be_written(
    processor_settings: ProcessorSettings,
    owner: asyncpg.Connection,
    broker: aio_pika.abc.AbstractChannel,
    raising: Raising,
) -> None:
    """Else it would go on trying until its time is up, and be ended."""
    await raising.tell("53100")
    async with publishing(processor_settings) as publisher:
        async with serving(processor_settings):
            await asyncio.gather(*(publisher.publish_batch(_batch(number)) for number in range(5)))
            queue = await broker.declare_queue(INGEST_QUEUE, passive=True)
            await until(lambda: _holds(queue, 0))

        await until(lambda: _holds_at_least(queue, 5))

    assert await stored(owner) == 0


async def declare_queues_of(settings: ProcessorSettings) -> None:
    async with open_session(settings, "test") as session:
        await declare_ingest_queues(session.connection)


async def test_a_drain_finishes_what_was_taken(
    processor_settings: ProcessorSettings, owner: asyncpg.Connection, broker: aio_pika.abc.AbstractChannel
) -> None:
    async with publishing(processor_settings) as publisher:
        await asyncio.gather(*(publisher.publish_batch(_batch(number)) for number in range(100)))

        async with serving(processor_settings):
            pass

    # Whatever was not stored comes back to the queue, whole, beside the canary, perhaps.
    whole, broken = divmod(await stored(owner), 10)
    assert not broken
    queue = await broker.declare_queue(INGEST_QUEUE, passive=True)
    await until(lambda: _holds_at_least(queue, 100 - whole))
    async with serving(processor_settings):
        await until(lambda: _is(stored, owner, 1000))
        await until(lambda: _holds(queue, 0))


def _batch(number: int) -> bytes:
    events: list[Envelope] = [event(key=f"{number}-{position}") for position in range(10)]
    return encode_batch(events)


async def _is(ask: Callable[[asyncpg.Connection], Awaitable[int]], owner: asyncpg.Connection, expected: int) -> bool:
    return await ask(owner) == expected


async def _holds(queue: aio_pika.abc.AbstractQueue, messages: int) -> bool:
    found = await queue.declare()
    return (found.message_count or 0) == messages


async def _is_left(queue: aio_pika.abc.AbstractQueue, *, messages: int) -> bool:
    found = await queue.declare()
    return (found.message_count or 0) >= messages and not found.consumer_count


async def _holds_at_least(queue: aio_pika.abc.AbstractQueue, messages: int) -> bool:
    found = await queue.declare()
    return (found.message_count or 0) >= messages
