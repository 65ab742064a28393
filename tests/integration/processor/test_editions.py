"""Two editions of a file, of which the later one wins: live, from what is owed, and in plans over stored events."""

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta

import asyncpg
import msgspec
import pytest

from processor.ledger.database import Connections
from processor.pipelines.stored import compare_versions
from processor.programs.active import ActiveSet
from shared.contracts.event import Channel, Envelope
from support.holding import Processor, hold
from support.typed import active_pipeline, create_tables, event_of, rows_of, statuses

RATES = active_pipeline(
    'etlpay = 1\nname = "rates"\nsource = "rates"\n[[table]]\nname = "rates"\nmode = "latest"\nkey = ["day"]\n'
    'newest = "file_at"\n[table.columns]\nday = "/day"\nrate = "/rate"\n'
    'file_at = { from = "@file_at", type = "timestamp" }\nfile = "@file"\n'
)
FIRST = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
SECOND = FIRST + timedelta(microseconds=1)
EXPECTED = [("d-1", "old", FIRST, "one.csv"), ("d-2", "new", SECOND, "two.csv"), ("d-3", "new", SECOND, "two.csv")]


def edition(file: str, file_at: datetime, rates: dict[str, str]) -> list[Envelope]:
    """Return the events of a file."""
    return [
        msgspec.structs.replace(
            event_of({"day": day, "rate": rate}, key=f"{file}/{day}", source="rates"),
            channel=Channel.FILE,
            origin=f"{file}:{row}",
            file_at=file_at,
        )
        for row, (day, rate) in enumerate(rates.items(), 2)
    ]


EDITIONS = [
    edition("one.csv", FIRST, {"d-1": "old", "d-2": "old"}),
    edition("two.csv", SECOND, {"d-2": "new", "d-3": "new"}),
]


@pytest.fixture
async def processor(connections: Connections, owner: asyncpg.Connection) -> AsyncIterator[Processor]:
    """A processor of the pipeline."""
    await create_tables(owner, RATES)
    yield Processor(connections, ActiveSet([RATES]))
    await owner.execute('DROP TABLE IF EXISTS rows."rates_1" CASCADE')


async def found(owner: asyncpg.Connection) -> Sequence[tuple[object, ...]]:
    return await rows_of(owner, "rates", "day, rate, file_at, file")


@pytest.mark.parametrize("editions", [EDITIONS, EDITIONS[::-1]], ids=["in order", "the later one first"])
@pytest.mark.parametrize("together", [False, True])
async def test_the_later_edition_wins_in_whatever_order_they_are_processed(
    processor: Processor, owner: asyncpg.Connection, editions: list[list[Envelope]], *, together: bool
) -> None:
    for events in [[*editions[0], *editions[1]]] if together else editions:
        await processor.write(*events)

    assert await found(owner) == EXPECTED
    stored = await owner.fetch("SELECT DISTINCT file_at FROM events ORDER BY 1")
    assert [row["file_at"] for row in stored] == [FIRST, SECOND]


async def test_a_large_edition_that_is_copied_wins_too(processor: Processor, owner: asyncpg.Connection) -> None:
    days = [f"d-{number:03}" for number in range(150)]
    for file, file_at in (("two.csv", SECOND), ("one.csv", FIRST)):
        await processor.write(*edition(file, file_at, dict.fromkeys(days, file)))

    assert await found(owner) == [(day, "two.csv", SECOND, "two.csv") for day in days]
    assert await owner.fetchval("SELECT count(*) FROM raw_events WHERE file_at = $1", FIRST) == 150


@pytest.mark.parametrize("editions", [EDITIONS, EDITIONS[::-1]], ids=["in order", "the later one first"])
async def test_what_was_held_ends_in_the_same_rows(
    processor: Processor, owner: asyncpg.Connection, editions: list[list[Envelope]]
) -> None:
    await hold(owner, "rates", held=True)
    await processor.turns()
    for events in editions:
        await processor.write(*events)
    assert await statuses(owner) == {"HELD": 4}
    await hold(owner, "rates", held=False)
    await processor.turns()

    assert await statuses(owner) == {"SUCCESS": 4}
    assert await found(owner) == EXPECTED


async def test_a_row_that_comes_again_in_a_later_file_is_a_duplicate_and_changes_nothing(
    processor: Processor, owner: asyncpg.Connection
) -> None:
    for events in EDITIONS:
        await processor.write(*events)
    later = FIRST + timedelta(days=1)
    again = await processor.write(*(msgspec.structs.replace(event, file_at=later) for event in EDITIONS[0]))

    assert {outcome.kind.name for outcome in again} == {"DUPLICATE"}
    assert await found(owner) == EXPECTED
    assert await owner.fetchval("SELECT max(file_at) FROM raw_events") == SECOND


async def test_a_plan_makes_of_stored_events_what_was_made_of_them(
    processor: Processor, owner: asyncpg.Connection
) -> None:
    for events in EDITIONS:
        await processor.write(*events)
    assert RATES.program is not None

    comparison = await compare_versions(owner, ["rates"], (RATES.program, RATES.program), events_max=100)

    assert comparison is not None
    assert (comparison.events, comparison.failed, comparison.differing) == (4, 0, {})
    assert comparison.filled["rates"]["file_at"] == 4
