"""The cache on a real server: fast when it is there, and never more than a hint."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from urllib.parse import urlsplit
from uuid import UUID

import msgspec
import pytest
import redis.asyncio

from shared.cache import Cache
from shared.contracts.errors import Problem
from shared.contracts.event import identify
from shared.contracts.record import Record
from shared.settings import RedisSettings
from support.servers import Servers

KEY, EPOCH = "the key of these tests", "a ledger"
CREATED = datetime(2026, 11, 23, 12, 30, 0, 123456, tzinfo=UTC)


def record(number: int = 1, payload: bytes = b'{"amount": 1.10}') -> Record:
    """Return a record as the processor feeds it."""
    return Record(
        id=number,
        raw_event_id=number + 100,
        event_id=identify("shop", str(number)),
        source="shop",
        channel="queue",
        status="SUCCESS",
        attempt=1,
        result_payload=msgspec.Raw(payload),
        errors=(Problem("/amount", "is odd"),),
        idempotency_key=str(number),
        type=None,
        occurred_at=None,
        received_at=CREATED,
        processed_at=CREATED,
    )


@pytest.fixture
async def server(servers: Servers) -> AsyncIterator[redis.asyncio.Redis]:
    """A client of the server's own, which is empty."""
    client = redis.asyncio.Redis.from_url(servers.redis_url)
    await client.flushall()
    yield client
    await client.aclose()


@pytest.fixture
async def cache(servers: Servers, server: redis.asyncio.Redis) -> AsyncIterator[Cache]:  # noqa: ARG001 - an empty server
    """A cache with time enough for a busy machine."""
    cache = connect(servers.redis_url)
    yield cache
    await cache.close()


def connect(url: str, *, seconds_max: float = 2, key: str = KEY, epoch: str | None = EPOCH) -> Cache:
    """Return a cache that speaks of a ledger."""
    settings = RedisSettings.model_validate(
        {"redis_url": url, "redis_seconds_max": seconds_max, "cache_seconds": 60, "cache_key": key}
    )
    cache = Cache.connect(settings)
    cache.turn_to(epoch)
    return cache


async def put(cache: Cache, *records: Record) -> None:
    await cache.put_records(records, epoch=cache.epoch)


async def test_a_record_is_found_under_its_own_id_and_its_events(cache: Cache) -> None:
    kept = record()

    await put(cache, kept, record(2))

    assert await cache.record(kept.id) == kept
    assert await cache.record_of_event(kept.event_id) == kept
    assert cache.present


async def test_what_was_not_kept_is_not_found(cache: Cache) -> None:
    assert await cache.record(7) is None
    assert await cache.record_of_event(UUID(int=7)) is None
    assert await cache.source_of_queued(UUID(int=7)) is None


async def test_everything_that_is_kept_is_forgotten_in_time(cache: Cache, server: redis.asyncio.Redis) -> None:
    await put(cache, record())
    await cache.put_queued([(UUID(int=1), "shop")])

    keys = await server.keys()

    lives = [await server.ttl(key) for key in keys]
    keys_kept, seconds_max = 3, 60
    assert len(lives) == keys_kept
    assert all(0 < seconds <= seconds_max for seconds in lives)


async def test_a_large_record_is_left_to_the_ledger(cache: Cache) -> None:
    large = record(payload=b'{"a":"%s"}' % (b"x" * 70_000))

    await put(cache, large, record(2))

    assert await cache.record(large.id) is None
    assert await cache.record(2) == record(2)


async def test_queued_never_covers_a_record(cache: Cache) -> None:
    """The two notes race: the processor may be done before the edge service has written its own."""
    done, waiting = record(), identify("shop", "waiting")
    await put(cache, done)

    await cache.put_queued([(done.event_id, "shop"), (waiting, "zażółć 1")])

    assert await cache.record_of_event(done.event_id) == done
    assert await cache.source_of_queued(done.event_id) is None
    assert await cache.source_of_queued(waiting) == "zażółć 1"
    assert await cache.record_of_event(waiting) is None


async def test_a_record_takes_the_place_of_queued(cache: Cache) -> None:
    done = record()
    await cache.put_queued([(done.event_id, "shop")])

    await put(cache, done)

    assert await cache.source_of_queued(done.event_id) is None
    assert await cache.record_of_event(done.event_id) == done


@pytest.mark.parametrize("poison", [b"", b"{", b"[]", b'{"id": "x"}', b"\xff\xfe", b'"queued"'])
async def test_what_cannot_be_read_is_as_good_as_nothing(
    cache: Cache, server: redis.asyncio.Redis, poison: bytes
) -> None:
    event_id = record().event_id
    for key in (f"etlpay:event:{event_id}", "etlpay:record:1"):
        await server.set(key, poison)

    found = (await cache.record_of_event(event_id), await cache.record(1))

    assert found == (None, None)
    assert await cache.source_of_queued(event_id) is None


async def test_what_nobody_of_us_has_written_is_as_good_as_nothing(cache: Cache, server: redis.asyncio.Redis) -> None:
    """A record that was changed, one of an event that never was, and a note that it is on its way."""
    await put(cache, record())
    forged = msgspec.json.encode(record(payload=b'{"amount": 1000000.00}'))
    for name in ("etlpay:record:1", f"etlpay:event:{record().event_id}", f"etlpay:event:{UUID(int=7)}"):
        await server.set(name, forged)
    await server.set(f"etlpay:event:{UUID(int=8)}", b"queued")

    assert await cache.record(1) is None
    assert await cache.record_of_event(record().event_id) is None
    assert await cache.record_of_event(UUID(int=7)) is None
    assert await cache.source_of_queued(UUID(int=8)) is None


async def test_an_entry_in_the_place_of_another_is_as_good_as_nothing(
    cache: Cache, server: redis.asyncio.Redis
) -> None:
    await put(cache, record(1), record(2))
    await cache.put_queued([(UUID(int=8), "shop")])
    names = sorted(await server.keys("etlpay:*"))
    entries = [entry for entry in await server.mget(names) if entry is not None]

    for name, entry in zip(names, entries[1:] + entries[:1], strict=True):
        await server.set(name, entry)

    found = [await cache.record(number) for number in (1, 2)]
    found += [await cache.record_of_event(record(number).event_id) for number in (1, 2)]
    assert found == [None] * 4
    assert await cache.source_of_queued(UUID(int=8)) is None


async def test_an_entry_that_outlives_its_time_is_as_good_as_nothing(
    servers: Servers, server: redis.asyncio.Redis
) -> None:
    """The server does not forget: so the entry itself says until when it counts."""
    moment = time.time()
    cache = Cache(redis.asyncio.Redis.from_url(servers.redis_url), seconds=60, key=KEY, clock=lambda: moment)
    cache.turn_to(EPOCH)
    await put(cache, record())
    await cache.put_queued([(UUID(int=8), "shop")])
    for name in await server.keys("etlpay:*"):
        await server.persist(name)

    kept = await cache.record(1)
    moment += 61

    assert kept == record()
    assert await cache.record(1) is None
    assert await cache.source_of_queued(UUID(int=8)) is None
    await cache.close()


async def test_an_entry_of_another_ledger_is_as_good_as_nothing(cache: Cache) -> None:
    await put(cache, record())
    await cache.put_queued([(UUID(int=8), "shop")])

    cache.turn_to("a restored ledger")
    after = await cache.record(1), await cache.source_of_queued(UUID(int=8))
    cache.turn_to(EPOCH)

    assert after == (None, None)
    assert await cache.record(1) == record()


async def test_a_record_that_was_read_before_the_ledger_became_another_is_not_kept(cache: Cache) -> None:
    before = cache.epoch

    cache.turn_to("a restored ledger")
    await cache.put_records([record()], epoch=before)

    assert await cache.record(1) is None


async def test_while_nobody_knows_of_which_ledger_it_speaks_the_cache_is_empty(cache: Cache) -> None:
    await put(cache, record())

    cache.turn_to(None)
    await put(cache, record(2))
    await cache.put_queued([(UUID(int=8), "shop")])
    found = await cache.record(1), await cache.source_of_queued(UUID(int=8))
    cache.turn_to(EPOCH)

    assert found == (None, None)
    assert await cache.record(2) is None
    assert await cache.source_of_queued(UUID(int=8)) is None


async def test_without_a_key_nothing_is_cached(servers: Servers, server: redis.asyncio.Redis) -> None:
    cache = connect(servers.redis_url, key="")

    await put(cache, record())
    await cache.put_queued([(UUID(int=8), "shop")])

    assert await cache.record(1) is None
    assert await server.keys("*") == []
    assert not cache.present


async def test_without_its_password_the_cache_is_away_and_with_it_is_there(servers: Servers) -> None:
    parts = urlsplit(servers.redis_url)
    bare = parts._replace(netloc=f"{parts.hostname}:{parts.port}").geturl()
    settings = RedisSettings.model_validate(
        {"redis_url": bare, "redis_password": parts.password or "", "redis_seconds_max": 2, "cache_key": KEY}
    )
    with_it, without = Cache.connect(settings), connect(bare)

    await with_it.look()
    await without.look()

    assert (with_it.present, without.present) == (True, parts.password is None)
    await with_it.close()
    await without.close()


async def test_a_key_of_another_kind_is_as_good_as_nothing(cache: Cache, server: redis.asyncio.Redis) -> None:
    await server.hset("etlpay:record:1", mapping={"a": "b"})

    assert await cache.record(1) is None


async def test_without_an_address_the_cache_is_always_empty() -> None:
    cache = Cache.connect(RedisSettings(redis_url=""))

    await put(cache, record())
    await cache.put_queued([(UUID(int=1), "shop")])
    found = await cache.record(1)
    await cache.close()

    assert found is None
    assert not cache.present


async def use(cache: Cache) -> None:
    """Make every kind of call once; each finds nothing and raises nothing."""
    await put(cache, record())
    await cache.put_queued([(UUID(int=1), "shop")])
    assert await cache.record(1) is None
    assert await cache.record_of_event(UUID(int=1)) is None
    assert await cache.source_of_queued(UUID(int=1)) is None


async def test_a_cache_that_is_away_is_an_empty_one(unused_tcp_port: int) -> None:
    cache = connect(f"redis://127.0.0.1:{unused_tcp_port}/0", seconds_max=0.05)

    await use(cache)
    await cache.close()

    assert not cache.present


async def test_a_cache_that_hangs_holds_up_nobody() -> None:
    """It takes the connection and never says a word."""
    gone = asyncio.Event()

    async def say_nothing(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await gone.wait()
        writer.close()

    silent = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    cache = connect(f"redis://127.0.0.1:{port}/0", seconds_max=0.05)

    begun = time.monotonic()
    await use(cache)
    took_seconds = time.monotonic() - begun

    await cache.close()
    gone.set()
    silent.close()
    await silent.wait_closed()
    calls, seconds_max_each = 5, 0.2
    assert took_seconds < calls * seconds_max_each
    assert not cache.present


async def test_a_cache_that_comes_back_is_used_again(servers: Servers, server: redis.asyncio.Redis) -> None:
    """The server ends our connections; the next call but one finds it again."""
    cache = connect(servers.redis_url)
    await put(cache, record())

    await server.client_kill_filter(_type="normal", skipme=True)
    await cache.record(1)

    assert await cache.record(1) == record()
    assert cache.present
    await cache.close()
