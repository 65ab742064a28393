"""A file that its owner rewrites is read in place, with a broker in memory."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path

from structlog.testing import capture_logs

from file_watcher.in_place import InPlace, InPlaceFile
from file_watcher.known_rows import KnownRows
from file_watcher.settings import Settings
from shared.batching import BatchLimits
from shared.contracts.errors import UnavailableError
from shared.contracts.event import Envelope
from shared.files.source_formats import NO_FORMATS, Formats
from shared.runtime.readiness import Readiness
from shared.testing.publisher import FakePublisher
from support.inbox import pipeline_to

SETTLED_SECONDS = 60


class Owner:
    """The file's owner, and what its events came to."""

    def __init__(self, path: Path, publisher: FakePublisher) -> None:
        self.path = path
        self.publisher = publisher
        self._age_seconds = SETTLED_SECONDS

    def write(self, content: bytes, *, settled: bool = True) -> None:
        self.path.write_bytes(content)
        if settled:
            # Each time another moment, long enough ago to be over.
            self._age_seconds -= 1
            moment = time.time() - self._age_seconds
            os.utime(self.path, (moment, moment))

    async def until_events(self, number: int) -> list[Envelope]:
        """Return the events once there are as many, and give some more the time to come."""
        async with asyncio.timeout(5):
            while len(self.publisher.events) < number:  # noqa: ASYNC110 - the publisher is a list
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        return self.publisher.events


@asynccontextmanager
async def reading(  # noqa: PLR0913 - what can be said on the command line
    path: Path,
    settings: Settings | None = None,
    publisher: FakePublisher | None = None,
    formats: Formats = NO_FORMATS,
    *,
    name: str = "",
    rotates: bool = False,
    accept_header: bool = False,
) -> AsyncIterator[Owner]:
    """Read the file every few milliseconds until the block ends. What is known of it lasts from block to block."""
    publisher = publisher or FakePublisher()
    stopping = asyncio.Event()
    which = InPlace(path, "shop", name or path.name, rotates=rotates)
    with KnownRows(path.parent / "kept" / f"{which.digest}.sqlite") as known:
        if accept_header:
            known.accept_header()
        file = InPlaceFile(
            which,
            known,
            pipeline=pipeline_to(publisher, settings or Settings(), stopping),
            settings=settings or Settings(),
            readiness=Readiness("file"),
            formats=formats,
        )
        async with asyncio.TaskGroup() as group:
            group.create_task(file.run(stopping, interval_seconds=0.02))
            yield Owner(path, publisher)
            stopping.set()


def bodies(events: list[Envelope]) -> list[bytes]:
    return [event.body for event in events]


class StallingPublisher(FakePublisher):
    """Confirms so many messages, and no more."""

    def __init__(self, messages_max: int) -> None:
        super().__init__()
        self.messages_max = messages_max

    async def publish_batch(self, body: bytes) -> None:
        if len(self.messages) >= self.messages_max:
            raise UnavailableError("away")
        await super().publish_batch(body)


async def test_only_what_is_new_is_published(tmp_path: Path) -> None:
    async with reading(tmp_path / "a.json") as owner:
        owner.write(b'[{"value": 1}, {"value": 2}]')
        first = await owner.until_events(2)
        owner.write(b'[{"value": 2}, {"value": 3}, {"value": 1}]')

        second = await owner.until_events(3)

        assert bodies(first) == [b'{"value": 1}', b'{"value": 2}']
        assert bodies(second[2:]) == [b'{"value": 3}']


async def test_a_row_once_more_is_one_more_event(tmp_path: Path) -> None:
    async with reading(tmp_path / "a.ndjson") as owner:
        owner.write(b'{"v": 1}\n')
        await owner.until_events(1)
        owner.write(b'{"v": 1}\n{"v": 1}\n{"v": 1}\n')

        events = await owner.until_events(3)

        assert bodies(events) == [b'{"v": 1}'] * 3
        assert len({event.event_id for event in events}) == 3


async def test_after_a_restart_only_what_is_new_is_published(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    async with reading(path) as owner:
        owner.write(b"v\n1\n1\n2\n")
        before = {event.event_id for event in await owner.until_events(3)}

    async with reading(path) as owner:
        owner.write(b"v\n2\n1\n3\n1\n")
        after = await owner.until_events(1)

    assert len(before) == 3
    assert bodies(after) == [b"v\n3"]
    assert before.isdisjoint(event.event_id for event in after)


async def test_where_nothing_is_known_any_more_the_same_ids_are_given_again(tmp_path: Path) -> None:
    """Then all rows are published again, and the ledger knows them."""
    path = tmp_path / "a.csv"
    async with reading(path) as owner:
        owner.write(b"v\n1\n1\n2\n")
        before = {event.event_id for event in await owner.until_events(3)}
    for kept in (tmp_path / "kept").iterdir():
        kept.unlink()

    async with reading(path) as owner:
        after = {event.event_id for event in await owner.until_events(3)}

    assert before == after


async def test_a_file_that_grows_is_read_on(tmp_path: Path) -> None:
    """Half a row is none yet, a quote that is open may be closed, and equal rows are other rows."""
    path = tmp_path / "a.csv"
    content, stored = b"v\n", []
    async with reading(path) as owner:
        for more in (b"1\n", b"1\n2", b"5\n", b'"3\n', b'4"\n1\n', b"6\n1\n"):
            content += more
            owner.write(content)
            await asyncio.sleep(0.2)
        stored = bodies(await owner.until_events(7))

    assert sorted(stored) == sorted([b"v\n1", b"v\n1", b"v\n25", b'v\n"3\n4"', b"v\n1", b"v\n6", b"v\n1"])
    assert len({event.event_id for event in owner.publisher.events}) == 7


async def test_equal_rows_of_two_files_are_two_events(tmp_path: Path) -> None:
    keys = []
    for name in ("a.ndjson", "b.ndjson"):
        async with reading(tmp_path / name) as owner:
            owner.write(b'{"v": 1}\n')
            keys += [event.event_id for event in await owner.until_events(1)]
    async with reading(tmp_path / "b.ndjson", name="a.ndjson") as owner:
        same = bodies(await owner.until_events(0))

    assert len(set(keys)) == 2
    assert same == [], "a name of its own says which file it is"


async def test_a_file_that_begins_anew_has_new_rows_only_where_its_owner_says_so(tmp_path: Path) -> None:
    for rotates, expected in ((False, 2), (True, 4)):
        path = tmp_path / f"{rotates}.ndjson"
        async with reading(path, rotates=rotates) as owner:
            owner.write(b'{"v": 1}\n{"v": 2}\n')
            await owner.until_events(2)
            path.unlink()
            owner.write(b'{"v": 1}\n')
            await asyncio.sleep(0.2)
            owner.write(b'{"v": 1}\n{"v": 2}\n')
            events = await owner.until_events(expected)

        assert len(events) == len({event.event_id for event in events}) == expected


async def test_a_log_with_a_line_that_is_no_event_does_not_begin_anew_by_growing(tmp_path: Path) -> None:
    lines = [b'{"v": %d}\n' % number for number in range(1_200)]
    lines[1] = b"no event\n"
    async with reading(tmp_path / "a.ndjson", rotates=True) as owner:
        owner.write(b"".join(lines))
        await owner.until_events(1_199)
        owner.write(b"".join(lines) + b'{"v": -1}\n')

        assert bodies((await owner.until_events(1_200))[1_199:]) == [b'{"v": -1}']


async def test_a_header_that_changed_stops_the_file_until_its_operator_accepts_it(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    with capture_logs() as logs:
        async with reading(path) as owner:
            owner.write(b"id,amount_eur\n1,5\n")
            await owner.until_events(1)
            owner.write(b"id,amount_cent\n1,5\n2,7\n")
            await asyncio.sleep(0.2)
            stopped = len(owner.publisher.events)
        async with reading(path, accept_header=True) as owner:
            accepted = bodies(await owner.until_events(1))

    (error,) = [line for line in logs if line["log_level"] == "error"]
    assert "gone 'amount_eur', new 'amount_cent'" in error["reason"]
    assert stopped == 1
    assert accepted == [b"id,amount_cent\n2,7"]


async def test_an_edited_row_with_an_id_of_its_own_is_published_again(tmp_path: Path) -> None:
    """The ledger must see that the same id came with other content."""
    async with reading(tmp_path / "a.json") as owner:
        owner.write(b'[{"id": 7, "v": 1}]')
        await owner.until_events(1)
        owner.write(b'[{"id": 7, "v": 2}]')

        events = await owner.until_events(2)

        assert [event.idempotency_key for event in events] == ["7", "7"]
        assert bodies(events) == [b'{"id": 7, "v": 1}', b'{"id": 7, "v": 2}']


async def test_the_whole_rows_of_a_half_written_file_count(tmp_path: Path) -> None:
    async with reading(tmp_path / "a.json") as owner:
        owner.write(b'[{"v": 1}, {"v": ', settled=False)
        await owner.until_events(1)
        owner.write(b'[{"v": 1}, {"v": 2}]', settled=False)

        assert bodies(await owner.until_events(2)) == [b'{"v": 1}', b'{"v": 2}']


async def test_a_csv_row_that_may_still_grow_waits(tmp_path: Path) -> None:
    async with reading(tmp_path / "a.csv") as owner:
        owner.write(b"v\n1\n2", settled=False)
        await owner.until_events(1)
        owner.write(b"v\n1\n25\n", settled=False)

        assert bodies(await owner.until_events(2)) == [b"v\n1", b"v\n25"]


async def test_a_csv_row_that_is_cut_off_is_no_row_however_old_the_file_is(tmp_path: Path) -> None:
    async with reading(tmp_path / "a.csv") as owner:
        owner.write(b"v\n1\n2")
        await owner.until_events(1)
        owner.write(b"v\n1\n25\n")

        assert bodies(await owner.until_events(2)) == [b"v\n1", b"v\n25"]


async def test_a_file_is_read_as_its_source_writes_it(tmp_path: Path) -> None:
    """Of a file without a header each line that a partner appends is a row, the first one too."""
    settings = tmp_path / "formats.toml"
    settings.write_text('[shop]\nheader = ["id", "amount"]\ndelimiter = ";"\n')

    async with reading(tmp_path / "a.csv", formats=Formats(settings)) as owner:
        owner.write(b"p-1;10,50\n")
        await owner.until_events(1)
        owner.write(b"p-1;10,50\np-2;20\n")

        events = await owner.until_events(2)

    assert [event.idempotency_key for event in events] == ["p-1", "p-2"]
    assert [event.body for event in events] == [b"id;amount\np-1;10,50", b"id;amount\np-2;20"]
    assert {event.content_type for event in events} == {'text/csv; header=present; delimiter=";"'}


async def test_a_change_within_one_tick_of_the_clock_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    async with reading(path) as owner:
        owner.write(b'[{"v": 1}]', settled=False)
        status = path.stat()
        await owner.until_events(1)
        path.write_bytes(b'[{"v": 2}]')
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

        assert bodies(await owner.until_events(2)) == [b'{"v": 1}', b'{"v": 2}']


async def test_rows_that_were_not_confirmed_are_published_later(tmp_path: Path) -> None:
    publisher = FakePublisher()
    publisher.fault = UnavailableError("away")
    async with reading(tmp_path / "a.json", publisher=publisher) as owner:
        owner.write(b'[{"v": 1}]')
        await asyncio.sleep(0.2)
        publisher.fault = None

        assert bodies(await owner.until_events(1)) == [b'{"v": 1}']


async def test_a_missing_or_unreadable_file_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    async with reading(path) as owner:
        await asyncio.sleep(0.05)
        path.mkdir()
        await asyncio.sleep(0.05)
        path.rmdir()
        owner.write(b"")
        await asyncio.sleep(0.05)
        owner.write(b'[{"v": 1}]')

        assert bodies(await owner.until_events(1)) == [b'{"v": 1}']


async def test_rows_beyond_the_limit_are_not_read(tmp_path: Path) -> None:
    async with reading(tmp_path / "a.ndjson", Settings(files_in_place_rows_max=2)) as owner:
        owner.write(b'{"v": 1}\n{"v": 2}\n{"v": 3}\n')

        assert len(await owner.until_events(2)) == 2


async def test_a_fault_of_the_disk_is_reported_and_does_not_end_the_service(tmp_path: Path) -> None:
    publisher, stopping, readiness = FakePublisher(), asyncio.Event(), Readiness("file")
    path = tmp_path / "a.ndjson"
    path.write_bytes(b"".join(b'{"v": %d}\n' % number for number in range(500)))
    which = InPlace(path, "shop", path.name)
    with KnownRows(tmp_path / "known.sqlite") as known, capture_logs() as logs:
        known._database.execute("PRAGMA max_page_count = 3")
        pipeline = pipeline_to(publisher, Settings(), stopping)
        file = InPlaceFile(which, known, pipeline=pipeline, settings=Settings(), readiness=readiness)
        async with asyncio.TaskGroup() as group:
            group.create_task(file.run(stopping, interval_seconds=0.02))
            async with asyncio.timeout(5):
                while not logs:  # noqa: ASYNC110 - the logs are a list
                    await asyncio.sleep(0.01)
            known._database.execute("PRAGMA max_page_count = 100000")
            await Owner(path, publisher).until_events(500)
            stopping.set()

    assert logs[0]["error"] == "OperationalError"


def moments(events: list[Envelope]) -> list[datetime]:
    return [event.file_at for event in events if event.file_at]


async def test_a_file_has_one_moment_until_it_is_rewritten(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    async with reading(path) as owner:
        owner.write(b"v\n1\n")
        await owner.until_events(1)
        owner.write(b"v\n1\n2\n")
        await owner.until_events(2)
    async with reading(path, publisher=owner.publisher) as owner:
        owner.write(b"v\n1\n2\n3\n")
        await owner.until_events(3)
        owner.write(b"v\n7\n1\n2\n3\n")
        first, second, third, corrected = moments(await owner.until_events(4))

    assert first == second == third < corrected


async def test_a_file_that_begins_anew_is_another_file(tmp_path: Path) -> None:
    path = tmp_path / "a.ndjson"
    async with reading(path, rotates=True) as owner:
        owner.write(b'{"v": 1}\n')
        await owner.until_events(1)
        path.rename(tmp_path / "a.1")
        owner.write(b'{"v": 1}\n{"v": 2}\n')
        before, one, two = moments(await owner.until_events(3))

    assert before < one == two


async def test_the_moment_is_kept_where_a_reading_was_cut_off_in_the_middle(tmp_path: Path) -> None:
    """The rows that were published in the first reading, and those of the next one, after a restart and growth."""
    path, settings = tmp_path / "a.ndjson", Settings(batch=BatchLimits(events_max=1, in_flight_max=1))
    publisher = StallingPublisher(messages_max=2)
    async with reading(path, settings, publisher) as owner:
        owner.write(b'{"v": 1}\n')
        await owner.until_events(1)
        owner.write(b'{"v": 7}\n{"v": 8}\n')
        await owner.until_events(2)
    publisher.messages_max = 100
    owner.write(b'{"v": 7}\n{"v": 8}\n{"v": 9}\n')
    async with reading(path, settings, publisher) as owner:
        events = await owner.until_events(5)

    before, *after = moments(events)
    assert [event.body[-2:-1] for event in events] == [b"1", b"7", b"7", b"8", b"9"]
    assert set(after) == {after[0]} != {before}
