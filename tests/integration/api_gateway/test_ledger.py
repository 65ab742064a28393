"""The gateway's queries on a real PostgreSQL, as the role that only reads."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import asyncpg
import msgspec
import pytest

from api_gateway.queries.events import RECORD_OF_EVENT
from api_gateway.queries.ledger import Ledger, QueryLimit, RunningQuery, open_reader
from api_gateway.queries.parameters import read_cursor
from api_gateway.queries.records import RECORD, RecordCursor, RecordFilter, Records, page_query
from api_gateway.queries.sources import SourceCursor, Sources
from processor.ledger.database import Connections
from processor.ledger.rows import failed
from processor.ledger.store import Store
from processor.programs.active import NO_PIPELINES
from processor.stages.transform import transform
from shared.auth.scopes import EVERY_SOURCE, Scope
from shared.cache import Cache
from shared.contracts.csv_row import CSV_ROW
from shared.contracts.errors import OverloadedError, UnavailableError
from shared.contracts.event import Envelope
from shared.contracts.result import RecordStatus
from shared.settings import PostgresPoolSettings
from support.events import event
from support.servers import ROLE_PASSWORD, Servers

NO_CACHE = Cache(None, seconds=1)
START = datetime(2026, 11, 23, 8, tzinfo=UTC)
FILE_AT = START - timedelta(microseconds=1)


def reader_settings(ledger: Servers, **more: str) -> PostgresPoolSettings:
    url = more.get("url", ledger.postgres_url("etlpay_reader"))
    return PostgresPoolSettings(postgres_url=url, postgres_password=ROLE_PASSWORD, postgres_seconds_max=5)


@pytest.fixture
async def reader(ledger: Servers, owner: asyncpg.Connection) -> AsyncIterator[Ledger]:  # noqa: ARG001 - an empty ledger
    """The gateway's view of an empty ledger."""
    reader = Ledger(await open_reader(reader_settings(ledger)), page_bytes_max=10_000, seconds_max=10)
    yield reader
    await reader.close()


@pytest.fixture
def records(reader: Ledger) -> Records:
    """The records of that ledger, without a cache."""
    return Records(reader, NO_CACHE)


@pytest.fixture
def sources(reader: Ledger) -> Sources:
    """The sources of that ledger."""
    return Sources(reader)


async def store(connections: Connections, *events: Envelope, at: datetime = START, fail: bool = False) -> None:
    batch = [failed(each, "broken") if fail else transform(each, NO_PIPELINES) for each in events]
    await Store(connections, copy_events_min=2).write(batch, processed_at=at)


async def test_a_record_is_what_was_stored_byte_for_byte(connections: Connections, records: Records) -> None:
    body = b'{"amount": 1.10,  "text": "\xc3\xa9"}'
    sent = msgspec.structs.replace(event(body, key="a"), type="payment", occurred_at=START, file_at=FILE_AT)
    await store(connections, sent)

    record = await records.read(RECORD_OF_EVENT, sent.event_id)

    assert record is not None
    assert bytes(record.result_payload) == body
    assert (record.source, record.channel, record.status, record.attempt) == ("test", "http", "SUCCESS", 1)
    assert (record.idempotency_key, record.type, record.occurred_at) == ("a", "payment", START)
    assert record.file_at == FILE_AT
    assert record.processed_at == START
    assert await records.read(RECORD, record.id) == record


@pytest.mark.parametrize("moment", [datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)])
async def test_the_first_and_the_last_moment_are_moments_like_others(
    connections: Connections, records: Records, owner: asyncpg.Connection, moment: datetime
) -> None:
    sent = msgspec.structs.replace(event(), occurred_at=moment)
    await store(connections, sent)

    record = await records.read(RECORD_OF_EVENT, sent.event_id)

    assert record is not None
    assert record.occurred_at == moment
    assert await owner.fetchval("SELECT isfinite(occurred_at) FROM raw_events")


async def test_an_infinite_moment_that_is_stored_already_is_read_as_the_moment_it_was(
    connections: Connections, records: Records, owner: asyncpg.Connection
) -> None:
    sent = event()
    await store(connections, sent)
    await owner.execute("UPDATE raw_events SET occurred_at = '-infinity'")

    record = await records.read(RECORD_OF_EVENT, sent.event_id)

    assert record is not None
    assert record.occurred_at == datetime.min.replace(tzinfo=UTC)


async def test_a_failed_record_has_its_reasons_and_no_result(connections: Connections, records: Records) -> None:
    sent = event(key="a")
    await store(connections, sent, fail=True)

    record = await records.read(RECORD_OF_EVENT, sent.event_id)

    assert record is not None
    assert record.status == "FAILED"
    assert bytes(record.result_payload) == b"null"
    assert [(problem.pointer, problem.detail) for problem in record.errors] == [("", "broken")]


async def test_a_result_that_is_not_the_body_is_the_stored_one(connections: Connections, records: Records) -> None:
    sent = event(b"a,b\n1,2", key="a", content_type=CSV_ROW)
    await store(connections, sent)

    record = await records.read(RECORD_OF_EVENT, sent.event_id)

    assert record is not None
    assert msgspec.json.decode(record.result_payload) == {"a": "1", "b": "2"}


async def test_what_is_not_there_is_none(records: Records, sources: Sources) -> None:
    assert await records.read(RECORD, 2**63 - 1) is None
    assert await records.read(RECORD_OF_EVENT, event().event_id) is None
    assert (await records.page(RecordFilter(), after=None, limit=5)).items == []
    assert (await sources.page(EVERY_SOURCE, after=None, limit=5)).items == []


async def test_pages_hold_every_record_once_newest_first_while_new_ones_arrive(
    connections: Connections, records: Records
) -> None:
    """Three records share each moment, so that the order within a moment counts too."""
    for moment in range(5):
        await store(connections, *[event(key=f"{moment}-{i}") for i in range(3)], at=START + timedelta(seconds=moment))
    seen: list[str | None] = []
    after: RecordCursor | None = None

    while True:
        page = await records.page(RecordFilter(), after=after, limit=4)
        seen += [record.idempotency_key for record in page.items]
        await store(connections, event(key=f"new-{len(seen)}"), at=START + timedelta(hours=1))
        if page.next is None:
            break
        after = read_cursor(page.next, RecordCursor)

    assert [key.partition("-")[0] for key in seen if key] == [
        str(moment) for moment in (4, 3, 2, 1, 0) for _ in range(3)
    ]
    assert len(set(seen)) == 15


async def test_the_filters_filter(connections: Connections, records: Records) -> None:
    await store(connections, event(key="1", source="a"), at=START)
    await store(connections, event(key="2", source="b"), at=START + timedelta(seconds=1), fail=True)
    await store(connections, event(key="3", source="a"), at=START + timedelta(seconds=2))

    async def keys(**which: object) -> list[str | None]:
        page = await records.page(RecordFilter(**which), after=None, limit=10)  # type: ignore[arg-type]  # filters of any type
        return [record.idempotency_key for record in page.items]

    assert await keys() == ["3", "2", "1"]
    assert await keys(source="a") == ["3", "1"]
    assert await keys(source="nobody") == []
    assert await keys(status=RecordStatus.FAILED) == ["2"]
    assert await keys(status=RecordStatus.SUCCESS, source="a") == ["3", "1"]
    assert await keys(since=START + timedelta(seconds=1)) == ["3", "2"]
    assert await keys(until=START + timedelta(seconds=1)) == ["1"]


async def test_a_page_of_large_payloads_ends_early_and_the_next_goes_on(
    connections: Connections, records: Records
) -> None:
    for number in range(4):
        large = event(b'{"x":"%b"}' % (b"y" * 4_500), key=str(number))
        await store(connections, large, at=START + timedelta(seconds=number))

    first = await records.page(RecordFilter(), after=None, limit=10)
    assert first.next is not None
    second = await records.page(RecordFilter(), after=read_cursor(first.next, RecordCursor), limit=10)

    assert [record.idempotency_key for record in first.items] == ["3", "2"]
    assert [record.idempotency_key for record in second.items] == ["1", "0"]
    assert second.next is None


async def test_a_payload_over_the_limit_of_a_page_is_a_page_of_its_own(
    connections: Connections, records: Records
) -> None:
    """Also behind records that have no payload, and in the middle of small ones."""
    large = event(b'{"x":"%b"}' % (b"y" * 20_000), key="large")
    await store(connections, event(key="small"), at=START)
    await store(connections, large, at=START + timedelta(seconds=1))
    await store(connections, event(key="failed"), at=START + timedelta(seconds=2), fail=True)
    pages: list[list[str | None]] = []
    after: RecordCursor | None = None

    async with RunningQuery(QueryLimit(1, share=1, seconds_max=1), ""):
        while True:
            page = await records.page(RecordFilter(), after=after, limit=10)
            pages.append([record.idempotency_key for record in page.items])
            if page.next is None:
                break
            after = read_cursor(page.next, RecordCursor)
        alone = await records.read(RECORD_OF_EVENT, large.event_id)

    assert pages == [["failed"], ["large"], ["small"]]
    assert alone is not None
    assert bytes(alone.result_payload) == large.body


async def test_only_one_large_payload_is_in_memory_at_a_time(connections: Connections, records: Records) -> None:
    """It stays until its answer is read, which is when the query ends."""
    large = event(b'{"x":"%b"}' % (b"y" * 20_000), key="large")
    await store(connections, large, event(key="small"))
    running = QueryLimit(4, share=1, seconds_max=0.1)

    async with RunningQuery(running, "first"):
        await records.read(RECORD_OF_EVENT, large.event_id)
        async with RunningQuery(running, "second"):
            assert await records.page(RecordFilter(status=RecordStatus.FAILED), after=None, limit=10)
            with pytest.raises(OverloadedError):
                await records.read(RECORD_OF_EVENT, large.event_id)
    async with RunningQuery(running, "second"):
        assert await records.read(RECORD_OF_EVENT, large.event_id) is not None


async def test_sources_come_in_pages_in_order(connections: Connections, sources: Sources) -> None:
    for name in "cab":
        await store(connections, event(key="1", source=name))

    first = await sources.page(EVERY_SOURCE, after=None, limit=2)
    assert first.next is not None
    second = await sources.page(EVERY_SOURCE, after=read_cursor(first.next, SourceCursor), limit=2)

    assert [source.name for source in first.items + second.items] == ["c", "a", "b"]
    assert second.next is None


async def test_a_scope_has_its_own_sources_in_pages(connections: Connections, sources: Sources) -> None:
    for name in ("shop-2", "bank", "shop_1", "shop", "shop-1", "100%"):
        await store(connections, event(key="1", source=name))
    scope = Scope(("shop-*", "bank", "none"))

    first = await sources.page(scope, after=None, limit=2)
    assert first.next is not None
    second = await sources.page(scope, after=read_cursor(first.next, SourceCursor), limit=2)

    assert [source.name for source in first.items + second.items] == ["shop-2", "bank", "shop-1"]
    assert second.next is None


async def keys_of(records: Records, which: RecordFilter, limit: int) -> list[str | None]:
    """Return the ids of all pages."""
    found: list[str | None] = []
    after = None
    while True:
        page = await records.page(which, after=after, limit=limit)
        found += [record.idempotency_key for record in page.items]
        if page.next is None:
            return found
        after = read_cursor(page.next, RecordCursor)


@pytest.mark.parametrize("limit", [1, 3, 100])
@pytest.mark.parametrize(
    ("sources", "mine"),
    [
        (("a", "c"), {"a", "c"}),
        (("b*",), {"b", "b-1", "b-2"}),
        (("b-*", "a", "none"), {"a", "b-1", "b-2"}),
        (("none", "no*"), set()),
        (("%", "_", "a%"), set()),
    ],
)
async def test_pages_of_a_scope_hold_every_record_of_its_sources_once_newest_first(
    connections: Connections, records: Records, sources: tuple[str, ...], mine: set[str], limit: int
) -> None:
    """Sources take turns in stretches of different lengths, and three records share each moment."""
    names = ["a", "b", "b-1", "b-2", "c", "foreign"]
    sent = [names[number * number // 7 % len(names)] for number in range(60)]
    for number, name in enumerate(sent):
        at = START + timedelta(seconds=number // 3)
        await store(connections, event(key=str(number), source=name), at=at, fail=number % 5 == 0)
    expected = [number for number in reversed(range(60)) if sent[number] in mine]

    found = await keys_of(records, RecordFilter(scope=Scope(sources)), limit)
    failed_ones = await keys_of(records, RecordFilter(status=RecordStatus.FAILED, scope=Scope(sources)), limit)
    good = RecordFilter(status=RecordStatus.SUCCESS, since=START + timedelta(seconds=5), scope=Scope(sources))

    assert sorted(map(int, found), reverse=True) == expected  # type: ignore[arg-type]  # each has an id
    assert [number // 3 for number in map(int, found)] == [number // 3 for number in expected]  # type: ignore[arg-type]  # each has an id
    assert {int(key) for key in failed_ones if key} == {number for number in expected if number % 5 == 0}
    later = {number for number in expected if number % 5 and number >= 15}
    assert {int(key) for key in await keys_of(records, good, limit) if key} == later


@pytest.mark.parametrize("statement", ["DELETE FROM raw_events", "CREATE TABLE mine (id int)"])
async def test_the_readers_connection_cannot_write(ledger: Servers, owner: asyncpg.Connection, statement: str) -> None:  # noqa: ARG001 - an empty ledger
    pool = await open_reader(reader_settings(ledger))

    with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
        async with pool.taken() as connection:
            await connection.execute(statement)

    await pool.close()


@pytest.mark.parametrize("user", ["nobody", "etlpay_reader"])
async def test_a_ledger_that_cannot_be_reached_is_unavailable(ledger: Servers, user: str) -> None:
    """Whether the role is refused or nobody listens."""
    url = ledger.postgres_url(user) if user == "nobody" else "postgresql://etlpay_reader@127.0.0.1:1/etlpay"
    reader = Ledger(await open_reader(reader_settings(ledger, url=url)), page_bytes_max=1, seconds_max=10)

    with pytest.raises(UnavailableError):
        await Records(reader, NO_CACHE).read(RECORD, 1)

    assert await reader.epoch() is None
    await reader.close()


async def test_a_connection_that_postgresql_has_ended_is_replaced_before_the_next_query(
    reader: Ledger, records: Records, owner: asyncpg.Connection
) -> None:
    assert await reader.epoch()

    ended = await owner.fetch(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'api-gateway'"
    )
    await asyncio.sleep(0.2)

    assert len(ended) == 1
    assert await records.read(RECORD, 1) is None


AFTER = RecordCursor(START, 10_000)


@pytest.mark.parametrize(
    ("which", "after", "index"),
    [
        (RecordFilter(), None, "processed_records_by_time"),
        (RecordFilter(), AFTER, "processed_records_by_time"),
        (RecordFilter(since=START, until=START + timedelta(days=1)), AFTER, "processed_records_by_time"),
        (RecordFilter(status=RecordStatus.SUCCESS), AFTER, "processed_records_by_time"),
        (RecordFilter(source="s7"), None, "processed_records_by_source"),
        (RecordFilter(source="s7"), AFTER, "processed_records_by_source"),
        (RecordFilter(status=RecordStatus.FAILED), AFTER, "processed_records_failed"),
        (RecordFilter(scope=Scope(("s7", "s8"))), None, "processed_records_by_source"),
        (RecordFilter(scope=Scope(("s7*", "s8"))), AFTER, "processed_records_by_source"),
        (RecordFilter(scope=Scope(("none",))), None, "processed_records_by_source"),
        (RecordFilter(scope=Scope(("s7*",)), status=RecordStatus.FAILED), AFTER, "processed_records_failed"),
    ],
)
async def test_each_query_runs_along_the_index_that_is_meant_for_it(
    many_records: asyncpg.Connection, which: RecordFilter, after: RecordCursor | None, index: str
) -> None:
    query, parameters = page_query(which, after=after, limit=50, bytes_max=1_000_000)

    plan = "\n".join(row[0] for row in await many_records.fetch(f"EXPLAIN {query}", *parameters))

    assert index in plan
    assert "Seq Scan on processed_records" not in plan
    assert "Seq Scan on raw_events" not in plan


@pytest.fixture
async def many_records(owner: asyncpg.Connection) -> asyncpg.Connection:
    """Forty thousand records of a hundred sources, one in a thousand FAILED."""
    await owner.execute(
        """
        INSERT INTO ingestion_sources (name) SELECT 's' || n FROM generate_series(1, 100) AS n;
        INSERT INTO raw_events (id, event_id, source_id, channel, received_at, content_type, body)
        OVERRIDING SYSTEM VALUE
        SELECT n, gen_random_uuid(), 1 + n % 100, 1, now(), 'application/json', '{}'
        FROM generate_series(1, 40000) AS n;
        INSERT INTO processed_records (id, raw_event_id, source_id, channel, status, processed_at)
        OVERRIDING SYSTEM VALUE
        SELECT n, n, 1 + n % 100, 1, CASE WHEN n % 1000 = 0 THEN 2 ELSE 1 END,
               timestamptz '2026-11-23' + n * interval '1 s'
        FROM generate_series(1, 40000) AS n;
        ANALYZE;
        """
    )
    return owner
