"""The feed on a real PostgreSQL, as the role that only reads: everything that is stored, and nothing missed."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import asyncpg
import msgspec
import pytest
from msgspec.structs import replace

from api_gateway.http.problems import HttpProblem
from api_gateway.queries.feed import BEGINNING, LOOK, ROWS, Feed
from api_gateway.queries.ledger import Ledger, QueryLimit, RunningQuery, open_reader
from processor.ledger.database import Connections
from processor.ledger.rows import Processed
from processor.ledger.store import Store
from processor.programs.active import NO_PIPELINES
from processor.stages.transform import transform
from shared.auth.scopes import EVERY_SOURCE, Scope
from shared.contracts.event import Envelope, now
from shared.contracts.result import RecordStatus
from shared.settings import PostgresPoolSettings
from support.active_pipelines import active, bundle_of, set_of
from support.events import event
from support.feed import Follower, add, add_source, order, position
from support.registered import clear, create_tables, register
from support.servers import ROLE_PASSWORD, Servers

RULES = 'etlpay = 1\nname = "p"\nsource = "shop-*"\n[[table]]\nname = "t"\n[table.columns]\nid = "/id"\n'


@pytest.fixture
async def feed(ledger: Servers, owner: asyncpg.Connection) -> AsyncIterator[Feed]:  # noqa: ARG001 - an empty ledger
    """The feed of an empty ledger."""
    url = ledger.postgres_url("etlpay_reader")
    settings = PostgresPoolSettings(postgres_url=url, postgres_password=ROLE_PASSWORD, postgres_seconds_max=5)
    reader = Ledger(await open_reader(settings), page_bytes_max=10_000, seconds_max=10)
    yield Feed(reader)
    await reader.close()


@pytest.fixture
async def other(ledger: Servers) -> AsyncIterator[asyncpg.Connection]:
    """A second connection of the owner's."""
    connection = await asyncpg.connect(ledger.owner_url)
    yield connection
    await connection.close()


async def store(connections: Connections, *events: Envelope, copy_events_min: int = 100) -> None:
    batch = [transform(each, NO_PIPELINES) for each in events]
    await Store(connections, copy_events_min=copy_events_min).write(batch, processed_at=now())


async def feed_rows(owner: asyncpg.Connection) -> list[tuple[int, int]]:
    return [tuple(row) for row in await owner.fetch("SELECT first_id, last_id FROM feed ORDER BY xid, first_id")]


async def test_whoever_has_read_everything_keeps_a_position_and_gets_what_is_new(
    connections: Connections, feed: Feed
) -> None:
    follower = Follower(feed)
    empty = await follower.read_page()
    await store(connections, event(key="a"))
    first = await follower.read_page()
    nothing = await follower.read_page()
    await store(connections, event(b'{"amount": 1.10,  "x": 1}', key="b", source="shop"))
    [record] = (await follower.read_page()).items

    assert (empty.items, empty.more) == (nothing.items, nothing.more) == ([], False)
    assert nothing.next == first.next == first.items[-1].position
    assert bytes(record.result_payload) == b'{"amount": 1.10,  "x": 1}'
    assert (record.source, record.channel, record.status, record.attempt) == ("shop", "http", "SUCCESS", 1)
    assert (record.pipeline, record.pipeline_version, record.row_count, record.cause) == (None,) * 4


async def test_a_transaction_that_commits_late_is_not_missed(
    owner: asyncpg.Connection, other: asyncpg.Connection, feed: Feed
) -> None:
    """A later one that committed before it waits for it, and comes after it."""
    source = await add_source(owner)
    follower = Follower(feed)
    late = other.transaction()
    await late.start()
    await add(other, [2], source)
    await add(owner, [1], source)

    assert await follower.read() == []
    await late.commit()
    await add(owner, [3], source)

    assert await follower.read() == [2, 1, 3]


async def test_a_transaction_that_has_stored_nothing_yet_is_not_missed(
    owner: asyncpg.Connection, other: asyncpg.Connection, feed: Feed
) -> None:
    source = await add_source(owner)
    follower = Follower(feed)
    late = other.transaction()
    await late.start()
    await other.execute("SELECT pg_current_xact_id()")
    await add(owner, [1], source)
    before = await follower.read()
    await add(other, [2], source)
    await late.commit()

    assert before == []
    assert await follower.read() == [2, 1]


async def test_what_is_rolled_back_holds_nothing_up(
    owner: asyncpg.Connection, other: asyncpg.Connection, feed: Feed
) -> None:
    source = await add_source(owner)
    transaction = other.transaction()
    await transaction.start()
    await add(other, [1], source)
    await add(owner, [2], source)
    await transaction.rollback()

    assert await Follower(feed).read() == [2]


@pytest.mark.parametrize("limit", [1, 7, 500])
@pytest.mark.parametrize("copy_events_min", [2, 10_000])
async def test_a_batch_over_several_blocks_of_ids_is_there_once(
    connections: Connections, owner: asyncpg.Connection, feed: Feed, limit: int, copy_events_min: int
) -> None:
    await store(connections, event(key="before"))
    await store(connections, *(event(key=str(n)) for n in range(2_100)), copy_events_min=copy_events_min)
    follower = Follower(feed, limit=limit)
    follower.position = position((await feed.page(EVERY_SOURCE, source=None, after=BEGINNING, limit=1)).next)

    stored = [row["id"] for row in await owner.fetch("SELECT id FROM processed_records ORDER BY id")]

    if limit == 1:
        stored = stored[:20]
        for _ in stored[1:]:
            await follower.read_page()
    else:
        await follower.read()
    assert follower.ids == stored[1:]
    assert len(await feed_rows(owner)) == 4


async def test_of_a_batch_with_duplicates_and_a_refused_event_everything_new_is_there_once(
    connections: Connections, owner: asyncpg.Connection, feed: Feed
) -> None:
    """A batch that is halved is stored by several statements of one transaction; their ids lie across one another."""
    await store(connections, *(event(key=str(n)) for n in range(0, 60, 3)))
    follower = Follower(feed, limit=7)
    await follower.read()
    batch = [transform(event(key=str(n)), NO_PIPELINES) for n in range(60)]
    batch[37] = Processed(batch[37].event, RecordStatus.SUCCESS, result=b'{"a": "\\u0000"}')

    await Store(connections, copy_events_min=100).write(batch, processed_at=now())

    found = await follower.read()
    stored = [row["id"] for row in await owner.fetch("SELECT id FROM processed_records")]
    assert sorted(follower.ids) == sorted(stored)
    assert len(found) == 40
    assert [record.status for record in follower.seen if record.idempotency_key == "37"] == ["FAILED"]
    assert len(await feed_rows(owner)) > 2
    places = [order(position(record.position)) for record in follower.seen]
    assert places == sorted(set(places))


async def test_a_later_attempt_comes_as_a_record_of_its_own_with_what_its_pipeline_made(
    connections: Connections, owner: asyncpg.Connection, feed: Feed
) -> None:
    await clear(owner)
    await create_tables(owner, active(RULES))
    await register(owner, "p", bundle_of(RULES))
    held = set_of(active(RULES), held={"p": "asked for"})
    sent = event(b'{"id": "a"}', source="shop-1", key="a")
    await Store(connections, copy_events_min=2).write([transform(sent, held)], processed_at=now())
    await owner.execute(
        "INSERT INTO processed_records (id, raw_event_id, source_id, channel, status, attempt, processed_at, "
        "pipeline_id, row_count) SELECT id + 1, id, source_id, channel, 1, 2, now(), 1, 1 FROM processed_records"
    )
    follower = Follower(feed)
    await follower.read()
    await clear(owner)

    assert [(each.status, each.attempt, each.pipeline, each.row_count, each.cause) for each in follower.seen] == [
        ("HELD", 1, "p", 0, "p:held"),
        ("SUCCESS", 2, "p", 1, None),
    ]


@pytest.mark.parametrize(
    ("source", "scope", "mine"),
    [
        ("b", EVERY_SOURCE, {"b"}),
        ("none", EVERY_SOURCE, set()),
        (None, Scope(("b", "c-*")), {"b", "c-1", "c-2"}),
        (None, Scope(("none*",)), set()),
    ],
)
@pytest.mark.parametrize("limit", [1, 3, 50])
async def test_a_follower_gets_the_records_of_its_sources_and_goes_on_over_the_others(  # noqa: PLR0913, PLR0917 - the cases
    connections: Connections, feed: Feed, source: str | None, scope: Scope, mine: set[str], limit: int
) -> None:
    names = ["a", "a", "a", "b", "a", "c-1", "c-2", "c"]
    for number in range(30):
        batch = [event(key=f"{number}-{n}", source=names[number * n % len(names)]) for n in range(number % 7 + 1)]
        await store(connections, *batch)
    everything = Follower(feed)
    await everything.read()
    follower = Follower(feed, scope=scope, source=source, limit=limit)

    found = await follower.read()

    assert found == [record.id for record in everything.seen if record.source in mine]
    assert follower.position.xid == everything.position.xid


async def test_a_page_looks_at_few_records_of_others_however_many_there_are(
    owner: asyncpg.Connection, feed: Feed
) -> None:
    foreign, own = await add_source(owner, "foreign"), await add_source(owner, "own")
    await add(owner, range(1, 10_001), foreign)
    await add(owner, [10_001], own)
    follower = Follower(feed, source="own", limit=70)

    first = await follower.read_page()

    assert (first.items, first.more, position(first.next).id) == ([], True, 700)
    assert await follower.read() == [10_001]
    assert len(follower.pages) == 15


async def test_a_page_looks_at_few_transactions_of_others_however_many_there_are(
    owner: asyncpg.Connection, feed: Feed
) -> None:
    foreign, own = await add_source(owner, "foreign"), await add_source(owner, "own")
    await add(owner, range(1, 2_501), foreign)
    await owner.execute("TRUNCATE feed")
    await owner.execute("INSERT INTO feed (xid, first_id, last_id) SELECT 3, n, n FROM generate_series(1, 2500) AS n")
    await add(owner, [2_501], own)
    follower = Follower(feed, source="own", limit=500)

    assert await follower.read() == [2_501]
    assert [position(page.next).id for page in follower.pages] == [1_001, 2_001, 2_501]


async def test_pages_end_where_payloads_grow_too_large_and_a_larger_record_is_a_page(
    connections: Connections, feed: Feed
) -> None:
    sizes = [4_000, 4_000, 4_000, 30_000, 10]
    await store(connections, *(event(b'{"x":"%b"}' % (b"y" * size), key=str(size + n)) for n, size in enumerate(sizes)))
    follower = Follower(feed)

    async with RunningQuery(QueryLimit(1, share=1, seconds_max=1), ""):
        await follower.read()

    assert sorted(len(bytes(each.result_payload)) - 8 for each in follower.seen) == sorted(sizes)
    assert len(follower.pages) >= 3
    large = [page for page in follower.pages if any(len(bytes(each.result_payload)) > 10_000 for each in page.items)]
    assert [len(page.items) for page in large] == [1]


async def test_what_was_stored_before_the_feed_comes_by_id_and_what_came_since_follows(
    owner: asyncpg.Connection, feed: Feed
) -> None:
    """A row of the feed may name records of others; those come again in their own row."""
    source, foreign = await add_source(owner), await add_source(owner, "foreign")
    await add(owner, [90_001, 1, 40_000], source)
    await add(owner, range(50, 150), foreign)
    await owner.execute("UPDATE feed SET first_id = 1, last_id = 90001 WHERE first_id = 1")
    await owner.execute("DELETE FROM feed WHERE first_id > 1")
    await add(owner, [500], source)
    follower = Follower(feed, source="s", limit=2)

    await follower.read()

    assert follower.ids == [1, 500, 40_000, 90_001, 500]


async def test_a_record_that_was_erased_is_passed_over(owner: asyncpg.Connection, feed: Feed) -> None:
    source = await add_source(owner)
    for number in range(1, 6):
        await add(owner, [number], source)
    follower = Follower(feed, limit=2)
    await follower.read_page()
    await owner.execute("DELETE FROM processed_records WHERE id IN (2, 3, 5)")

    assert await follower.read() == [4]


async def test_a_position_of_a_ledger_that_was_restored_is_refused(owner: asyncpg.Connection, feed: Feed) -> None:
    """Also where another transaction has got its number, and its ids, since."""
    source = await add_source(owner)
    await add(owner, [1], source)
    await add(owner, [2], source)
    follower = Follower(feed)
    await follower.read()
    reached = follower.position
    last = "(SELECT max(xid) FROM feed)"

    await owner.execute(f"UPDATE feed SET stored_at = stored_at + interval '1 microsecond' WHERE xid = {last}")  # noqa: S608 - a constant
    for stale in (reached, replace(reached, xid=2**62), replace(reached, first_id=7)):
        with pytest.raises(HttpProblem) as raised:
            await feed.page(EVERY_SOURCE, source=None, after=stale, limit=1)
        assert (raised.value.type.status, raised.value.type.name) == (410, "restored")

    follower.position = BEGINNING
    assert await follower.read() == [1, 2]


async def test_a_feed_of_another_server_is_not_given(owner: asyncpg.Connection, feed: Feed) -> None:
    await owner.execute("INSERT INTO feed VALUES (2::bigint ^ 61, 1, 1)")

    with pytest.raises(HttpProblem) as raised:
        await feed.page(EVERY_SOURCE, source=None, after=BEGINNING, limit=1)

    assert raised.value.type.status == 503


@pytest.fixture
async def many_records(owner: asyncpg.Connection) -> asyncpg.Connection:
    """Forty thousand records of a hundred sources, stored one by one."""
    await owner.execute(
        """
        INSERT INTO ingestion_sources (name) SELECT 's' || n FROM generate_series(1, 100) AS n;
        INSERT INTO raw_events (id, event_id, source_id, channel, received_at, content_type, body)
        SELECT n, gen_random_uuid(), 1 + n % 100, 1, now(), 'application/json', '{}'
        FROM generate_series(1, 40000) AS n;
        INSERT INTO processed_records (id, raw_event_id, source_id, channel, status, processed_at)
        SELECT n, n, 1 + n % 100, 1, 1, now() FROM generate_series(1, 40000) AS n;
        TRUNCATE feed;
        INSERT INTO feed (xid, first_id, last_id) SELECT n, n, n FROM generate_series(1, 40000) AS n;
        ANALYZE;
        """
    )
    return owner


@pytest.mark.parametrize("mode", ["custom", "generic"])
async def test_a_page_runs_along_the_keys_of_the_feed_and_of_records(
    many_records: asyncpg.Connection, mode: str
) -> None:
    look = LOOK.format(mine="true")
    await many_records.execute(f"PREPARE rows (bigint, bigint, int) AS {ROWS}")
    await many_records.execute(f"PREPARE look (bigint[], bigint[], bigint, int) AS {look}")
    await many_records.execute(f"SET plan_cache_mode = force_{mode}_plan")
    rows = await many_records.fetch("EXPLAIN EXECUTE rows (20000, 20000, 501)")
    rows += await many_records.fetch("EXPLAIN EXECUTE look ('{20000}', '{21000}', 500, 50)")
    plan = "\n".join(row[0] for row in rows)

    assert "feed_pkey" in plan
    assert "processed_records_pkey" in plan
    assert "Seq Scan" not in plan


def test_a_position_is_no_longer_than_a_request_may_have() -> None:
    longest = replace(BEGINNING, xid=2**63 - 1, first_id=2**63 - 1, id=2**63 - 1, stored_at=datetime.now(UTC))

    assert len(longest.encode()) <= 80
    assert len(replace(longest, stored_at=datetime.now(UTC) + timedelta(days=200_000)).encode()) <= 80
    assert msgspec.json.encode(longest.encode()).isascii()
