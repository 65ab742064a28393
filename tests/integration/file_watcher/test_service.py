"""The whole file door as a process, on a real RabbitMQ."""

import asyncio
import os
import signal
import sys
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aio_pika
import httpx2
import pytest

from shared.contracts.event import Envelope, identify
from shared.messaging.topology import INGEST_QUEUE, PARKED_QUEUE, SLOW_QUEUE
from shared.wire import decode_batch
from support.servers import Servers, free_port

ROWS = 20_000


class Watcher:
    """A watcher's process."""

    def __init__(self, process: asyncio.subprocess.Process, ops_port: int) -> None:
        self.process = process
        self._url = f"http://127.0.0.1:{ops_port}/readyz"

    async def kill(self) -> None:
        """End the process as a power cut would."""
        self.process.kill()
        await self.process.wait()

    async def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(25):
            return await self.process.wait()

    async def until_ready(self, *, ready: bool = True) -> None:
        async with asyncio.timeout(20), httpx2.AsyncClient() as client:
            while await self._is_ready(client) is not ready:  # noqa: ASYNC110 - it is another process
                await asyncio.sleep(0.05)

    async def _is_ready(self, client: httpx2.AsyncClient) -> bool:
        try:
            return (await client.get(self._url)).status_code == 200
        except httpx2.TransportError:
            return False


@asynccontextmanager
async def watcher(servers: Servers, root: Path, *flags: str, broker_at: str | None = None) -> AsyncIterator[Watcher]:
    """Run `python -m file_watcher` until the block ends."""
    ops_port = free_port()
    broker_at = broker_at or f"{servers.amqp_host}:{servers.amqp_port}"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ETLPAY_")}  # noqa: TID251 - a child's environment
    environment |= {
        "ETLPAY_FILES_ROOT": str(root),
        "ETLPAY_FILES_SCAN_SECONDS": "0.2",
        "ETLPAY_FILES_SETTLE_SECONDS": "0.2",
        "ETLPAY_FILES_BATCH_EVENTS_MAX": "50",
        "ETLPAY_AMQP_URL": f"amqp://operator@{broker_at}/",
        "ETLPAY_AMQP_PASSWORD": servers.amqp_password,
        "ETLPAY_PUBLISH_SECONDS_MAX": "1",
        "ETLPAY_RECONNECT_SECONDS_MAX": "0.5",
        "ETLPAY_OPS_PORT": str(ops_port),
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "file_watcher", *flags, cwd=root, env=environment
    )
    running = Watcher(process, ops_port)
    try:
        yield running
    finally:
        if process.returncode is None:
            await running.kill()


@pytest.fixture
async def broker(servers: Servers) -> AsyncIterator[aio_pika.abc.AbstractChannel]:
    """A channel with the broker, whose lanes are empty."""
    async with await aio_pika.connect(servers.amqp_url) as connection:
        amqp_channel = await connection.channel()
        for queue in (INGEST_QUEUE, SLOW_QUEUE, PARKED_QUEUE):
            await amqp_channel.queue_delete(queue)
        yield amqp_channel


async def published(broker: aio_pika.abc.AbstractChannel) -> list[Envelope]:
    """Take every event out of the lane."""
    queue = await broker.get_queue(INGEST_QUEUE)
    events: list[Envelope] = []
    while message := await queue.get(fail=False):
        await message.ack()
        events += decode_batch(message.body)
    return events


def drop(root: Path, name: str, content: bytes, *, source: str = "shop") -> None:
    """Write beside the inbox and rename in, as a careful producer does."""
    folder = root / "inbox" / source
    folder.mkdir(parents=True, exist_ok=True)
    written = root / f"{uuid.uuid4()}"
    written.write_bytes(content)
    written.rename(folder / name)


def names(root: Path, folder: str) -> set[str]:
    return {path.name for path in (root / folder).rglob("*") if path.is_file()}


async def until_done(root: Path, *files: str) -> None:
    await until(lambda: set(files) <= names(root, "done"))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - it is another process
            await asyncio.sleep(0.002)


def numbered_lines(number: int) -> bytes:
    return b"".join(b'{"id": "%d", "amount": "%d.10"}\n' % (row, row) for row in range(number))


async def test_dropped_files_are_published_and_done(
    servers: Servers, broker: aio_pika.abc.AbstractChannel, tmp_path: Path
) -> None:
    async with watcher(servers, tmp_path) as service:
        await service.until_ready()

        drop(tmp_path, "a.json", b'[{"value": 1}, {"value": 2}]')
        drop(tmp_path, "b.csv", b"id,amount\n1,1.10\n", source="bank")
        await until_done(tmp_path, "a.json", "b.csv")

        assert await service.stop() == 0
    events = await published(broker)
    assert sorted((event.source, event.body) for event in events) == [
        ("bank", b"id,amount\n1,1.10"),
        ("shop", b'{"value": 1}'),
        ("shop", b'{"value": 2}'),
    ]


async def test_a_killed_watcher_loses_and_adds_nothing(
    servers: Servers, broker: aio_pika.abc.AbstractChannel, tmp_path: Path
) -> None:
    """Killed in the middle of a file, again and again: each row is published, always under the same id."""
    content = b"".join(b'{"row": %d}\n' % row for row in range(ROWS))
    drop(tmp_path, "a.ndjson", content)
    kills = 0
    while not names(tmp_path, "done"):
        async with watcher(servers, tmp_path) as service:
            await service.until_ready()
            if kills == 4:
                await until_done(tmp_path, "a.ndjson")
                break
            # The first kill comes before the first batch is read, the later ones among the batches.
            await asyncio.sleep(0.05 * kills)
            await service.kill()
            kills += 1

    events = await published(broker)

    assert kills
    assert {event.body + b"\n" for event in events} == set(content.splitlines(keepends=True))
    assert len({event.event_id for event in events}) == ROWS


async def test_a_watcher_that_is_told_to_stop_leaves_the_file_for_the_next(
    servers: Servers, broker: aio_pika.abc.AbstractChannel, tmp_path: Path
) -> None:
    async with watcher(servers, tmp_path) as service:
        await service.until_ready()
        drop(tmp_path, "a.ndjson", numbered_lines(200_000))
        await until(lambda: bool(names(tmp_path, "work")))

        assert await service.stop() == 0

    assert names(tmp_path, "work") == {"a.ndjson"}
    async with watcher(servers, tmp_path):
        await until_done(tmp_path, "a.ndjson")
    assert len({event.event_id for event in await published(broker)}) == 200_000


async def test_two_watchers_share_an_inbox(
    servers: Servers, broker: aio_pika.abc.AbstractChannel, tmp_path: Path
) -> None:
    """Every file is published once in all: exactly one watcher wins it."""
    files = [f"{number}.json" for number in range(300)]
    async with watcher(servers, tmp_path) as one, watcher(servers, tmp_path) as other:
        await one.until_ready()
        await other.until_ready()

        for name in files:
            drop(tmp_path, name, b'[{"id": "%s"}]' % name.encode())
        await until_done(tmp_path, *files)

    events = await published(broker)
    assert sorted(event.idempotency_key for event in events) == sorted(files)


async def test_the_files_of_a_killed_watcher_are_taken_over_by_a_living_one(
    servers: Servers, broker: aio_pika.abc.AbstractChannel, tmp_path: Path
) -> None:
    async with watcher(servers, tmp_path) as one, watcher(servers, tmp_path) as other:
        await one.until_ready()
        await other.until_ready()
        for number in range(8):
            drop(tmp_path, f"{number}.ndjson", numbered_lines(5_000), source=f"shop-{number}")
        await until(lambda: len(names(tmp_path, "work")) >= 5)

        await one.kill()

        await until_done(tmp_path, *(f"{number}.ndjson" for number in range(8)))
    assert len({event.event_id for event in await published(broker)}) == 40_000


async def test_a_file_waits_for_the_broker(
    servers: Servers, broker: aio_pika.abc.AbstractChannel, tmp_path: Path
) -> None:
    """Nobody listens at first; the service waits, and is not ready."""
    port = free_port()
    drop(tmp_path, "a.json", b'[{"value": 1}]')
    async with watcher(servers, tmp_path, broker_at=f"127.0.0.1:{port}") as service:
        await asyncio.sleep(3)
        assert names(tmp_path, "work") == {"a.json"}
        await service.until_ready(ready=False)

        async with forwarding(port, servers.amqp_host, servers.amqp_port):
            await until_done(tmp_path, "a.json")
            await service.until_ready()

        await service.until_ready(ready=False)
    assert [event.body for event in await published(broker)] == [b'{"value": 1}']


@asynccontextmanager
async def forwarding(port: int, host: str, to: int) -> AsyncIterator[None]:
    """Pass connections on until the block ends, then cut them."""

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while chunk := await reader.read(65_536):
                writer.write(chunk)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        onwards = await asyncio.open_connection(host, to)
        cuts.append(onwards[1])
        await asyncio.gather(copy(reader, onwards[1]), copy(onwards[0], writer))

    cuts: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(serve, "127.0.0.1", port)
    yield
    server.close()
    for writer in cuts:
        writer.close()


async def test_a_file_in_place_is_read_again_also_by_the_next_process(
    servers: Servers, broker: aio_pika.abc.AbstractChannel, tmp_path: Path
) -> None:
    path = tmp_path / "events.json"
    flags = ("--path", str(path), "--source", "demo", "--interval", "0.2")
    events: list[Envelope] = []
    for rows, distinct in (([1, 2, 3], 3), ([3, 1, 4, 2, 3], 5)):
        path.write_bytes(b"[" + b", ".join(b'{"value": %d}' % row for row in rows) + b"]")
        async with watcher(servers, tmp_path, *flags) as service:
            await service.until_ready()
            async with asyncio.timeout(20):
                while len({event.event_id for event in events}) < distinct:
                    events += await published(broker)
                    await asyncio.sleep(0.05)
            assert await service.stop() == 0

    assert {event.source for event in events} == {"demo"}
    assert sorted({event.event_id: event.body for event in events}.values()) == [
        b'{"value": 1}',
        b'{"value": 2}',
        b'{"value": 3}',
        b'{"value": 3}',
        b'{"value": 4}',
    ]
    assert path.exists()


async def test_the_id_of_a_row_is_what_every_client_computes(
    servers: Servers, broker: aio_pika.abc.AbstractChannel, tmp_path: Path
) -> None:
    drop(tmp_path, "a.json", b'{"id": "evt_1"}')
    async with watcher(servers, tmp_path):
        await until_done(tmp_path, "a.json")

    assert [event.event_id for event in await published(broker)] == [identify("shop", "evt_1")]
