"""The audit's books on a real PostgreSQL: each acceptance is settled once, each receipt counts once."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import asyncpg
import msgspec
import pytest

from api_gateway.http.problems import AUDIT_TOO_LARGE, HttpProblem
from api_gateway.queries.audit import Audit, AuditCursor, AuditPart
from api_gateway.queries.ledger import Ledger, open_reader
from api_gateway.queries.parameters import read_cursor
from api_gateway.queries.sources import Sources
from api_gateway.schemas import SourcePage
from processor.ledger.database import Connections
from processor.ledger.receipts import ReceiptStore
from processor.ledger.store import Store
from processor.programs.active import NO_PIPELINES
from processor.stages.transform import transform
from shared.auth.scopes import EVERY_SOURCE, Scope
from shared.contracts.audit import AuditLine, AuditPage
from shared.contracts.errors import OverloadedError, UnavailableError
from shared.contracts.event import Channel, Envelope, now, stamp
from shared.contracts.receipt import Count, Progress, Receipt, Unconfirmed, hour_of
from shared.contracts.result import Recorded
from shared.settings import PostgresPoolSettings
from support.events import event
from support.servers import ROLE_PASSWORD, Servers

HOUR = datetime(2026, 11, 23, 8, tzinfo=UTC)
T = HOUR + timedelta(minutes=5)


def arrived(
    key: str, body: bytes = b'{"v": 1}', *, at: datetime = T, source: str = "shop", channel: Channel = Channel.HTTP
) -> Envelope:
    return msgspec.structs.replace(event(body, key=key, source=source), received_at=at, channel=channel)


async def deliver(store: Store, *events: Envelope, acknowledged: bool = True) -> list[Recorded]:
    batch = [transform(each, NO_PIPELINES, acknowledged=acknowledged) for each in events]
    return await store.write(batch, processed_at=now())


def receipt(*counts: Count, number: int = 1, instance: uuid.UUID | None = None) -> Receipt:
    """Return a receipt as the code before wrote it."""
    return Receipt(service="test", instance=instance or uuid.uuid4(), number=number, counts=counts)


def told(
    instance: uuid.UUID, number: int, *, at: datetime = T, open_since: datetime | None = None, closing: bool = False
) -> Receipt:
    """Return a receipt that counts nothing, and says how far its process has come."""
    progress = Progress(
        channel=Channel.HTTP,
        began_at=T - timedelta(hours=3),
        open_since=open_since or at,
        taken_at=at,
        interval_seconds=10,
        closing=closing,
    )
    return Receipt(service="api-gateway", instance=instance, number=number, counts=(), progress=progress)


def part(
    hour: datetime = HOUR,
    *,
    source: str | None = None,
    after: AuditCursor | None = None,
    scope: Scope = EVERY_SOURCE,
) -> AuditPart:
    """Return the whole of an hour."""
    return AuditPart(hour, hour, hour + timedelta(hours=1), source, after, scope)


async def settled(owner: asyncpg.Connection) -> list[int]:
    return [row["disposition"] for row in await owner.fetch("SELECT disposition FROM settlements ORDER BY 1")]


@pytest.fixture
async def audit(ledger: Servers) -> AsyncIterator[Audit]:
    settings = PostgresPoolSettings(postgres_url=ledger.postgres_url("etlpay_reader"), postgres_password=ROLE_PASSWORD)
    reader = Ledger(await open_reader(settings), page_bytes_max=1_000_000, seconds_max=10)
    yield Audit(reader, seconds_max=5)
    await reader.close()


async def test_a_redelivery_settles_nothing(connections: Connections, owner: asyncpg.Connection) -> None:
    store = Store(connections, copy_events_min=2)
    message = [arrived("a"), arrived("b", at=stamp(T, 1))]

    for _ in range(3):
        await deliver(store, *message)

    assert await settled(owner) == []


async def test_another_acceptance_of_the_same_event_is_settled_once_however_often_it_is_delivered(
    connections: Connections, owner: asyncpg.Connection
) -> None:
    store = Store(connections, copy_events_min=2)
    await deliver(store, arrived("a"))
    later = T + timedelta(seconds=1)
    again = [arrived("a", at=later), arrived("a", b'{"v": 2}', at=stamp(later, 1))]

    for _ in range(3):
        await deliver(store, *again)

    assert await settled(owner) == [2, 3]


async def test_each_process_may_accept_an_event_in_the_same_microsecond(
    connections: Connections, owner: asyncpg.Connection
) -> None:
    store = Store(connections, copy_events_min=2)

    for channel in (Channel.HTTP, Channel.FILE, Channel.QUEUE):
        await deliver(store, arrived("a", channel=channel))

    assert await owner.fetchval("SELECT count(*) FROM raw_events") == 1
    assert await settled(owner) == [2, 2]


async def test_one_id_twice_in_a_message_is_one_event_and_one_settlement(
    connections: Connections, owner: asyncpg.Connection
) -> None:
    message = [arrived("a"), arrived("a", at=stamp(T, 1))]

    await deliver(Store(connections, copy_events_min=2), *message, *message)

    assert await owner.fetchval("SELECT count(*) FROM raw_events") == 1
    assert await settled(owner) == [2]


async def test_what_a_caller_waits_for_is_told_to_it_and_not_settled(
    connections: Connections, owner: asyncpg.Connection
) -> None:
    store = Store(connections, copy_events_min=2)

    await deliver(store, arrived("a"), acknowledged=False)
    await deliver(store, arrived("a", at=T + timedelta(seconds=1)), acknowledged=False)

    assert await settled(owner) == []


async def test_what_could_not_be_settled_is_when_the_batch_is_written_again(
    connections: Connections, owner: asyncpg.Connection
) -> None:
    """What is new is committed before the rest is settled; between the two a processor may die."""
    store = Store(connections, copy_events_min=2)
    batch = (arrived("new"), arrived("a", at=stamp(T, 1)))
    await deliver(store, arrived("a"))
    await owner.execute("REVOKE INSERT ON settlements FROM etlpay_processor")
    try:
        with pytest.raises(UnavailableError, match="42501"):
            await deliver(store, *batch)
    finally:
        await owner.execute("GRANT INSERT ON settlements TO etlpay_processor")
    assert await owner.fetchval("SELECT count(*) FROM settlements") == 0

    await deliver(store, *batch)

    assert await owner.fetchval("SELECT count(*) FROM raw_events") == 2
    [settlement] = await owner.fetch("SELECT received_at FROM settlements")
    assert settlement["received_at"] == stamp(T, 1)


async def test_a_receipt_counts_once_however_often_it_is_kept(
    connections: Connections, owner: asyncpg.Connection
) -> None:
    book = ReceiptStore(connections)
    told = receipt(Count("shop", Channel.HTTP, hour_of(T), (1, 2, 3, 4, 5, 6)))

    await asyncio.gather(*(book.keep(told) for _ in range(4)))

    rows = await owner.fetch("SELECT stored, duplicate, conflict, refused, queued, unknown, hour FROM receipts")
    assert [tuple(row) for row in rows] == [(1, 2, 3, 4, 5, 6, HOUR)]


async def test_the_books_of_an_hour_stand_side_by_side(
    connections: Connections, audit: Audit, owner: asyncpg.Connection
) -> None:
    store, book = Store(connections, copy_events_min=2), ReceiptStore(connections)
    await deliver(store, arrived("a"), arrived("bad", b"nonsense", at=stamp(T, 1)), arrived("a", at=stamp(T, 2)))
    await deliver(store, arrived("next hour", at=HOUR + timedelta(hours=1)))
    await book.keep(receipt(Count("shop", Channel.HTTP, hour_of(T), (0, 0, 0, 1, 2, 0))))
    await book.keep(receipt(Count("shop", Channel.HTTP, hour_of(T), (0, 0, 0, 0, 1, 0))))
    await book.keep(receipt(Count("", Channel.HTTP, hour_of(T), (0, 0, 0, 7, 0, 0))))

    page = await audit.page(part(), limit=10)

    unreadable, shop = page.items
    assert (unreadable.source, unreadable.refused, unreadable.received) == ("", 7, 7)
    assert numbers(shop) == {
        "received": 4, "refused": 1, "queued": 3, "events": 2, "success": 1, "failed": 1, "settled_duplicate": 1,
    }  # fmt: skip
    assert await owner.fetchval("SELECT count(*) FROM raw_events") == 3


def numbers(line: AuditLine) -> dict[str, int]:
    """Return what is not zero."""
    return {name: number for name, number in msgspec.structs.asdict(line).items() if isinstance(number, int) and number}


async def test_pages_of_the_books_hold_every_line_once(connections: Connections, audit: Audit) -> None:
    names = ["", "*", "a", "B", "b", "z9"]
    counts = [
        Count(name, channel, hour_of(T), (1, 0, 0, 0, 0, 0))
        for name in names
        for channel in (Channel.HTTP, Channel.GRPC)
    ]
    await ReceiptStore(connections).keep(receipt(*counts))

    found: list[tuple[str, str]] = []
    after = None
    while True:
        page = await audit.page(part(after=after), limit=5)
        found += [(line.source, line.channel) for line in page.items]
        if page.next is None:
            break
        after = read_cursor(page.next, AuditCursor)

    assert len(found) == len(set(found)) == len(counts)


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        (("*",), ["", "*", "shop", "shop-1", "shop_1"]),
        (("shop",), ["shop"]),
        (("shop-*", "none"), ["shop-1"]),
        (("shop*",), ["shop", "shop-1", "shop_1"]),
    ],
)
async def test_a_scope_shows_its_own_books_only(
    connections: Connections, audit: Audit, sources: tuple[str, ...], expected: list[str]
) -> None:
    names = ["", "*", "shop", "shop-1", "shop_1"]
    counts = [Count(name, Channel.HTTP, hour_of(T), (1, 0, 0, 0, 0, 0)) for name in names]
    await ReceiptStore(connections).keep(receipt(*counts))

    page = await audit.page(part(scope=Scope(sources)), limit=10)

    assert [line.source for line in page.items] == expected


async def test_what_was_never_confirmed_and_is_in_the_ledger_is_found_one_by_one(
    connections: Connections, audit: Audit
) -> None:
    """An event that is stored, one that is settled, one that never came, and one that came by another acceptance."""
    store, book = Store(connections, copy_events_min=2), ReceiptStore(connections)
    stored, settled_one, absent = arrived("a"), arrived("a", at=stamp(T, 1)), arrived("nowhere", at=stamp(T, 2))
    other = arrived("b", at=stamp(T, 3))
    await deliver(store, stored, settled_one, other)
    listed = [Unconfirmed(each.event_id, each.received_at, each.channel) for each in (stored, settled_one, absent)]
    listed += [Unconfirmed(other.event_id, stamp(T, 9), other.channel)]
    listed += [Unconfirmed(other.event_id, other.received_at, Channel.GRPC)]
    one = msgspec.structs.replace(told(uuid.uuid4(), 1), unconfirmed=tuple(listed))

    for _ in range(2):
        await book.keep(one)

    [line] = (await audit.page(part(), limit=10)).items
    assert numbers(line) == {"events": 2, "success": 2, "settled_duplicate": 1, "unconfirmed": 2}


async def test_unknown_ones_of_the_code_before_are_not_listed(
    connections: Connections, audit: Audit, owner: asyncpg.Connection
) -> None:
    book = ReceiptStore(connections)
    await book.keep(receipt(Count("new", Channel.HTTP, hour_of(T), (0, 0, 0, 0, 0, 3), 1)))
    await book.keep(receipt(Count("old", Channel.HTTP, hour_of(T), (0, 0, 0, 0, 0, 3), 3)))
    # As a processor of the code before has kept it.
    await owner.execute("UPDATE receipts SET unlisted = NULL WHERE source = 'old'")

    page = await audit.page(part(), limit=10)

    assert [(line.source, line.unknown, line.unlisted) for line in page.items] == [("new", 3, 1), ("old", 3, 3)]


async def series_of(audit: Audit, hour: datetime = HOUR) -> AuditPage:
    return await audit.page(part(hour), limit=10)


async def test_a_process_is_in_the_books_of_its_hours_until_it_ends_in_order(
    connections: Connections, audit: Audit
) -> None:
    book, instance = ReceiptStore(connections), uuid.uuid4()
    await book.keep(told(instance, 1, at=T, open_since=HOUR - timedelta(minutes=1)))
    hours = [HOUR + timedelta(hours=hour) for hour in (-2, -1, 0, 1)]

    alive = [len((await series_of(audit, hour)).series) for hour in hours]
    await book.keep(told(instance, 2, closing=True))
    ended = [len((await series_of(audit, hour)).series) for hour in hours]

    assert (alive, ended) == ([0, 1, 1, 0], [0, 0, 0, 0])


async def test_receipts_of_a_process_make_one_row_however_many_there_are(
    connections: Connections, owner: asyncpg.Connection
) -> None:
    book, instance = ReceiptStore(connections), uuid.uuid4()

    for number in (1, 2, 3, 3, 2, 4):
        await book.keep(told(instance, number, at=stamp(T, number)))

    [row] = await owner.fetch("SELECT numbers::text, number, taken_at, closed FROM receipt_series")
    assert tuple(row) == ("{[1,5)}", 4, stamp(T, 4), False)
    assert await owner.fetchval("SELECT count(*) FROM receipt_gaps") == 0


@pytest.mark.parametrize("first", [1, 2], ids=["in between", "at the beginning"])
async def test_a_receipt_that_is_missing_is_told_until_it_comes(
    connections: Connections, audit: Audit, first: int
) -> None:
    book, instance = ReceiptStore(connections), uuid.uuid4()
    early, late = HOUR - timedelta(hours=2), HOUR + timedelta(minutes=1)
    if first == 1:
        await book.keep(told(instance, 1, at=early))
    await book.keep(told(instance, 3, at=late, closing=True))
    hours = [HOUR + timedelta(hours=hour) for hour in (-3, -2, -1, 0, 1)]

    missing = [[each.missing_receipts for each in (await series_of(audit, hour)).series] for hour in hours]
    for number in (1, 2):
        await book.keep(told(instance, number, at=early))
    found = [(await series_of(audit, hour)).series for hour in hours]

    assert missing == ([[], [1], [1], [1], []] if first == 1 else [[2], [2], [2], [2], []])
    assert found == [[]] * 5


async def test_two_processors_may_keep_the_receipts_of_one_process_side_by_side(
    connections: Connections, audit: Audit, owner: asyncpg.Connection
) -> None:
    book, instance = ReceiptStore(connections), uuid.uuid4()

    await asyncio.gather(*(book.keep(told(instance, number, at=stamp(T, number))) for number in range(1, 30)))

    [row] = await owner.fetch("SELECT numbers::text, number, taken_at FROM receipt_series")
    assert tuple(row) == ("{[1,30)}", 29, stamp(T, 29))
    assert [each.missing_receipts for each in (await series_of(audit)).series] == [0]


async def test_sources_counted_together_are_told_also_where_one_source_is_asked_for(
    connections: Connections, audit: Audit
) -> None:
    await ReceiptStore(connections).keep(receipt(Count("*", Channel.GRPC, hour_of(T), (0, 0, 0, 0, 1, 0))))

    page = await audit.page(part(source="shop"), limit=10)

    assert (page.items, page.overflowed) == ([], ["grpc"])


async def test_the_parts_of_an_hour_add_up_to_it(connections: Connections, audit: Audit) -> None:
    store, book = Store(connections, copy_events_min=2), ReceiptStore(connections)
    await deliver(store, *(arrived(str(minute), at=HOUR + timedelta(minutes=minute)) for minute in range(60)))
    await book.keep(receipt(Count("shop", Channel.HTTP, hour_of(T), (60, 0, 0, 0, 0, 0))))
    minutes = [HOUR + timedelta(minutes=minute) for minute in (0, 7, 30, 60)]

    parts = [await audit.page(AuditPart(HOUR, since, until), limit=10) for since, until in pairwise(minutes)]

    assert [(line.stored, line.events) for page in parts for line in page.items] == [(60, 7), (0, 23), (0, 30)]


async def test_an_audit_that_would_take_too_long_is_refused_and_keeps_nobody_else_waiting(
    ledger: Servers, owner: asyncpg.Connection
) -> None:
    settings = PostgresPoolSettings(postgres_url=ledger.postgres_url("etlpay_reader"), postgres_password=ROLE_PASSWORD)
    reader = Ledger(await open_reader(settings), page_bytes_max=1_000_000, seconds_max=10)
    audit, sources = Audit(reader, seconds_max=1), Sources(reader)
    # The time to connect is not what is tried here.
    await sources.page(EVERY_SOURCE, after=None, limit=10)
    locked = owner.transaction()
    await locked.start()
    await owner.execute("LOCK TABLE receipts")

    first, second, others = await asyncio.gather(
        audit.page(part(), limit=10),
        audit.page(part(), limit=10),
        sources.page(EVERY_SOURCE, after=None, limit=10),
        return_exceptions=True,
    )

    await locked.rollback()
    assert isinstance(first, HttpProblem)
    assert first.type is AUDIT_TOO_LARGE
    assert isinstance(second, OverloadedError)
    assert isinstance(others, SourcePage)
    assert (await audit.page(part(), limit=10)).items == []
    await reader.close()
