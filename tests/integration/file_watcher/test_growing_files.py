"""Files that grow, stall and are taken up again, while the watcher is a process that is killed and stopped."""

import asyncio
import gzip
import hashlib
import os
from pathlib import Path

import aio_pika
import pytest

from shared.contracts.event import Envelope, identify
from shared.messaging.topology import INGEST_QUEUE
from support.servers import Servers
from support.watcher import drop, names, published, until, until_done, watcher

ROWS = [b'{"row": %d}' % row for row in range(60)]


class Uploader:
    """Has a file open, and writes into it wherever it was moved to.

    Between two writes no descriptor may write: so the watcher cannot tell, as it cannot of another user's file.
    """

    def __init__(self, root: Path, name: str) -> None:
        folder = root / "inbox/shop"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
        self._descriptor = os.open(folder / name, os.O_RDONLY)

    def write(self, content: bytes) -> None:
        with Path(f"/proc/self/fd/{self._descriptor}").open("ab") as file:
            file.write(content)

    def close(self) -> None:
        os.close(self._descriptor)


async def stored(broker: aio_pika.abc.AbstractChannel) -> list[bytes]:
    """Return the bodies that the ledger would hold: the first of each id."""
    return sorted({event.event_id: event.body for event in reversed(await published(broker))}.values())


def lines(rows: list[bytes]) -> bytes:
    return b"".join(row + b"\n" for row in rows)


@pytest.mark.parametrize(
    ("name", "parts", "rows"),
    [
        (
            "a.ndjson",
            (b'{"row": 1}\n{"row": 2, "amount": 25', b'000}\n{"row": 3}\n', b'{"row": 4}\n'),
            [b'{"row": 1}', b'{"row": 2, "amount": 25000}', b'{"row": 3}', b'{"row": 4}'],
        ),
        (
            "a.csv",
            (b"row,currency,amount\n1,EUR,10\n2,EUR,25", b"000\n3,EUR,99999\n", b"4,EUR,5\n"),
            [b"row,currency,amount\n" + row for row in (b"1,EUR,10", b"2,EUR,25000", b"3,EUR,99999", b"4,EUR,5")],
        ),
    ],
    ids=["ndjson", "csv"],
)
async def test_an_upload_that_stalls_is_stored_whole_and_once(  # noqa: PLR0913, PLR0917 - an upload, and where it goes
    servers: Servers,
    broker: aio_pika.abc.AbstractChannel,
    tmp_path: Path,
    name: str,
    parts: tuple[bytes, ...],
    rows: list[bytes],
) -> None:
    """It stalls in the middle of a row, is done, and goes on; stalls again, and ends."""
    uploader = Uploader(tmp_path, name)
    done = tmp_path / "done/shop" / name
    async with watcher(servers, tmp_path) as service:
        uploader.write(parts[0])
        await until(done.exists)
        uploader.write(parts[1])
        await until(lambda: not names(tmp_path, "work") and not done.with_name(f"{name}.rejects.ndjson").exists())
        uploader.write(parts[2])
        events = await _until_published(broker, len(rows))
        await until(lambda: not names(tmp_path, "work"))

        assert await service.stop() == 0
    assert sorted(event.body for event in events) == rows
    assert await published(broker) == []
    assert names(tmp_path, "done") == {name}
    assert names(tmp_path, "failed") == names(tmp_path, "inbox") == set()
    uploader.close()


@pytest.mark.parametrize("end", ["kill", "stop"])
async def test_a_file_that_grew_before_the_next_watcher_came_is_stored_once(
    servers: Servers, broker: aio_pika.abc.AbstractChannel, tmp_path: Path, end: str
) -> None:
    """The watcher is killed, or stopped, when it has published some batches."""
    rows = [b'{"row": %d}' % row for row in range(50_000)]
    work = tmp_path / "work/shop/a.ndjson"
    async with watcher(servers, tmp_path) as service:
        await service.until_ready()
        drop(tmp_path, "a.ndjson", lines(rows[:-10]))
        async with (await broker.get_queue(INGEST_QUEUE)).iterator() as messages:
            await (await anext(messages)).reject(requeue=True)
        await (service.kill() if end == "kill" else service.stop())
    assert work.exists()
    with work.open("ab") as file:
        file.write(lines(rows[-10:]))

    async with watcher(servers, tmp_path):
        await until_done(tmp_path, "a.ndjson")

    assert await stored(broker) == sorted(rows)


KILLS = (
    ("noted",),
    ("claimed",),
    ("identified",),
    ("mid_file",),
    ("mid_file", "grown"),
    ("mid_file", "mid_file", "grown", "mid_file"),
    ("before_move",),
    ("remembered",),
    ("moved",),
    ("moved", "noted"),
    ("moved", "claimed"),
    ("moved", "identified"),
    ("moved", "mid_file"),
    ("moved", "remembered", "moved", "before_move"),
)


@pytest.mark.parametrize("places", KILLS, ids=",".join)
async def test_a_file_that_grows_after_each_kill_is_stored_once(
    servers: Servers, broker: aio_pika.abc.AbstractChannel, tmp_path: Path, places: tuple[str, ...]
) -> None:
    """Killed at each place in turn, also while it is taken back; after each kill the file grows, wherever it lies."""
    log = tmp_path / "fired"
    rows = 30
    drop(tmp_path, "a.ndjson", lines(ROWS[:rows]))
    for place in places:
        fault = {"ETLPAY_FAILPOINT": f"file-watcher.{place}:kill", "ETLPAY_FAILPOINT_LOG": str(log)}
        async with watcher(servers, tmp_path, settings=fault) as service, asyncio.timeout(60):
            await service.process.wait()
        _grow(tmp_path, lines(ROWS[rows : rows + 5]))
        rows += 5

    async with watcher(servers, tmp_path) as service:
        await service.until_ready()
        events = await _until_published(broker, rows)
        await until(lambda: names(tmp_path, "done") == {"a.ndjson"})

    assert len(log.read_text().splitlines()) == len(places)
    events += await published(broker)
    assert sorted({event.event_id: event.body for event in events}.values()) == sorted(ROWS[:rows])
    assert names(tmp_path, "work") == names(tmp_path, "failed") == names(tmp_path, "inbox") == set()


def _grow(root: Path, content: bytes) -> None:
    (lying,) = root.glob("*/shop/a.ndjson")
    with lying.open("ab") as file:
        file.write(content)


async def _until_published(broker: aio_pika.abc.AbstractChannel, rows: int) -> list[Envelope]:
    events: list[Envelope] = []
    async with asyncio.timeout(60):
        while len({event.body for event in events}) < rows:
            events += await published(broker)
            await asyncio.sleep(0.05)
    return events


async def test_what_the_code_before_left_in_work_is_stored_under_the_keys_that_it_gave(
    servers: Servers, broker: aio_pika.abc.AbstractChannel, tmp_path: Path
) -> None:
    """It left no note, and keys in producers' name space, by the hash of the file as it is stored."""
    packed = gzip.compress(lines(ROWS))
    (tmp_path / "work/shop").mkdir(parents=True)
    (tmp_path / "work/shop/a.ndjson.gz").write_bytes(packed)

    async with watcher(servers, tmp_path):
        await until_done(tmp_path, "a.ndjson.gz")

    digest = hashlib.sha256(packed).hexdigest()[:32]
    assert {event.event_id for event in await published(broker)} == {
        identify("shop", f"file:{digest}:{row}") for row in range(1, len(ROWS) + 1)
    }


async def test_the_same_file_packed_in_other_ways_is_stored_once(
    servers: Servers, broker: aio_pika.abc.AbstractChannel, tmp_path: Path
) -> None:
    files = {
        "a.ndjson": lines(ROWS),
        "a.ndjson.gz": gzip.compress(lines(ROWS), mtime=1),
        "b.ndjson.gz": gzip.compress(lines(ROWS), mtime=2),
    }
    async with watcher(servers, tmp_path):
        for name, content in files.items():
            drop(tmp_path, name, content)
        await until_done(tmp_path, *files)

    assert await stored(broker) == sorted(ROWS)


async def test_an_empty_file_that_is_filled_later_leaves_nothing_in_failed(
    servers: Servers, broker: aio_pika.abc.AbstractChannel, tmp_path: Path
) -> None:
    uploader = Uploader(tmp_path, "a.csv")
    uploading = Uploader(tmp_path, "b.csv.filepart")
    async with watcher(servers, tmp_path):
        await asyncio.sleep(2)
        uploader.write(b"id,amount\n1,2\n")
        await until_done(tmp_path, "a.csv")

    assert names(tmp_path, "failed") == set()
    assert names(tmp_path, "inbox") == {"b.csv.filepart"}
    assert [event.body for event in await published(broker)] == [b"id,amount\n1,2"]
    uploader.close()
    uploading.close()
