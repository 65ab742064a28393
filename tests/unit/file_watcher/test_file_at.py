"""The moment of a file: one for all its rows, kept from its claim on, and later for a file that is claimed later."""

import os
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from file_watcher.spool.entry import SpoolEntry
from shared.contracts.event import Envelope
from support.inbox import Inbox, died_after

ROWS = [b'{"v": %d}' % number for number in range(60)]
WORK = SpoolEntry("work", "shop", "a.ndjson")
AT = re.compile(rb',?"file_at":"[^"]*"')
LONG_AGO = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)


def lines(rows: list[bytes]) -> bytes:
    return b"".join(row + b"\n" for row in rows)


def drop(root: Path, name: str = "a.ndjson", content: bytes = lines(ROWS), folder: str = "inbox") -> SpoolEntry:
    path = root / folder / "shop" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return SpoolEntry(folder, "shop", name)


def append(root: Path, path: str, rows: list[bytes]) -> None:
    with (root / path).open("ab") as file:
        file.write(lines(rows))


def moment_of(events: Iterable[Envelope]) -> datetime:
    """Return the one moment of the events."""
    [moment] = {event.file_at for event in events}
    assert moment is not None
    return moment


def as_the_code_before(path: Path) -> None:
    """Let a file of ours be as the code wrote it that kept no moments."""
    path.write_bytes(AT.sub(b"", path.read_bytes()))


async def test_all_rows_of_a_file_have_one_moment_which_is_before_they_came_in(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path)
    with inbox.spool:
        await inbox.ingest(drop(tmp_path))

    events = inbox.publisher.events
    assert len(events) == len(ROWS)
    assert moment_of(events) < min(event.received_at for event in events)


async def test_a_file_that_is_claimed_later_has_a_later_moment_whatever_its_own_time_says(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path)
    with inbox.spool:
        for number in range(20):
            entry = drop(tmp_path, f"{number}.ndjson", b'{"id": "%d"}\n' % number)
            ahead = 4_000_000_000 - number
            os.utime(tmp_path / "inbox/shop" / entry.file, (ahead, ahead))
            await inbox.ingest(entry)

    moments = [event.file_at for event in inbox.publisher.events if event.file_at is not None]
    assert len(moments) == 20
    assert moments == sorted(set(moments))
    assert moments[-1] < datetime.now(UTC) + timedelta(minutes=1)


async def test_a_claim_has_its_moment_before_the_file_is_read(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path)
    at = LONG_AGO + timedelta(microseconds=1)
    with inbox.spool:
        claimed = inbox.spool.claim(drop(tmp_path), at)
        assert claimed is not None
        claimed.close()
        later = Inbox(tmp_path, publisher=inbox.publisher)
        with later.spool:
            await later.ingest(WORK)

    assert moment_of(inbox.publisher.events) == at


@pytest.mark.parametrize("batches", [0, 1, 3])
async def test_it_is_kept_by_the_next_watcher_also_when_the_file_has_grown(tmp_path: Path, batches: int) -> None:
    entry = drop(tmp_path, content=lines(ROWS[:50]))
    async with died_after(tmp_path, entry, batches=batches) as inbox:
        note = (tmp_path / "work/shop/.a.ndjson.claim").read_bytes()
        append(tmp_path, "work/shop/a.ndjson", ROWS[50:])
        await inbox.ingest_until_finished(WORK)

        assert inbox.stored == sorted(ROWS)
        assert moment_of(inbox.publisher.events).isoformat().removesuffix("+00:00").encode() in note


async def test_it_is_kept_when_the_file_is_taken_back(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path)
    with inbox.spool:
        await inbox.ingest(drop(tmp_path, content=lines(ROWS[:30])))
        for rows in (ROWS[30:40], ROWS[40:]):
            append(tmp_path, "done/shop/a.ndjson", rows)
            assert await inbox.look_back()

    assert inbox.stored == sorted(ROWS)
    moment_of(inbox.publisher.events)


async def test_it_is_kept_when_the_file_grew_too_late_and_was_moved_into_the_inbox(tmp_path: Path) -> None:
    first = Inbox(tmp_path, watch_seconds=0.0)
    with first.spool:
        await first.ingest(drop(tmp_path, content=lines(ROWS[:50])))
    append(tmp_path, "done/shop/a.ndjson", ROWS[50:])
    inbox = Inbox(tmp_path, publisher=first.publisher, watch_seconds=0.0)
    with inbox.spool:
        assert await inbox.look_back() == []
        (tmp_path / "done/shop/a.ndjson").rename(tmp_path / "inbox/shop/other.ndjson")
        await inbox.ingest(SpoolEntry("inbox", "shop", "other.ndjson"))

    assert len(inbox.publisher.events) == len(ROWS)
    moment_of(inbox.publisher.events)


async def test_it_is_kept_when_the_file_is_moved_into_the_inbox_as_it_was(tmp_path: Path) -> None:
    """Of two editions, the first one must not win, where the ledger was restored and both are sent again."""
    inbox = Inbox(tmp_path)
    with inbox.spool:
        await inbox.ingest(drop(tmp_path))
        (tmp_path / "done/shop/a.ndjson").rename(tmp_path / "inbox/shop/a.ndjson")
        await inbox.ingest(SpoolEntry("inbox", "shop", "a.ndjson"))

    assert len(inbox.publisher.events) == 2 * len(ROWS)
    moment_of(inbox.publisher.events)


async def test_another_file_that_got_the_inode_of_a_finished_one_has_its_own(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path)
    with inbox.spool:
        await inbox.ingest(drop(tmp_path))
        first = moment_of(inbox.publisher.events)
        (tmp_path / "done/shop/a.ndjson").rename(tmp_path / "inbox/shop/a.ndjson")
        (tmp_path / "inbox/shop/a.ndjson").write_bytes(lines(ROWS[1:]) + b'{"v": "more than before"}\n')
        await inbox.ingest(SpoolEntry("inbox", "shop", "a.ndjson"))

    assert moment_of(inbox.publisher.events[len(ROWS) :]) > first


@pytest.mark.parametrize("batches", [0, 2])
async def test_a_claim_of_the_code_before_has_the_time_of_its_note(tmp_path: Path, batches: int) -> None:
    """So has one whose note lost its content to a power cut."""
    async with died_after(tmp_path, drop(tmp_path), batches=batches) as inbox:
        note = tmp_path / "work/shop/.a.ndjson.claim"
        as_the_code_before(note)
        os.utime(note, (LONG_AGO.timestamp(), LONG_AGO.timestamp()))
        published = len(inbox.publisher.events)
        await inbox.ingest_until_finished(WORK)

        assert inbox.stored == sorted(ROWS)
        assert moment_of(inbox.publisher.events[published:]) == LONG_AGO


async def test_a_claim_of_the_code_before_keeps_it_when_it_grew(tmp_path: Path) -> None:
    """Then the note is written anew, and its time is another one."""
    async with died_after(tmp_path, drop(tmp_path, content=lines(ROWS[:50])), batches=0) as inbox:
        note = tmp_path / "work/shop/.a.ndjson.claim"
        as_the_code_before(note)
        os.utime(note, (LONG_AGO.timestamp(), LONG_AGO.timestamp()))
        append(tmp_path, "work/shop/a.ndjson", ROWS[50:])
        await inbox.ingest_until_finished(WORK)

        assert moment_of(inbox.publisher.events) == LONG_AGO


@pytest.mark.parametrize("prepare", [lambda path: path, as_the_code_before])
async def test_what_the_code_before_finished_can_be_taken_back(
    tmp_path: Path, prepare: Callable[[Path], object]
) -> None:
    inbox = Inbox(tmp_path)
    with inbox.spool:
        await inbox.ingest(drop(tmp_path, content=lines(ROWS[:50])))
        first = moment_of(inbox.publisher.events)
    prepare(tmp_path / "work/.finished/shop")
    following = Inbox(tmp_path)
    with following.spool:
        append(tmp_path, "done/shop/a.ndjson", ROWS[50:])
        assert await following.look_back()

    again = moment_of(following.publisher.events)
    assert again == first if prepare is not as_the_code_before else first < again < first + timedelta(minutes=1)


async def test_a_file_in_work_without_a_note_has_one_moment(tmp_path: Path) -> None:
    before = datetime.now(UTC) - timedelta(minutes=1)
    async with died_after(tmp_path, drop(tmp_path, folder="work"), batches=2) as inbox:
        await inbox.ingest_until_finished(WORK)

        assert inbox.stored == sorted(ROWS)
        assert before < moment_of(inbox.publisher.events) < datetime.now(UTC) + timedelta(minutes=1)
