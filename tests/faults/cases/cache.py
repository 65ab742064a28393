"""The cache dies, is flushed, full and poisoned."""

import asyncio
from typing import Final

import redis.asyncio

from faults.cases.servers import DRAIN_SECONDS_MAX
from faults.harness.case import Case, Context
from faults.harness.world import HOST, World

_POISONED_KEYS: Final = 1_000
_LIST: Final = b"etlpay:record:1"


async def _flush(context: Context) -> bool:
    flushed = 0
    async with _cache(context.world) as client:
        for _ in range(5):
            flushed += await client.dbsize()
            await client.flushall()
            await asyncio.sleep(0.5)
    return flushed > 0


async def _poison_cache(context: Context) -> bool:
    """Entries that cannot be read, that are no records, and that are records of other events."""
    poisoned, other = 0, b""
    async with _cache(context.world) as client:
        for turn in range(8):
            # So many at a time: keys come as fast as they can be looked through.
            async for key in client.scan_iter("etlpay:*", count=1_000):
                if key == _LIST:
                    continue
                poison = (b'{"not": "what anybody expects", \xff', b"[]", other)[poisoned % 3]
                before = await client.set(key, poison, get=True)
                other = before if isinstance(before, bytes) else other
                poisoned += 1
                if poisoned >= (turn + 1) * _POISONED_KEYS:
                    break
            await client.delete(_LIST)
            await client.lpush(_LIST, "a list where a string should be")
            await asyncio.sleep(0.5)
        await client.flushall()
    return poisoned > 0


def _cache(world: World) -> redis.asyncio.Redis:
    password = world.layout.read_secret("redis/redis_password")
    return redis.asyncio.Redis(host=HOST, port=world.ports["redis"], password=password, socket_timeout=5)


async def _fill_cache(context: Context) -> bool:
    """The cache is full and may evict nothing: every write is refused."""
    async with _cache(context.world) as client:
        await client.config_set("maxmemory-policy", "noeviction")
        await client.config_set("maxmemory", "1")
        try:
            await client.set("etlpay:more", b"x")
        except redis.exceptions.OutOfMemoryError:
            refused = True
        else:
            refused = False
        await asyncio.sleep(5)
        await client.config_set("maxmemory", "0")
    return refused


async def _kill_cache(context: Context) -> bool:
    died = await context.child("valkey").kill(away_seconds=4)
    await context.child("valkey").wait_ready()
    return died


CASES: Final = [
    Case("cache killed", _kill_cache, drain_seconds_max=DRAIN_SECONDS_MAX),
    Case("cache flushed", _flush),
    Case("cache full", _fill_cache),
    Case("cache poisoned", _poison_cache),
]
