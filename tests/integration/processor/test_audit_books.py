"""The audit's books on a real PostgreSQL: each acceptance is settled once, each receipt counts once."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import asyncpg
import msgspec
import pytest

from api_gateway.ledger import Ledger, open_reader
from api_gateway.paging import read_audit_cursor
from api_gateway.views import AuditLine
from processor.database import Connections
from processor.receipts import ReceiptBook
from processor.rows import Entry
from processor.store import Store
from processor.transform import transform
from shared.auth.scopes import EVERY_SOURCE, Scope
from shared.contracts.errors import UnavailableError
from shared.contracts.event import Channel, Envelope, now, stamp
from shared.contracts.outcome import Outcome
from shared.contracts.receipt import Count, Receipt, hour_of
from shared.settings import PostgresSettings
from support.events import event
from support.servers import ROLE_PASSWORD, Servers

HOUR = datetime(2026, 11, 23, 8, tzinfo=UTC)
T = HOUR + timedelta(minutes=5)


def arrived(
    key: str, body: bytes = b'{"v": 1}', *, at: datetime = T, source: str = "shop", channel: Channel = Channel.HTTP
) -> Envelope:
    return msgspec.structs.replace(event(body, key=key, source=source), received_at=at, channel=channel)


async def deliver(store: Store, *events: Envelope, acknowledged: bool = True) -> list[Outcome]:
    entries = [Entry(each, transform(each), acknowledged) for each in events]
    return await store.write(entries, processed_at=now())


def receipt(*counts: Count, number: int = 1, instance: uuid.UUID | None = None) -> Receipt:
    return Receipt(service="test", instance=instance or uuid.uuid4(), number=number, counts=counts)


async def settled(owner: asyncpg.Connection) -> list[int]:
    return [row["disposition"] for row in await owner.fetch("SELECT disposition FROM settlements ORDER BY 1")]


@pytest.fixture
async def reader(ledger: Servers) -> AsyncIterator[Ledger]:
    settings = PostgresSettings(postgres_url=ledger.postgres_url("etlpay_reader"), postgres_password=ROLE_PASSWORD)
    books = Ledger(await open_reader(settings), page_bytes_max=1_000_000, seconds_max=10)
    yield books
    await books.close()


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


async def test_each_door_may_accept_an_event_in_the_same_microsecond(
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
    book = ReceiptBook(connections)
    told = receipt(Count("shop", Channel.HTTP, hour_of(T), (1, 2, 3, 4, 5, 6)))

    await asyncio.gather(*(book.keep(told) for _ in range(4)))

    rows = await owner.fetch("SELECT stored, duplicate, conflict, refused, queued, unknown, hour FROM receipts")
    assert [tuple(row) for row in rows] == [(1, 2, 3, 4, 5, 6, HOUR)]


async def test_the_books_of_an_hour_stand_side_by_side(
    connections: Connections, reader: Ledger, owner: asyncpg.Connection
) -> None:
    store, book = Store(connections, copy_events_min=2), ReceiptBook(connections)
    await deliver(store, arrived("a"), arrived("bad", b"nonsense", at=stamp(T, 1)), arrived("a", at=stamp(T, 2)))
    await deliver(store, arrived("next hour", at=HOUR + timedelta(hours=1)))
    await book.keep(receipt(Count("shop", Channel.HTTP, hour_of(T), (0, 0, 0, 1, 2, 0))))
    await book.keep(receipt(Count("shop", Channel.HTTP, hour_of(T), (0, 0, 0, 0, 1, 0))))
    await book.keep(receipt(Count("", Channel.HTTP, hour_of(T), (0, 0, 0, 7, 0, 0))))

    page = await reader.audit(HOUR, EVERY_SOURCE, source=None, after=None, limit=10)

    unreadable, shop = page.items
    assert (unreadable.source, unreadable.refused, unreadable.received) == ("", 7, 7)
    assert numbers(shop) == {
        "received": 4, "refused": 1, "queued": 3, "events": 2, "success": 1, "failed": 1, "settled_duplicate": 1,
    }  # fmt: skip
    assert await owner.fetchval("SELECT count(*) FROM raw_events") == 3


def numbers(line: AuditLine) -> dict[str, int]:
    """Return what is not zero."""
    return {name: number for name, number in msgspec.structs.asdict(line).items() if isinstance(number, int) and number}


async def test_pages_of_the_books_hold_every_line_once(connections: Connections, reader: Ledger) -> None:
    names = ["", "*", "a", "B", "b", "z9"]
    counts = [
        Count(name, channel, hour_of(T), (1, 0, 0, 0, 0, 0))
        for name in names
        for channel in (Channel.HTTP, Channel.GRPC)
    ]
    await ReceiptBook(connections).keep(receipt(*counts))

    found: list[tuple[str, str]] = []
    after = None
    while True:
        page = await reader.audit(HOUR, EVERY_SOURCE, source=None, after=after, limit=5)
        found += [(line.source, line.channel) for line in page.items]
        if page.next is None:
            break
        after = read_audit_cursor(page.next)

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
    connections: Connections, reader: Ledger, sources: tuple[str, ...], expected: list[str]
) -> None:
    names = ["", "*", "shop", "shop-1", "shop_1"]
    counts = [Count(name, Channel.HTTP, hour_of(T), (1, 0, 0, 0, 0, 0)) for name in names]
    await ReceiptBook(connections).keep(receipt(*counts))

    page = await reader.audit(HOUR, Scope(sources), source=None, after=None, limit=10)

    assert [line.source for line in page.items] == expected
