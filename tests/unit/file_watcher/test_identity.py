"""What names rows without an id: the content as it was first hashed, over growth, packing, crashes and upgrades."""

import asyncio
import fcntl
import gzip
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from structlog.testing import capture_logs

from file_watcher.spool.entry import SpoolEntry
from file_watcher.spool.files import open_locked
from shared.contracts.event import identify
from support.inbox import Inbox, died_after

ROWS = [b'{"v": %d}' % number for number in range(60)]
# They do not pack well, so of a packed file that is cut off many are left.
HASHES = [b'{"v": "%b"}' % hashlib.sha256(b"%d" % number).hexdigest().encode() for number in range(3_000)]
WORK = SpoolEntry("work", "shop", "a.ndjson")


def lines(rows: list[bytes]) -> bytes:
    return b"".join(row + b"\n" for row in rows)


def csv(*rows: str) -> bytes:
    return "".join(f"{row}\n" for row in ("row,currency,amount", *rows)).encode()


def drop(root: Path, name: str, content: bytes, folder: str = "inbox") -> SpoolEntry:
    path = root / folder / "shop" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return SpoolEntry(folder, "shop", name)


async def test_a_file_that_grew_while_its_watcher_was_dead_keeps_the_keys_of_its_rows(tmp_path: Path) -> None:
    entry = drop(tmp_path, "a.ndjson", lines(ROWS[:50]))
    async with died_after(tmp_path, entry, batches=3) as inbox:
        with (tmp_path / "work/shop/a.ndjson").open("ab") as file:
            file.write(lines(ROWS[50:]))

        await inbox.ingest_until_finished(WORK)

        assert inbox.stored == sorted(ROWS)
        assert inbox.names("done") == {"a.ndjson"}
        assert inbox.notes() == set()


async def test_a_file_that_grows_again_and_again_keeps_them_all(tmp_path: Path) -> None:
    """Killed in each part, after each growth, by turns."""
    entry = drop(tmp_path, "a.ndjson", lines(ROWS[:20]))
    async with died_after(tmp_path, entry, batches=1) as second:
        with (tmp_path / "work/shop/a.ndjson").open("ab") as file:
            file.write(lines(ROWS[20:40]))
        async with died_after(tmp_path, WORK, batches=3, before=second) as third:
            with (tmp_path / "work/shop/a.ndjson").open("ab") as file:
                file.write(lines(ROWS[40:]))
            async with died_after(tmp_path, WORK, batches=2, before=third) as last:
                await last.ingest_until_finished(WORK)

                assert last.stored == sorted(ROWS)
                assert last.names("done") == {"a.ndjson"}


async def test_a_row_that_was_cut_off_when_the_file_was_hashed_is_taken_once_it_is_whole(tmp_path: Path) -> None:
    entry = drop(tmp_path, "a.ndjson", lines(ROWS[:10]) + ROWS[10][:-1])
    async with died_after(tmp_path, entry, batches=0) as inbox:
        with (tmp_path / "work/shop/a.ndjson").open("ab") as file:
            file.write(ROWS[10][-1:] + b"\n" + lines(ROWS[11:20]))

        await inbox.ingest_until_finished(WORK)

        assert inbox.stored == sorted(ROWS[:20])
        assert inbox.names("done") == {"a.ndjson"}


async def test_files_that_begin_alike_share_no_key_of_what_they_grew_by(tmp_path: Path) -> None:
    """Every day the header and a first row come alone, and then another rest."""
    inbox = Inbox(tmp_path)
    with inbox.spool:
        for day, name in (("monday", "a.csv"), ("tuesday", "b.csv")):
            await inbox.ingest(drop(tmp_path, name, csv("1,EUR,0")))
            with (tmp_path / "done/shop" / name).open("ab") as file:
                file.write(f"2,EUR,{day}\n".encode())
            assert await inbox.look_back()

        header = csv().strip()
        assert inbox.stored == [header + b"\n" + row for row in (b"1,EUR,0", b"2,EUR,monday", b"2,EUR,tuesday")]


@pytest.mark.parametrize("batches", [0, 2])
async def test_a_file_that_was_rewritten_gets_other_keys_and_a_warning(tmp_path: Path, batches: int) -> None:
    entry = drop(tmp_path, "a.ndjson", lines(ROWS[:50]))
    async with died_after(tmp_path, entry, batches=batches) as inbox:
        before = {event.event_id for event in inbox.publisher.events}
        drop(tmp_path, "a.ndjson", lines(ROWS[10:60]), "work")

        with capture_logs() as logs:
            await inbox.ingest_until_finished(WORK)

        after = [event for event in inbox.publisher.events if event.event_id not in before]
        assert sorted(event.body for event in after) == sorted(ROWS[10:60])
        assert any("other than by appending" in line["event"] for line in logs if line["log_level"] == "warning")


PACKED: dict[str, Callable[[bytes], bytes]] = {
    "a.ndjson": bytes,
    "a.ndjson.gz": lambda content: gzip.compress(content, mtime=1),
    "again.ndjson.gz": lambda content: gzip.compress(content, compresslevel=1, mtime=2),
    "parts.ndjson.gz": lambda content: gzip.compress(content[:100]) + gzip.compress(content[100:]),
    "a.ndjson.zst": zstandard.ZstdCompressor(level=3).compress,
}


async def test_a_file_is_the_same_however_it_is_packed(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path)
    with inbox.spool, capture_logs() as logs:
        for name, pack in PACKED.items():
            await inbox.ingest(drop(tmp_path, name, pack(lines(ROWS))))

        assert inbox.stored == sorted(ROWS)
        assert len(inbox.publisher.events) == len(PACKED) * len(ROWS)
    known = [line for line in logs if "taken before" in line["event"]]
    assert [line["before"] for line in known] == list(PACKED)[:-1]


async def test_a_packed_upload_that_was_cut_off_is_read_on(tmp_path: Path) -> None:
    """What could be unpacked has its keys; the file fails, and comes back when the rest is there."""
    packed = gzip.compress(lines(HASHES))
    inbox = Inbox(tmp_path)
    with inbox.spool:
        await inbox.ingest(drop(tmp_path, "a.ndjson.gz", packed[: len(packed) // 2]))
        assert inbox.names("failed") == {"a.ndjson.gz", "a.ndjson.gz.rejects.ndjson"}
        assert 0 < len(inbox.stored) < len(HASHES)

        with (tmp_path / "failed/shop/a.ndjson.gz").open("ab") as file:
            file.write(packed[len(packed) // 2 :])
        assert await inbox.look_back()

        assert inbox.stored == sorted(HASHES)
        assert len(inbox.publisher.events) == len(HASHES)
        assert inbox.names("failed") == set()
        assert inbox.names("done") == {"a.ndjson.gz"}


@pytest.mark.parametrize("end", [b"", b"damaged" * 1_000], ids=["cut", "damaged"])
async def test_what_can_be_read_of_a_broken_file_has_the_same_keys_at_every_reading(tmp_path: Path, end: bytes) -> None:
    packed = gzip.compress(lines(HASHES), mtime=1)
    entry = drop(tmp_path, "a.ndjson.gz", packed[: len(packed) // 2] + end)
    async with died_after(tmp_path, entry, batches=2) as inbox:
        await inbox.ingest_until_finished(SpoolEntry("work", "shop", "a.ndjson.gz"))
        first = {event.event_id for event in inbox.publisher.events}

        await inbox.ingest(drop(tmp_path, "b.ndjson.gz", packed[: len(packed) // 2] + end))

        assert {event.event_id for event in inbox.publisher.events} == first
        assert len(HASHES) / 3 < len(first) < len(HASHES)
        assert inbox.names("failed") > {"a.ndjson.gz", "b.ndjson.gz"}


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "packed"])
async def test_what_the_code_before_left_in_work_keeps_the_keys_that_it_gave(
    tmp_path: Path, pack: Callable[[bytes], bytes]
) -> None:
    """It hashed the file as it is stored, and its keys were in producers' name space; it wrote no note."""
    content = pack(lines(ROWS))
    name = "a.ndjson" if pack is bytes else "a.ndjson.gz"
    digest = hashlib.sha256(content).hexdigest()[:32]
    entry = drop(tmp_path, name, content, "work")
    async with died_after(tmp_path, entry, batches=2) as inbox:
        await inbox.ingest_until_finished(entry)

        assert {event.event_id for event in inbox.publisher.events} == {
            identify("shop", f"file:{digest}:{row}") for row in range(1, len(ROWS) + 1)
        }
        assert not any(event.derived for event in inbox.publisher.events)
        assert inbox.names("done") == {name}


async def test_what_the_code_before_left_in_work_may_grow_too(tmp_path: Path) -> None:
    entry = drop(tmp_path, "a.ndjson", lines(ROWS[:50]), "work")
    async with died_after(tmp_path, entry, batches=2) as inbox:
        with (tmp_path / "work/shop/a.ndjson").open("ab") as file:
            file.write(lines(ROWS[50:]))

        await inbox.ingest_until_finished(WORK)

        assert inbox.stored == sorted(ROWS)
        assert sum(event.derived for event in inbox.publisher.events) == 10


async def test_new_keys_are_derived_and_those_of_producers_are_not(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path)
    with inbox.spool:
        await inbox.ingest(drop(tmp_path, "a.ndjson", b'{"id": "own"}\n{"v": 1}\n'))

        assert [(event.idempotency_key[:5], event.derived) for event in inbox.publisher.events] == [
            ("own", False),
            ("file:", True),
        ]


async def test_the_same_content_under_a_torn_note_has_the_same_keys(tmp_path: Path) -> None:
    """A crash while the note was written: nothing was published under it."""
    entry = drop(tmp_path, "a.ndjson", lines(ROWS[:20]))
    async with died_after(tmp_path, entry, batches=1) as inbox:
        note = tmp_path / "work/shop/.a.ndjson.claim"
        note.write_bytes(note.read_bytes() + b'\n{"reading":{"bytes":1')

        await inbox.ingest_until_finished(WORK)

        assert inbox.stored == sorted(ROWS[:20])


async def test_a_finished_file_that_grew_too_late_is_read_on_when_it_is_moved_into_the_inbox(tmp_path: Path) -> None:
    first = Inbox(tmp_path, watch_seconds=0.0)
    with first.spool:
        await first.ingest(drop(tmp_path, "a.ndjson", lines(ROWS[:50])))
    with (tmp_path / "done/shop/a.ndjson").open("ab") as file:
        file.write(lines(ROWS[50:]))
    inbox = Inbox(tmp_path, publisher=first.publisher, watch_seconds=0.0)
    with inbox.spool:
        assert await inbox.look_back() == []
        (tmp_path / "done/shop/a.ndjson").rename(tmp_path / "inbox/shop/other.ndjson")

        await inbox.ingest(SpoolEntry("inbox", "shop", "other.ndjson"))

        assert inbox.stored == sorted(ROWS)
        assert len(inbox.publisher.events) == len(ROWS)


async def test_a_finished_file_that_is_moved_into_the_inbox_as_it_was_is_published_again(tmp_path: Path) -> None:
    """Under the same keys; it is what an operator does whose ledger was restored from a backup."""
    inbox = Inbox(tmp_path)
    with inbox.spool:
        await inbox.ingest(drop(tmp_path, "a.ndjson", lines(ROWS)))
        (tmp_path / "done/shop/a.ndjson").rename(tmp_path / "inbox/shop/a.ndjson")

        await inbox.ingest(SpoolEntry("inbox", "shop", "a.ndjson"))

        assert len(inbox.publisher.events) == 2 * len(ROWS)
        assert inbox.stored == sorted(ROWS)


async def test_the_note_is_on_the_disk_before_a_row_is_published(tmp_path: Path) -> None:
    entry = drop(tmp_path, "a.ndjson", lines(ROWS[:20]))
    seen: list[bytes] = []

    class LookingPublisher:
        async def publish_batch(self, body: bytes) -> None:  # noqa: ARG002 - what is published is not looked at
            seen.append((tmp_path / "work/shop/.a.ndjson.claim").read_bytes())

    inbox = Inbox(tmp_path)
    with inbox.spool:
        inbox.publisher = LookingPublisher()  # type: ignore[assignment] # what it uses of one it has
        await inbox.ingest(entry)

    digest = hashlib.sha256(lines(ROWS[:20])).hexdigest()[:32]
    assert seen
    assert all(f'"digest":"{digest}"'.encode() in note for note in seen)


async def test_rows_without_an_id_are_reported_once_for_each_file(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path)
    with inbox.spool, capture_logs() as logs:
        await inbox.ingest(drop(tmp_path, "a.ndjson", lines(ROWS)))
        await inbox.ingest(drop(tmp_path, "b.ndjson", b'{"id": "1"}\n'))

    reported = [line for line in logs if "rows have no id" in line["event"]]
    assert [(line["file"], line["rows"], line["log_level"]) for line in reported] == [("a.ndjson", 60, "warning")]
    assert [(line["file"], line["queued"]) for line in logs if line["event"] == "a file was read"] == [
        ("a.ndjson", 60),
        ("b.ndjson", 1),
    ]


async def test_a_note_without_its_file_is_removed_at_the_next_start(tmp_path: Path) -> None:
    entry = drop(tmp_path, "a.ndjson", lines(ROWS[:20]))
    async with died_after(tmp_path, entry, batches=1):
        pass
    (tmp_path / "work/shop/a.ndjson").rename(tmp_path / "elsewhere")
    (tmp_path / "work/shop/.b.ndjson.claim.new").touch()

    inbox = Inbox(tmp_path)
    with inbox.spool:
        assert inbox.notes() == set()


async def test_rejects_of_a_reading_before_are_not_kept(tmp_path: Path) -> None:
    entry = drop(tmp_path, "a.ndjson", b'{"id": "1"}\n{"id": "2"')
    async with died_after(tmp_path, entry, batches=0) as inbox:
        with (tmp_path / "work/shop/a.ndjson").open("ab") as file:
            file.write(b"}\n")

        await inbox.ingest_until_finished(WORK)

        assert inbox.names("done") == {"a.ndjson"}


def test_a_lock_that_is_only_given_to_writers_is_taken_as_one(tmp_path: Path) -> None:
    """As on NFS, where a lock of this kind asks for a descriptor that may write."""

    def flock(descriptor: int, operation: int) -> None:
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(9, "Bad file descriptor")
        fcntl.flock(descriptor, operation)

    (tmp_path / "a").write_bytes(b"content")
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        locked = open_locked(folder, "a", flock=flock)
        assert locked is not None
        assert open_locked(folder, "a", flock=flock) is None
        assert locked.file.read() == b"content"
        locked.close()
        again = open_locked(folder, "a", flock=flock)
        assert again is not None
        again.close()
    finally:
        os.close(folder)


async def test_stopping_while_a_file_is_hashed_leaves_it_in_work(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path)
    with inbox.spool:
        entry = drop(tmp_path, "a.ndjson", b"")
        with (tmp_path / "inbox/shop/a.ndjson").open("wb") as file:
            file.truncate(200 * 1024 * 1024)
        inbox.stopping.set()

        assert not await asyncio.wait_for(inbox.ingest(entry), 30)
        assert inbox.names("work") == {"a.ndjson"}
