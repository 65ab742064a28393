"""The whole file-watcher as a process, on a real RabbitMQ."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aio_pika

from shared.contracts.event import Envelope, identify
from support.servers import Servers, free_port
from support.watcher import drop, names, published, until, until_done, watcher

ROWS = 20_000


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
    """Killed in the middle of a file, and again: each row is published, with its id and the moment of the claim."""
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
    assert len({event.file_at for event in events if event.file_at}) == 1
    assert all(event.file_at for event in events)


async def test_of_files_that_wait_together_the_one_that_was_changed_last_has_the_latest_moment(
    servers: Servers, broker: aio_pika.abc.AbstractChannel, tmp_path: Path
) -> None:
    """Several are claimed at once; their names say nothing."""
    files = [f"{number * 7 % 20}.ndjson" for number in range(20)]
    for age, name in enumerate(reversed(files), 1):
        drop(tmp_path, name, b'{"id": "%b"}\n' % name.encode())
        moment = time.time() - 60 * age
        os.utime(tmp_path / "inbox" / "shop" / name, (moment, moment))
    async with watcher(servers, tmp_path):
        await until_done(tmp_path, *files)

    moments = {event.idempotency_key: event.file_at for event in await published(broker) if event.file_at}

    assert sorted(moments, key=lambda name: moments[name]) == files
    assert len(set(moments.values())) == len(files)


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
        await until(lambda: names(tmp_path, "work") == {"a.json"})
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
