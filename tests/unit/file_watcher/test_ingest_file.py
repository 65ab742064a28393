"""The way of one file, from its claim to done/ or failed/, with a broker in memory."""

import asyncio
import gzip
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from file_watcher.ingest_file import FileIngester
from file_watcher.settings import Settings
from file_watcher.spool.entry import SpoolEntry
from shared.contracts.errors import OutcomeUnknownError, UnavailableError
from shared.contracts.event import Envelope
from shared.testing.publisher import FakePublisher
from support.inbox import SETTINGS, Inbox, pipeline_to


@pytest.fixture
def inbox(tmp_path: Path) -> Iterator[Inbox]:
    inbox = Inbox(tmp_path)
    with inbox.spool:
        yield inbox


def keys(events: list[Envelope]) -> set[str]:
    return {event.idempotency_key for event in events}


async def test_every_row_is_published_before_the_file_is_done(inbox: Inbox) -> None:
    content = b"".join(b'{"id": "%d"}\n' % number for number in range(1_005))

    await inbox.ingest(inbox.drop("a.ndjson", content))

    assert keys(inbox.publisher.events) == {str(number) for number in range(1_005)}
    assert len(inbox.publisher.events) == 1_005
    assert len(inbox.publisher.messages) == 101
    assert inbox.names("done") == {"a.ndjson"}
    assert inbox.names("work") == set()


async def test_a_bad_row_does_not_disturb_the_other_rows(inbox: Inbox) -> None:
    await inbox.ingest(inbox.drop("a.ndjson", b'{"a": 1}\nsecret\n[1]\n{"a": 2}\n'))

    assert inbox.bodies == [b'{"a": 1}', b'{"a": 2}']
    assert inbox.names("done") == {"a.ndjson", "a.ndjson.rejects.ndjson"}
    assert inbox.rejects("done/shop/a.ndjson.rejects.ndjson") == [
        (2, "must be valid JSON"),
        (3, "must be a JSON object"),
    ]


async def test_no_row_after_another_header_is_published(inbox: Inbox) -> None:
    """Also none of the batches that would follow: their columns are in another order."""
    rows = [b"%d,5\n" % number for number in range(150)]
    content = b"id,amount\n" + b"".join(rows) + b"amount,id\n" + b"".join(rows)

    await inbox.ingest(inbox.drop("a.csv", content))

    assert keys(inbox.publisher.events) == {str(number) for number in range(150)}
    assert len(inbox.publisher.events) == 150
    assert [line for line, _ in inbox.rejects("failed/shop/a.csv.rejects.ndjson")] == [152]


async def test_the_rows_before_a_cut_are_published_and_the_file_fails(inbox: Inbox) -> None:
    content = gzip.compress(b"".join(b'{"id": "%d"}\n' % number for number in range(100)))[:-1]

    await inbox.ingest(inbox.drop("a.ndjson.gz", content))

    assert len(inbox.publisher.events) == 100
    ((line, reason),) = inbox.rejects("failed/shop/a.ndjson.gz.rejects.ndjson")
    assert line == 101
    assert "cut off" in reason


@pytest.mark.parametrize(
    ("name", "content", "source"),
    [
        ("a.txt", b"{}", "shop"),
        ("a.json", b"", "shop"),
        ("a.ndjson", b"", "shop"),
        ("a.csv", b"", "shop"),
        ("a.csv.gz", gzip.compress(b" \n"), "shop"),
        ("a.json", b"not json", "shop"),
        ("a.csv", b"a,a\n1,2\n", "shop"),
        ("a.csv.gz", b"a,b\n1,2\n", "shop"),
        ("a.ndjson", b"nothing\nhere\n", "shop"),
        ("a.json", b"{}", "no\nsource"),
        ("large.ndjson", b'{"a": 1}\n' * 200, "shop"),
    ],
)
async def test_a_file_of_which_nothing_can_be_taken_fails_with_the_reason(
    inbox: Inbox, name: str, content: bytes, source: str
) -> None:
    await inbox.ingest(inbox.drop(name, content, source=source), Settings(files_bytes_max=1_000))

    assert inbox.publisher.events == []
    assert inbox.names("failed") == {name, f"{name}.rejects.ndjson"}
    assert inbox.rejects(f"failed/{source}/{name}.rejects.ndjson")


@pytest.mark.parametrize(("name", "content"), [("a.json", b"[]"), ("a.csv", b"id,amount\n")])
async def test_a_file_without_rows_is_done(inbox: Inbox, name: str, content: bytes) -> None:
    await inbox.ingest(inbox.drop(name, content))

    assert inbox.names("done") == {name}


@pytest.mark.parametrize("name", ["a.ndjson", "a.csv", "a.json"])
async def test_reading_again_gives_the_same_events(inbox: Inbox, name: str) -> None:
    """Rows without an id of their own: the same content has the same events, other content has others."""
    content = {"a.ndjson": b'{"v": 1}\n{"v": 1}\n', "a.csv": b"v\n1\n1\n", "a.json": b'[{"v": 1}, {"v": 1}]'}[name]

    await inbox.ingest(inbox.drop(name, content))
    first = {event.event_id for event in inbox.publisher.events}
    await inbox.ingest(inbox.drop(f"other-{name}", content))
    again = {event.event_id for event in inbox.publisher.events}
    await inbox.ingest(inbox.drop(name, content + b"\n"))
    other = {event.event_id for event in inbox.publisher.events}

    assert len(first) == 2
    assert again == first
    assert len(other) == 4


async def test_a_file_waits_while_the_broker_is_away(inbox: Inbox) -> None:
    entry = inbox.drop("a.json", b'[{"a": 1}]')
    inbox.publisher.fault = UnavailableError("away")

    async with asyncio.TaskGroup() as group:
        ingester = group.create_task(inbox.ingest(entry))
        await asyncio.sleep(0.3)
        assert inbox.names("work") == {"a.json"}
        assert not ingester.done()
        inbox.publisher.fault = None

    assert inbox.bodies == [b'{"a": 1}']
    assert inbox.names("done") == {"a.json"}


async def test_a_file_that_is_not_confirmed_stays_in_work_when_the_service_stops(inbox: Inbox) -> None:
    entry = inbox.drop("a.ndjson", b'{"a": 1}\nbroken\n')
    inbox.publisher.fault = OutcomeUnknownError("no confirmation")

    async with asyncio.TaskGroup() as group:
        group.create_task(inbox.ingest(entry))
        await asyncio.sleep(0.1)
        inbox.stopping.set()

    assert inbox.names("done") == inbox.names("failed") == set()
    inbox.stopping.clear()
    inbox.publisher.fault = None
    (resumed,) = inbox.spool.scan().found
    await inbox.ingest(resumed)
    assert inbox.bodies == [b'{"a": 1}']
    assert inbox.names("done") == {"a.ndjson", "a.ndjson.rejects.ndjson"}
    assert inbox.rejects("done/shop/a.ndjson.rejects.ndjson") == [(2, "must be valid JSON")]


class WritingPublisher(FakePublisher):
    """The file is written to while its first batch is published."""

    def __init__(self, path: Path, content: bytes) -> None:
        super().__init__()
        self.path = path
        self.content = content

    async def publish_batch(self, body: bytes) -> None:
        if not self.messages:
            self.path.write_bytes(self.content)
        await super().publish_batch(body)


@pytest.mark.parametrize(
    ("before", "after", "distinct"),
    [(b'{"v": 1}\n{"v', b'{"v": 1}\n{"v": 2}\n{"v": 3}\n', 3), (b'{"v": 1}\n', b'{"v": 8}\n{"v": 9}\n', 3)],
    ids=["grown", "rewritten"],
)
async def test_a_file_that_changes_while_it_is_read_is_read_again(
    inbox: Inbox, before: bytes, after: bytes, distinct: int
) -> None:
    """What it grew by is taken, the rows published before keep their keys, and no reject of half a row remains."""
    entry = inbox.drop("a.ndjson", before)
    inbox.publisher = WritingPublisher(inbox.root / "work/shop/a.ndjson", after)

    await inbox.ingest_until_finished(entry)

    assert len({event.event_id for event in inbox.publisher.events}) == distinct
    assert set(after.splitlines()) <= set(inbox.bodies)
    assert inbox.names("done") == {"a.ndjson"}


async def test_no_row_is_made_of_the_halves_of_two(inbox: Inbox) -> None:
    """The file is rewritten in another order while it is read: what is in the reader's buffer ends within a row."""
    rows = [b'{"id": "%d", "text": "%b"}' % (number, b"x" * (number % 97)) for number in range(20_000)]
    entry = inbox.drop("a.ndjson", b"\n".join(rows))
    inbox.publisher = WritingPublisher(inbox.root / "work/shop/a.ndjson", b"\n".join(reversed(rows)))

    await inbox.ingest_until_finished(entry)

    assert set(inbox.bodies) == set(rows)
    assert inbox.names("done") == {"a.ndjson"}


async def test_the_origin_of_an_odd_name_can_be_stored(inbox: Inbox) -> None:
    await inbox.ingest(inbox.drop("a\n\udcff\u202e.json", b'{"a": 1}'))

    assert [event.origin for event in inbox.publisher.events] == ["a\\n\\udcff\\u202e.json:1"]


async def test_no_log_line_holds_a_name_that_cannot_be_written(inbox: Inbox) -> None:
    """A reader of the log knows no lone surrogates."""
    with capture_logs() as logs:
        await inbox.ingest(inbox.drop("a\udcff.json", b'{"a": 1}'))
        await inbox.ingest(inbox.drop("b\udcff.json", b'{"a": 1}'))
        await inbox.ingest(inbox.drop("c\udcff.txt", b"", source="s\udcff"))

    assert len(logs) == 6
    assert str([list(line.values()) for line in logs]).isprintable()
    assert "".join(str(value) for line in logs for value in line.values()).encode()


async def test_a_file_without_a_source_is_refused_unopened(inbox: Inbox) -> None:
    (inbox.root / "inbox/stray.json").write_bytes(b"{}")
    pipeline = pipeline_to(inbox.publisher, SETTINGS, inbox.stopping)

    ingester = FileIngester(inbox.spool, pipeline, inbox.watch, SETTINGS, stopping=inbox.stopping)
    await ingester.refuse(SpoolEntry("inbox", "", "stray.json"), "no")

    assert inbox.names("failed") == {"stray.json", "stray.json.rejects.ndjson"}
    assert inbox.rejects("failed/stray.json.rejects.ndjson") == [(0, "no")]
