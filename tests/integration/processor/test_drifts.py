"""What pipelines do not read, in the ledger: each event once, whatever is written again."""

import uuid
from collections.abc import Mapping

import asyncpg

from processor.cache import CacheFeeder
from processor.ledger.database import Connections
from processor.ledger.drifts import DriftCount, DriftKey, DriftStore
from processor.programs.active import ActiveSet
from processor.stages.drift import DriftCounts, DriftRecorder
from processor.stages.processing import Received, Stages
from processor.stages.transform import transform
from shared.cache import Cache
from shared.contracts.drift import DriftKind
from shared.contracts.event import Envelope
from shared.contracts.receipt import start_of
from shared.runtime.service import running
from support.holding import Processor, hold
from support.typed import SHOP, active_pipeline, payment

HOUR = 493_000
MEMBER = DriftKind.UNKNOWN_MEMBER
NOTED = active_pipeline(SHOP.replace("[[table]]", '[drift]\nunknown_member = "note"\n[[table]]', 1))


def portion(**events: int) -> Mapping[DriftKey, DriftCount]:
    return {DriftKey(1, HOUR, MEMBER, f"/{name}"): DriftCount(number, number) for name, number in events.items()}


async def stored(owner: asyncpg.Connection) -> dict[str, int]:
    rows = await owner.fetch("SELECT place, sum(events)::int AS events FROM drifts GROUP BY 1 ORDER BY 1")
    return {row["place"]: row["events"] for row in rows}


async def test_a_portion_is_added_once_however_often_it_is_written(
    connections: Connections, owner: asyncpg.Connection
) -> None:
    store, instance = DriftStore(connections), uuid.uuid4()

    for number, counts in ((1, portion(a=2)), (1, portion(a=2)), (2, portion(a=3, b=1)), (2, portion(a=3, b=1))):
        await store.add(instance, number, counts)
    await store.add(uuid.uuid4(), 1, portion(a=10))

    assert await stored(owner) == {"/a": 15, "/b": 1}
    rows = await owner.fetch(
        "SELECT hour, kind, number, example FROM drifts WHERE instance = $1 ORDER BY place", instance
    )
    assert [tuple(row) for row in rows] == [(start_of(HOUR), 2, 2, 3), (start_of(HOUR), 2, 2, 1)]


async def test_the_longest_place_fits_into_the_index(connections: Connections, owner: asyncpg.Connection) -> None:
    place = "".join(chr(0x1F300 + number * 7 % 1_000) for number in range(300))

    await DriftStore(connections).add(uuid.uuid4(), 1, {DriftKey(1, HOUR, MEMBER, place): DriftCount(1, 1)})

    assert await stored(owner) == {place: 1}


async def test_an_event_that_comes_again_counts_once(
    processor: Processor, connections: Connections, owner: asyncpg.Connection
) -> None:
    counts = DriftCounts()
    stages = Stages(processor.store, CacheFeeder(Cache(None, seconds=1)), lambda: ActiveSet([NOTED]), counts)
    events = [payment(number, 1, discount="1.10") for number in range(3)]

    async def write(*batch: Envelope) -> None:
        await stages.write([Received(each, acknowledged=False) for each in batch])

    async with running(DriftRecorder(DriftStore(connections), counts, seconds=60)):
        await write(*events, events[0])
        await write(*events)
        assert await stored(owner) == {}

    assert await stored(owner) == {"/discount": 3}
    example = await owner.fetchval("SELECT event_id FROM raw_events WHERE id = (SELECT example FROM drifts)")
    assert example in {each.event_id for each in events}


async def test_a_held_event_counts_when_it_is_processed(processor: Processor, owner: asyncpg.Connection) -> None:
    processor.pipelines = (NOTED,)
    processor.transform = transform
    await hold(owner, "shop", held=True)
    await processor.turns()
    await processor.write(payment("a", 1, discount="1.10"))
    assert processor.drift.take() == {}

    await hold(owner, "shop", held=False)
    await processor.turns()

    [(key, count)] = processor.drift.take().items()
    assert (key.pipeline_id, key.place, count.events) == (1, "/discount", 1)
    assert count.example == await owner.fetchval("SELECT id FROM raw_events")
