"""RabbitMQ and PostgreSQL die, freeze, refuse, and come back."""

import asyncio
import contextlib
import os
import signal
from functools import partial
from pathlib import Path
from typing import Final

import aio_pika
import asyncpg

from etlpay_cli.provision import INGEST_VHOST
from faults.harness.case import ALL_CHANNELS, Case, Context, Inflict
from faults.harness.journal import Attempt
from faults.harness.producers import QueueProducer
from faults.harness.world import HOST, World
from shared.contracts.roles import READER_ROLE
from shared.messaging.topology import INGEST_QUEUE
from support.waiting import until_true

# The promise: so soon after a server that died is back, everything is.
DRAIN_SECONDS_MAX: Final = 30.0


def _died(name: str, inflict: Inflict, *, smoke: bool = False) -> Case:
    return Case(name, inflict, smoke=smoke, drain_seconds_max=DRAIN_SECONDS_MAX)


def _frozen(server: str, seconds: float) -> Case:
    async def inflict(context: Context) -> bool:
        return await context.child(server).freeze(seconds)

    return Case(f"{server} frozen for {seconds:.0f} s", inflict)


async def _kill_broker(context: Context) -> bool:
    broker = context.child("rabbitmq")
    await context.moment()
    died = await broker.kill(away_seconds=context.random.uniform(0, 3))
    await broker.wait_ready()
    return died


async def _restart_broker(context: Context) -> bool:
    broker = context.child("rabbitmq")
    await context.moment()
    ended = await broker.end(broker.program.stop_signal)
    await broker.wait_ready()
    return ended


async def _kill_database(context: Context) -> bool:
    """PostgreSQL's immediate stop: no checkpoint, no end of sessions; at its start it recovers from the log."""
    ended = True
    for _ in range(2):
        await context.moment()
        ended = await context.child("postgres").end(signal.SIGQUIT) and ended
        await context.child("postgres").wait_ready()
        await asyncio.sleep(1)
    return ended


async def _database_away(context: Context) -> bool:
    """Long enough for every attempt to be made again, and for what is taken meanwhile to pile up in the broker."""
    database = context.child("postgres")
    await context.moment()
    ended = await asyncio.gather(database.end(signal.SIGQUIT), database.kill(away_seconds=12))
    await database.wait_ready()
    return all(ended)


async def _both_die(context: Context) -> bool:
    await context.moment()
    broker, database = context.child("rabbitmq"), context.child("postgres")
    ended = await asyncio.gather(broker.kill(away_seconds=1), database.end(signal.SIGQUIT))
    await database.wait_ready()
    await broker.wait_ready()
    return all(ended)


async def _terminate_backends(context: Context) -> bool:
    terminated = 0
    async with context.world.owner() as owner:
        for _ in range(25):
            terminated += await owner.fetchval(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
                " AND usename IN ('etlpay_processor', 'etlpay_reader')"
            )
            await asyncio.sleep(0.3)
    return terminated > 0


async def _lock_table(context: Context) -> bool:
    async with context.world.owner() as owner, owner.transaction():
        await owner.execute("LOCK TABLE raw_events IN ACCESS EXCLUSIVE MODE")
        await asyncio.sleep(30)
        waiting = await owner.fetchval("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
    return bool(waiting)


async def _disk_full(context: Context) -> bool:
    """The raw events are in a file system of their own (`_raw_events_elsewhere`), and that is full for some seconds."""
    ballast = _elsewhere(context.world) / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(1024 * 1024))
    async with context.world.owner() as owner:
        full = await until_true(lambda: _is_disk_full(owner), 20)
    await asyncio.sleep(6)
    ballast.unlink()
    return full


async def _is_disk_full(owner: asyncpg.Connection) -> bool:
    try:
        await owner.execute("CREATE TABLE faults_disk TABLESPACE faults AS SELECT generate_series(1, 100000)")
    except asyncpg.DiskFullError:
        return True
    await owner.execute("DROP TABLE faults_disk")
    return False


def _elsewhere(world: World) -> Path:
    return world.layout.state_folder / "elsewhere"


async def _raw_events_elsewhere(world: World) -> None:
    """Move the raw events to a file system of 64 MB more than they take."""
    folder = _elsewhere(world)
    folder.mkdir()
    async with world.owner() as owner:
        size = await owner.fetchval("SELECT pg_total_relation_size('raw_events')") + 64 * 1024**2
        await _run("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder))
        (folder / "tablespace").mkdir()
        database = world.layout.postgres.stat()
        os.chown(folder / "tablespace", database.st_uid, database.st_gid)
        await owner.execute(f"CREATE TABLESPACE faults LOCATION '{folder / 'tablespace'}'")
        await owner.execute("ALTER TABLE raw_events SET TABLESPACE faults")


async def _raw_events_back(world: World) -> None:
    async with world.owner() as owner:
        await owner.execute("ALTER TABLE raw_events SET TABLESPACE pg_default")
        await owner.execute("DROP TABLESPACE faults")
    await _run("umount", "--lazy", str(_elsewhere(world)))
    _elsewhere(world).rmdir()


async def _run(*command: str) -> None:
    process = await asyncio.create_subprocess_exec(*command)
    if await process.wait():
        raise RuntimeError(f"{command[0]} failed")


async def _read_only(context: Context) -> bool:
    async with context.world.owner() as owner:
        await owner.execute("SET default_transaction_read_only = off")
        try:
            await owner.execute("ALTER ROLE etlpay_processor SET default_transaction_read_only = on")
            await _end_sessions(owner)
            await asyncio.sleep(6)
            count = await owner.fetchval("SELECT count(*) FROM raw_events")
            await asyncio.sleep(1)
            return bool(count == await owner.fetchval("SELECT count(*) FROM raw_events"))
        finally:
            await owner.execute("ALTER ROLE etlpay_processor RESET default_transaction_read_only")
            await _end_sessions(owner)


async def _end_sessions(owner: asyncpg.Connection) -> None:
    await owner.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'etlpay_processor'")


async def _exhaust_connections(context: Context) -> bool:
    world = context.world
    url = f"postgresql://{READER_ROLE}@{HOST}:{world.ports['postgres']}/etlpay"
    password = world.layout.read_secret("operator/reader_password")
    refused = False
    async with contextlib.AsyncExitStack() as taken, world.owner() as owner:
        for _ in range(2):
            for _ in range(110):
                try:
                    connection = await asyncpg.connect(url, password=password)
                except asyncpg.TooManyConnectionsError:
                    refused = True
                    break
                taken.push_async_callback(connection.close, timeout=5)
            # Now the processor must open new ones.
            await _end_sessions(owner)
        await asyncio.sleep(5)
    return refused


async def _memory_alarm(context: Context) -> bool:
    await context.rabbitmqctl("set_vm_memory_high_watermark", "absolute", "1MB")
    raised = await until_true(lambda: _alarms(context, "memory"), 10)
    await asyncio.sleep(6)
    await context.rabbitmqctl("set_vm_memory_high_watermark", "absolute", "1GB")
    return raised


async def _alarms(context: Context, kind: str) -> bool:
    return kind in (await context.rabbitmqctl("status")).lower().split("alarms")[1].split("tags")[0]


async def _disk_alarm(context: Context) -> bool:
    await context.rabbitmqctl("set_disk_free_limit", "1000000GB")
    raised = await until_true(lambda: _alarms(context, "disk"), 10)
    await asyncio.sleep(6)
    await context.rabbitmqctl("set_disk_free_limit", "50MB")
    return raised


async def _queue_full(context: Context) -> bool:
    """The processor is frozen, and its ingest queue takes no more than a few messages."""
    await context.rabbitmqctl(
        "set_policy", "-p", INGEST_VHOST, "--apply-to", "queues", "full", r"^etlpay\.ingest$", '{"max-length": 3}'
    )
    with context.child("processor").frozen():
        refused = await until_true(lambda: context.load.journal.calls["later"] > 0, 30)
        await asyncio.sleep(3)
    await context.rabbitmqctl("clear_policy", "-p", INGEST_VHOST, "full")
    return refused


async def _delete_ingest_queue(context: Context) -> bool:
    """The ingest queue is deleted when it is empty: what a deleted queue held is gone. HTTP and gRPC go on."""
    deleted = 0
    connection = await aio_pika.connect(context.world.amqp_url("operator", INGEST_VHOST))
    async with connection, connection.channel() as amqp_channel:
        for _ in range(3):
            # No producer sends, and nothing is on its way: only then does an empty queue stay empty. A receipt that is
            # lost is sent again.
            async with context.load.silence():
                empty = await until_true(partial(_is_ingest_queue_empty, context), 20)
                if empty and context.load.calls_in_flight == 0:
                    context.world.proxy("processor", "amqp").reset_connections()
                    await amqp_channel.queue_delete(INGEST_QUEUE)
                    deleted += 1
            await asyncio.sleep(2.5)
    return deleted == 3


async def _is_ingest_queue_empty(context: Context) -> bool:
    queues = await context.ingest_queues()
    return INGEST_QUEUE in queues and not any(queues.values())


async def _cancel_consumer(context: Context) -> bool:
    """The public queue is deleted, so that the broker cancels its consumer, which declares it again and goes on."""
    connection = await aio_pika.connect(context.world.amqp_url("operator"))
    async with connection, connection.channel() as amqp_channel:
        for _ in range(3):
            await amqp_channel.queue_delete("etl-queue")
            await asyncio.sleep(2)
    async with QueueProducer(context.load) as producer:
        attempts = [Attempt(sent, sent.first) for sent in (context.load.journal.new("queue") for _ in range(50))]
        return await until_true(lambda: producer.send(attempts), 20)


async def _unbind(context: Context) -> bool:
    connection = await aio_pika.connect(context.world.amqp_url("operator"))
    async with connection, connection.channel() as amqp_channel:
        queue = await amqp_channel.get_queue("etl-queue")
        await queue.unbind("etlpay.events", routing_key="etl-queue")
        await asyncio.sleep(2)
        unbound = "etlpay.events" not in await context.rabbitmqctl("list_bindings", "source_name")
        # The consumer binds it again when it starts.
        await context.child("queue-consumer").terminate()
        await context.child("queue-consumer").wait_ready()
    return unbound


CASES: Final = [
    _died("broker killed and started again", _kill_broker, smoke=True),
    _died("broker stopped and started again", _restart_broker),
    _died("PostgreSQL stopped at once, twice", _kill_database, smoke=True),
    _died("PostgreSQL away for 12 s", _database_away),
    _died("broker and PostgreSQL die together", _both_die),
    Case("database sessions terminated every 300 ms", _terminate_backends),
    _frozen("rabbitmq", 5),
    _frozen("rabbitmq", 25),
    _frozen("postgres", 5),
    _frozen("postgres", 20),
    _frozen("valkey", 5),
    Case("table locked for 30 s", _lock_table),
    Case("disk of the ledger full", _disk_full, before=_raw_events_elsewhere, after=_raw_events_back),
    Case("ledger read-only for 7 s", _read_only),
    Case("database connections exhausted", _exhaust_connections),
    Case("memory alarm of the broker", _memory_alarm),
    Case("disk alarm of the broker", _disk_alarm),
    Case("queue full", _queue_full),
    Case("binding gone", _unbind),
    Case("public queue deleted, three times", _cancel_consumer, channels=ALL_CHANNELS - {"queue"}),
    Case("ingest queue deleted, three times", _delete_ingest_queue, channels=frozenset({"http", "grpc"})),
]
