"""Connections that are cut, held, lose one direction, are slow, or are cut between a commit and its answer."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from faults.harness.case import Case, Context
from faults.harness.world import CONNECTIONS
from support.proxy import Proxy, Touched, Trap

_HOLE_SECONDS: Final = 8.0

# How long one direction is held before what it holds is lost.
_LOST_SECONDS: Final = 2.0

Name = tuple[str, str]


def _case(what: str, name: Name, disturb: Callable[[Context, Proxy], Awaitable[bool]], *, smoke: bool = False) -> Case:
    async def inflict(context: Context) -> bool:
        proxy = context.world.proxy(*name)
        await context.moment(0.2, 0.8)
        proxy.touched = Touched()
        try:
            return await disturb(context, proxy)
        finally:
            proxy.heal()

    return Case(f"{name[0]} to {name[1]}: {what}", inflict, smoke=smoke)


async def _cut(context: Context, proxy: Proxy) -> bool:
    for _ in range(3):
        proxy.cut()
        await context.moment(0.2, 2.0)
        proxy.heal()
        await context.moment(0.5, 1.0)
    return proxy.touched.cut_connections > 0


async def _swallow(_: Context, proxy: Proxy) -> bool:
    proxy.hold()
    await asyncio.sleep(_HOLE_SECONDS)
    return proxy.touched.held_requests_bytes + proxy.touched.held_answers_bytes > 0


async def _swallow_answers(_: Context, proxy: Proxy) -> bool:
    """Requests arrive and are executed; the answers come after every caller has given up."""
    proxy.hold(requests=False)
    await asyncio.sleep(_HOLE_SECONDS)
    return proxy.touched.held_answers_bytes > 0


async def _lose_one_way(context: Context, proxy: Proxy) -> bool:
    """Requests arrive and are executed, and no answer comes; then requests never arrive."""
    proxy.hold(requests=False)
    await asyncio.sleep(_LOST_SECONDS)
    proxy.reset_connections()
    proxy.heal()
    await context.moment(1.0, 1.5)
    proxy.hold(answers=False)
    await asyncio.sleep(_LOST_SECONDS)
    proxy.reset_connections()
    return proxy.touched.lost_answers_bytes > 0 and proxy.touched.lost_requests_bytes > 0


async def _slow_down(_: Context, proxy: Proxy) -> bool:
    proxy.slow_down(0.05, slicing=True)
    await asyncio.sleep(6)
    return proxy.touched.delayed_bytes > 0


async def _cut_and_delay(context: Context, proxy: Proxy) -> bool:
    """Cut three times; then the answers of the cache come after every caller has given up."""
    return await _cut(context, proxy) and await _swallow_answers(context, proxy)


def _trap(pattern: bytes, passage: int) -> Callable[[Context, Proxy], Awaitable[bool]]:
    async def disturb(_: Context, proxy: Proxy) -> bool:
        proxy.trap = Trap(pattern, passage)
        trap = proxy.trap
        try:
            async with asyncio.timeout(30):
                await trap.sprung.wait()
        except TimeoutError:
            return False
        return True

    return disturb


_ALL: Final[tuple[Name, ...]] = CONNECTIONS
_CACHE: Final = [name for name in _ALL if name[1] == "redis"]
_NEEDED: Final = [name for name in _ALL if name[1] != "redis"]

CASES: Final = [
    _case("commit done, reply unseen", ("processor", "postgres"), _trap(b"COMMIT", 5), smoke=True),
    *(
        _case("published, confirm unseen", (service, "amqp"), _trap(b"application/x-protobuf", 3))
        for service in ("api-gateway", "grpc-ingest", "file-watcher", "queue-consumer")
    ),
    *(_case("cut three times", name, _cut) for name in _NEEDED),
    *(_case("black hole for 8 s", name, _swallow) for name in _NEEDED),
    *(_case("answers late by 8 s", name, _swallow_answers) for name in _NEEDED),
    *(_case("answers lost, and then requests", name, _lose_one_way) for name in _NEEDED),
    *(_case("slow and sliced", name, _slow_down) for name in _NEEDED),
    *(_case("black hole for 8 s", name, _swallow) for name in _CACHE),
    *(_case("cut three times, and then answers late by 8 s", name, _cut_and_delay) for name in _CACHE),
]
