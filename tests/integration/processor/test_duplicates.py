"""Comparing with what is stored takes little memory, whatever is stored; what it answers does not depend on that."""

import tracemalloc
from collections.abc import Sequence

import asyncpg
import pytest
from msgspec.structs import replace

from processor.ledger.database import Connections
from processor.ledger.store import Store
from processor.programs.active import NO_PIPELINES
from processor.stages.transform import transform
from shared.contracts.csv_row import CSV_ROW
from shared.contracts.event import Channel, Envelope, now
from shared.contracts.result import Recorded, ResultKind
from support.events import event

STORED, DUPLICATE, CONFLICT = ResultKind.STORED, ResultKind.DUPLICATE, ResultKind.CONFLICT
KIB, MIB = 1024, 1024 * 1024


async def write(store: Store, *events: Envelope, acknowledged: bool = False) -> list[Recorded]:
    return await store.write(
        [transform(each, NO_PIPELINES, acknowledged=acknowledged) for each in events], processed_at=now()
    )


def kinds(outcomes: Sequence[Recorded]) -> list[ResultKind]:
    return [outcome.kind for outcome in outcomes]


def large(number: int, *, blank: str = "", size: int = MIB) -> bytes:
    """Return a body of about `size` bytes; `blank` changes its bytes and not its value."""
    return b'{"n":%s%d, "fill": "%s"}' % (blank.encode(), number, b"x" * size)


async def peak_bytes(store: Store, *events: Envelope) -> tuple[int, list[Recorded]]:
    """Write; return also what Python took for it at most."""
    tracemalloc.start()
    try:
        outcomes = await write(store, *events)
        return tracemalloc.get_traced_memory()[1], outcomes
    finally:
        tracemalloc.stop()


async def fill(store: Store, count: int, size: int = MIB) -> None:
    for number in range(count):
        await write(store, event(large(number, size=size), key=str(number)))


async def test_tiny_events_under_the_ids_of_large_ones_are_conflicts_and_take_no_memory(
    connections: Connections, owner: asyncpg.Connection
) -> None:
    """Anybody may send them: 13 kB of such events took a processor to 871 MB."""
    store = Store(connections, copy_events_min=100)
    await fill(store, 100)

    peak, outcomes = await peak_bytes(store, *(event(key=str(number)) for number in range(100)))

    assert kinds(outcomes) == [CONFLICT] * 100
    assert peak < 4 * MIB
    assert await owner.fetchval("SELECT count(*) FROM conflicts") == 100


@pytest.mark.parametrize("queue", ["none", "fast"])
async def test_large_duplicates_and_conflicts_are_told_apart_one_after_the_other(
    connections: Connections, owner: asyncpg.Connection, queue: str
) -> None:
    store = Store(connections, copy_events_min=100)
    await fill(store, 30)
    same = [event(large(number), key=str(number)) for number in range(10)]
    equal = [event(large(number, blank=" "), key=str(number)) for number in range(10, 20)]
    other = [event(large(number + 1), key=str(number)) for number in range(20, 30)]

    outcomes = await write(store, *same, *equal, *other, acknowledged=queue == "fast")

    assert kinds(outcomes) == [DUPLICATE] * 20 + [CONFLICT] * 10
    assert await owner.fetchval("SELECT count(*) FROM conflicts") == 10


async def test_the_answers_to_a_batch_repeat_no_more_than_they_may(connections: Connections) -> None:
    """What is beyond it is answered with what was sent, which has the same value."""
    store = Store(connections, copy_events_min=100, answered_bytes_max=300 * KIB)
    await fill(store, 5, 100 * KIB)
    again = [event(large(number, blank=" ", size=100 * KIB), key=str(number)) for number in range(5)]

    outcomes = await write(store, *again)

    assert kinds(outcomes) == [DUPLICATE] * 5
    assert sorted(len(outcome.result or b"") > 0 for outcome in outcomes) == [False] * 3 + [True] * 2


async def test_what_its_own_batch_repeats_is_bounded_as_well(connections: Connections) -> None:
    """One body of blanks, and thousands of short ones of the same value."""
    store = Store(connections, copy_events_min=100, answered_bytes_max=200 * KIB)
    first = event(b'{"v":1%s}' % (b" " * 60 * KIB), key="a")

    outcomes = await write(store, first, *(event(b'{"v":1}', key="a") for _ in range(500)))

    assert kinds(outcomes) == [STORED] + [DUPLICATE] * 500
    assert sum(len(outcome.result or b"") for outcome in outcomes) <= 200 * KIB


async def test_nobody_is_answered_who_does_not_wait_or_has_a_conflict(connections: Connections) -> None:
    store = Store(connections, copy_events_min=100)
    await write(store, event(b'{"v": 1}', key="a"))

    [conflict] = await write(store, event(b'{"v": 2}', key="a"))
    [queued] = await write(store, event(b'{"v":1.0}', key="a"), acknowledged=True)
    [waiting] = await write(store, event(b'{"v":1.0}', key="a"))

    assert [each.result for each in (conflict, queued, waiting)] == [None, None, b'{"v": 1}']


async def test_the_result_of_a_row_is_the_answer_to_an_object_of_the_same_value(connections: Connections) -> None:
    store = Store(connections, copy_events_min=100)
    row = replace(event(b"id,amount\n7,1.10", key="7", content_type=CSV_ROW), channel=Channel.FILE)
    await write(store, row, acknowledged=True)

    same, equal = await write(store, row, event(b'{"amount":"1.10","id":"7"}', key="7"))

    assert kinds([same, equal]) == [DUPLICATE] * 2
    assert same.result == equal.result == b'{"id": "7", "amount": "1.10"}'


async def test_a_body_that_names_a_member_twice_is_the_same_only_byte_for_byte(connections: Connections) -> None:
    """Half of all parsers read the first of the two, and half the last: other amounts, once equal by value."""
    store = Store(connections, copy_events_min=100)
    twice = b'{"amount":"999.00","amount":"1.00"}'
    await write(store, event(twice, key="a"), event(b'{"amount":"1.00"}', key="b"))

    outcomes = await write(
        store,
        event(twice, key="a"),
        event(b'{"amount":"1.00"}', key="a"),
        event(b'{"amount":"999.00"}', key="a"),
        event(twice, key="b"),
        event(b'{"amount" : "1.00"}', key="b"),
    )

    assert kinds(outcomes) == [DUPLICATE, CONFLICT, CONFLICT, CONFLICT, DUPLICATE]


async def test_one_id_in_a_batch_with_many_bodies_is_compared_with_the_one_that_is_stored(
    connections: Connections, owner: asyncpg.Connection
) -> None:
    store = Store(connections, copy_events_min=100)
    await write(store, event(b'{"v":10}', key="a"))

    outcomes = await write(
        store,
        event(b'{"v":10}', key="a"),
        event(b'{"v":11}', key="a"),
        event(b'{"v":1e1}', key="a"),
        event(b'{"v":11}', key="a"),
        event(key="new"),
        event(b'{ "v":10 }', key="a"),
    )

    assert kinds(outcomes) == [DUPLICATE, CONFLICT, DUPLICATE, CONFLICT, STORED, DUPLICATE]
    assert await owner.fetchval("SELECT count(*) FROM conflicts") == 1


async def test_more_sources_than_are_remembered_are_looked_up_again_and_kept_by_nobody(
    connections: Connections, owner: asyncpg.Connection
) -> None:
    store = Store(connections, copy_events_min=100, source_names_max=100)

    for batch in range(20):
        await write(store, *(event(source=f"{batch}.{number}") for number in range(50)))
    [again] = await write(store, event(source="0.0"))

    assert len(store._sources._ids) == 100
    assert again.kind is STORED
    assert await owner.fetchval("SELECT count(*) FROM ingestion_sources") == 1_000


async def test_looking_a_source_up_again_draws_no_number_for_it(
    connections: Connections, owner: asyncpg.Connection
) -> None:
    """Their numbers are integers, and a producer may name more sources than are remembered, over and over."""
    for _ in range(5):
        await write(Store(connections, copy_events_min=100), *(event(source=str(number)) for number in range(20)))

    await write(Store(connections, copy_events_min=100), event(source="new"))

    assert await owner.fetchval("SELECT max(id) FROM ingestion_sources") == 21
