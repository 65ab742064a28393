"""The store against a real PostgreSQL."""

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from datetime import UTC, datetime

import asyncpg
import pytest
from msgspec.structs import replace

from processor.ledger.database import Connections
from processor.ledger.ids import IdAllocator
from processor.ledger.rows import Processed
from processor.ledger.store import Store
from processor.programs.active import NO_PIPELINES
from processor.settings import ProcessorSettings
from processor.stages.transform import transform
from shared.contracts.errors import UnavailableError
from shared.contracts.event import Channel, Envelope, identify, now
from shared.contracts.result import Recorded, RecordStatus, ResultKind
from support.events import event

STORED, DUPLICATE, CONFLICT = ResultKind.STORED, ResultKind.DUPLICATE, ResultKind.CONFLICT


def new_store(connections: Connections, *, copy_events_min: int = 100) -> Store:
    return Store(connections, copy_events_min=copy_events_min)


async def write(store: Store, *events: Envelope) -> list[Recorded]:
    return await store.write([transform(each, NO_PIPELINES) for each in events], processed_at=now())


def kinds(outcomes: list[Recorded]) -> list[ResultKind]:
    return [outcome.kind for outcome in outcomes]


async def test_an_event_becomes_one_raw_event_with_its_bytes_and_one_record(
    connections: Connections, owner: asyncpg.Connection
) -> None:
    body = b'{"amount": 1.10,  "text": "\xc3\xa9"}'

    [outcome] = await write(new_store(connections), event(body, key="a"))

    [row] = await owner.fetch("SELECT * FROM raw_events")
    [record] = await owner.fetch("SELECT * FROM processed_records")
    assert (outcome.raw_event_id, outcome.record_id) == (row["id"], record["id"])
    assert row["body"] == body
    assert (record["status"], record["result_payload"]) == (1, None)


async def test_the_same_id_with_the_same_bytes_or_values_is_a_duplicate_with_the_first_record(
    connections: Connections,
) -> None:
    store = new_store(connections)
    [first] = await write(store, event(b'{"amount": 1.10}', key="a"))

    again = await write(store, event(b'{"amount": 1.10}', key="a"), event(b'{"amount":1.1}', key="a"))

    assert kinds(again) == [DUPLICATE, DUPLICATE]
    assert {outcome.record_id for outcome in again} == {first.record_id}
    assert again[1].result == b'{"amount": 1.10}'


async def test_the_same_id_with_other_content_is_kept_as_one_conflict_and_never_overwrites(
    connections: Connections, owner: asyncpg.Connection
) -> None:
    store = new_store(connections)
    await write(store, event(b'{"amount": 1}', key="a"))

    outcomes = await write(store, event(b'{"amount": 2}', key="a")) + await write(
        store, event(b'{"amount": 2}', key="a")
    )

    assert kinds(outcomes) == [CONFLICT, CONFLICT]
    assert await owner.fetchval("SELECT body FROM raw_events") == b'{"amount": 1}'
    assert [row["body"] for row in await owner.fetch("SELECT body FROM conflicts")] == [b'{"amount": 2}']


async def test_within_a_batch_the_first_of_an_id_is_stored_and_the_others_compared_with_it(
    connections: Connections,
) -> None:
    outcomes = await write(
        new_store(connections),
        event(b'{"v": 1}', key="a"),
        event(b'{"v": 1.0}', key="a"),
        event(b'{"v": true}', key="a"),
    )

    assert kinds(outcomes) == [STORED, DUPLICATE, CONFLICT]
    assert len({outcome.raw_event_id for outcome in outcomes}) == 1


async def test_the_ledger_keeps_the_order_in_which_events_were_given(
    connections: Connections, owner: asyncpg.Connection
) -> None:
    store = new_store(connections)
    keys = [str(number) for number in range(2_500)]

    for start in range(0, 2_500, 500):
        await write(store, *(event(key=key) for key in keys[start : start + 500]))

    rows = await owner.fetch("SELECT idempotency_key FROM raw_events ORDER BY id")
    assert [row["idempotency_key"] for row in rows] == keys


async def test_two_processors_never_give_out_the_same_id(connections: Connections) -> None:
    both = [IdAllocator(connections), IdAllocator(connections)]

    taken = await asyncio.gather(
        *(both[turn % 2].allocate(size) for turn, size in enumerate((1, 999, 3, 2_500, 700, 1_000)))
    )

    numbers = [number for ids in taken for number in ids]
    assert len(set(numbers)) == len(numbers) == 5_203
    assert all(ids == sorted(ids) for ids in taken)


async def test_events_without_an_id_are_never_duplicates(connections: Connections, owner: asyncpg.Connection) -> None:
    outcomes = await write(new_store(connections), event(), event(), event())

    assert kinds(outcomes) == [STORED] * 3
    assert await owner.fetchval("SELECT count(*) FROM raw_events") == 3


async def test_an_unreadable_body_is_kept_as_failed_and_the_others_are_stored(
    connections: Connections, owner: asyncpg.Connection
) -> None:
    outcomes = await write(new_store(connections), event(key="a"), event(b"\xff\x00not json", key="b"), event(key="c"))

    assert [outcome.status for outcome in outcomes] == [RecordStatus.SUCCESS, RecordStatus.FAILED, RecordStatus.SUCCESS]
    assert await owner.fetchval("SELECT body FROM raw_events WHERE idempotency_key = 'b'") == b"\xff\x00not json"


async def test_a_row_that_postgresql_refuses_is_kept_as_failed_and_199_others_are_stored(
    connections: Connections, owner: asyncpg.Connection
) -> None:
    batch = [transform(event(key=str(number)), NO_PIPELINES) for number in range(200)]
    # jsonb refuses this result; the transformation would not have produced it.
    batch[137] = Processed(batch[137].event, RecordStatus.SUCCESS, result=b'{"a": "\\u0000"}')

    outcomes = await new_store(connections).write(batch, processed_at=now())

    assert kinds(outcomes) == [STORED] * 200
    assert Counter(outcome.status for outcome in outcomes) == {RecordStatus.SUCCESS: 199, RecordStatus.FAILED: 1}
    assert outcomes[137].errors[0].detail == "PostgreSQL refused it (SQLSTATE 22P05)"
    assert await owner.fetchval("SELECT count(*) FROM processed_records WHERE status = 2") == 1


async def test_a_batch_that_is_copied_leaves_the_same_rows_as_one_that_is_inserted(
    connections: Connections, owner: asyncpg.Connection
) -> None:
    def batch(name: str) -> list[Envelope]:
        return [
            event(b'{"text": "\xc3\xa9", "amount": 1.10}', key="a", source=f"{name}.a"),
            replace(event(b"\xff\x00 not json", key="b", source=f"{name}.a"), type="t", origin="o"),
            event(b'id,amount\n7,"1,10"', key="c", source=f"{name}.b", content_type="text/csv; header=present"),
            replace(event(key="d", source=f"{name}.a"), occurred_at=datetime.min.replace(tzinfo=UTC)),
            replace(event(key="e", source=f"{name}.a"), received_at=datetime.max.replace(tzinfo=UTC)),
        ]

    copied = await write(new_store(connections, copy_events_min=1), *batch("copied"))
    inserted = await write(new_store(connections, copy_events_min=9), *batch("inserted"))

    compared = """
        SELECT raw.idempotency_key, raw.channel, raw.type, raw.occurred_at, raw.content_type, raw.origin, raw.body,
               raw.received_at = 'infinity' AS for_ever, raw.occurred_at = '-infinity' AS since_ever,
               record.status, record.attempt, record.result_payload, record.errors, record.source_id = raw.source_id,
               record.channel = raw.channel, record.id = raw.id, raw.stored_at IS NOT NULL
        FROM raw_events AS raw JOIN processed_records AS record ON record.raw_event_id = raw.id
        JOIN ingestion_sources AS source ON source.id = raw.source_id WHERE source.name LIKE $1 ORDER BY 1
    """
    assert await owner.fetch(compared, "copied.%") == await owner.fetch(compared, "inserted.%")
    assert [(each.status, each.errors, each.result) for each in copied] == [
        (each.status, each.errors, each.result) for each in inserted
    ]
    assert kinds(copied) == kinds(inserted) == [STORED] * 5
    assert await owner.fetchval("SELECT count(*) FROM raw_events") == 10


async def test_a_copy_that_meets_what_is_there_stores_the_rest_and_is_not_tried_again_by_a_replay(
    connections: Connections, owner: asyncpg.Connection
) -> None:
    async def rolled_back() -> int:
        async with connections.taken() as connection:
            await connection.execute("SELECT pg_stat_force_next_flush()")
        return int(
            await owner.fetchval("SELECT xact_rollback FROM pg_stat_database WHERE datname = current_database()")
        )

    def batch(first: int) -> list[Envelope]:
        return [event(key=str(number)) for number in range(first, first + 10)]

    store = new_store(connections, copy_events_min=2)
    await write(store, *batch(0))
    before = await rolled_back()

    mixed = await write(store, *batch(5))
    replays = [await write(store, *batch(0)) for _ in range(5)]

    assert kinds(mixed) == [DUPLICATE] * 5 + [STORED] * 5
    assert [kinds(replay) for replay in replays] == [[DUPLICATE] * 10] * 5
    assert await rolled_back() == before + 1
    assert await owner.fetchval("SELECT count(*) FROM raw_events") == 15
    assert await owner.fetchval("SELECT count(*) FROM processed_records") == 15


async def test_writers_of_the_same_new_keys_at_the_same_time_store_each_once_without_deadlock(
    connections: Connections, owner: asyncpg.Connection
) -> None:
    stores = [new_store(connections) for _ in range(4)]
    batches = [
        [event(b'{"v": 1}', key=str(number)) for number in range(300)][:: 1 if turn % 2 else -1] for turn in range(8)
    ]

    outcomes = await asyncio.gather(*(write(stores[turn % 4], *batch) for turn, batch in enumerate(batches)))

    counts = Counter(outcome.kind for batch in outcomes for outcome in batch)
    assert counts == {STORED: 300, DUPLICATE: 7 * 300}
    assert await owner.fetchval("SELECT count(*) FROM raw_events") == 300
    assert await owner.fetchval("SELECT count(*) FROM processed_records") == 300


async def test_a_batch_whose_connection_dies_stores_nothing_by_halves_and_can_be_written_again(
    connections: Connections, owner: asyncpg.Connection
) -> None:
    store = new_store(connections)
    await write(store, event(key="warm"))
    async with owner.transaction():
        await owner.execute("LOCK TABLE processed_records IN ACCESS EXCLUSIVE MODE")
        writing = asyncio.ensure_future(write(store, *(event(key=str(number)) for number in range(10))))
        await asyncio.sleep(0.3)
        await owner.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'test'")
        with pytest.raises(UnavailableError):
            await writing

    again = await write(store, *(event(key=str(number)) for number in range(10)))

    assert kinds(again) == [STORED] * 10
    assert await owner.fetchval("SELECT count(*) FROM raw_events") == 11


async def test_a_csv_row_becomes_an_object_of_strings(connections: Connections, owner: asyncpg.Connection) -> None:
    row = event(b'id,amount\n7,"1,10"', content_type="text/csv; header=present")

    await write(new_store(connections), row)

    assert await owner.fetchval("SELECT payload FROM events") == '{"id": "7", "amount": "1,10"}'
    assert await owner.fetchval("SELECT body FROM events") == row.body


async def test_a_ledger_that_was_small_when_it_was_analyzed_is_not_read_from_end_to_end(
    connections: Connections, owner: asyncpg.Connection
) -> None:
    """Plans are kept: one that was made for an empty table would check each foreign key by reading all of it."""

    async def rows_read() -> int:
        read = await owner.fetchval("SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = 'raw_events'")
        return int(read)

    await owner.execute("VACUUM (ANALYZE) raw_events")
    before = await rows_read()
    store = new_store(connections)
    for batch in range(4):
        await write(store, *(event(key=f"{batch}-{number}") for number in range(250)))
    # A session tells what it has read when it ends.
    await connections.close()
    await asyncio.sleep(0.5)

    assert await rows_read() - before == 0


async def test_the_view_shows_the_payload_whether_it_is_the_body_or_a_result(
    connections: Connections, owner: asyncpg.Connection
) -> None:
    await write(new_store(connections), event(b'{"amount": 0.10}', source="shop"), event(b"nonsense", source="shop"))

    rows = await owner.fetch("SELECT source, channel, status, payload FROM events ORDER BY raw_event_id")

    assert sorted(map(tuple, rows), key=str) == sorted(
        [("shop", "http", "SUCCESS", '{"amount": 0.10}'), ("shop", "http", "FAILED", None)], key=str
    )


async def test_the_ledger_keeps_who_sent_an_event_and_whether_its_key_was_derived(
    connections: Connections, owner: asyncpg.Connection
) -> None:
    first = replace(event(b'{"n": 1}', key="a"), sender="bank")
    derived = replace(first, event_id=identify("test", "a", derived=True), derived=True, sender="")
    conflict = replace(first, body=b'{"n": 2}', sender="thief")

    await write(new_store(connections), first, derived, conflict)

    rows = await owner.fetch("SELECT derived, sender FROM events ORDER BY derived")
    assert [tuple(row) for row in rows] == [(False, "bank"), (True, None)]
    assert await owner.fetchval("SELECT sender FROM conflicts") == "thief"


@pytest.mark.parametrize("had_events", [True, False])
async def test_what_was_stored_before_keys_had_name_spaces_is_found_under_its_former_key(
    connections: Connections, owner: asyncpg.Connection, *, had_events: bool
) -> None:
    """A file that is dropped again after the upgrade. In a ledger that began with name spaces nothing can be there."""
    await owner.execute("UPDATE upgrades SET had_events = $1", had_events)
    key = "file:0123456789abcdef0123456789abcdef:1"
    before = replace(event(b'{"n": 1}', key=key), channel=Channel.FILE)
    again = replace(before, event_id=identify("test", key, derived=True), derived=True)
    await write(new_store(connections), before)

    outcomes = await write(new_store(connections), again, event(b'{"n": 2}', key="other"))

    assert kinds(outcomes) == [DUPLICATE if had_events else STORED, STORED]


async def test_a_producers_id_is_no_former_key(connections: Connections, owner: asyncpg.Connection) -> None:
    await owner.execute("UPDATE upgrades SET had_events = true")
    given = event(b'{"n": 1}', key="mid:m:0123456789abcdef")
    derived = replace(
        given, event_id=identify("test", given.idempotency_key, derived=True), derived=True, channel=Channel.QUEUE
    )
    await write(new_store(connections), given)

    assert kinds(await write(new_store(connections), derived)) == [STORED]


async def test_the_view_shows_the_other_events_where_one_body_is_no_jsonb(
    connections: Connections, owner: asyncpg.Connection
) -> None:
    """Such as one that was stored before numbers of this size were refused."""
    await write(new_store(connections), event(b'{"amount": 1}', key="a"), event(b'{"amount": 2}', key="b"))
    await owner.execute("UPDATE raw_events SET body = $1 WHERE idempotency_key = 'a'", b'{"amount": 0e2147483648}')

    rows = await owner.fetch("SELECT payload FROM events ORDER BY idempotency_key")

    assert [row["payload"] for row in rows] == [None, '{"amount": 2}']


async def test_a_pool_without_a_connection_left_is_an_outage_like_any_other(
    processor_settings: ProcessorSettings,
    owner: asyncpg.Connection,  # noqa: ARG001 - an empty ledger
) -> None:
    """PostgreSQL stands still, and others hold every connection: it may work later, and is no end of the process."""
    settings = processor_settings.model_copy(update={"postgres_seconds_max": 0.5})
    connections = await Connections.open(settings, name="test")
    store = new_store(connections)
    await write(store, event(b'{"n": 1}', key="a"))
    async with AsyncExitStack() as held:
        for _ in range(settings.postgres_pool_max):
            await held.enter_async_context(connections.taken())

        with pytest.raises(UnavailableError):
            await write(store, event(b'{"n": 2}', key="b"))

    [outcome] = await write(store, event(b'{"n": 2}', key="b"))
    await connections.close()
    assert outcome.kind is STORED
