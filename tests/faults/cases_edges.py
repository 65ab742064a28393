"""Networks that are cut, swallow what they are given, lose one direction, dawdle, and cut at the worst moment."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from faults.case import Case, Context
from faults.edges import Edge, Touched, Trap
from faults.world import EDGES

_HOLE_SECONDS: Final = 8.0

# How long one direction is held before what it holds is lost.
_LOST_SECONDS: Final = 2.0

Name = tuple[str, str]


def _case(what: str, name: Name, disturb: Callable[[Context, Edge], Awaitable[bool]], *, smoke: bool = False) -> Case:
    async def inflict(context: Context) -> bool:
        edge = context.world.edge(*name)
        await context.moment(0.2, 0.8)
        edge.touched = Touched()
        try:
            return await disturb(context, edge)
        finally:
            edge.heal()

    return Case(f"{name[0]} to {name[1]}: {what}", inflict, smoke=smoke)


async def _cut(context: Context, edge: Edge) -> bool:
    for _ in range(3):
        edge.cut()
        await context.moment(0.2, 2.0)
        edge.heal()
        await context.moment(0.5, 1.0)
    return edge.touched.cut_connections > 0


async def _swallow(_: Context, edge: Edge) -> bool:
    edge.hold()
    await asyncio.sleep(_HOLE_SECONDS)
    return edge.touched.held_requests_bytes + edge.touched.held_answers_bytes > 0


async def _swallow_answers(_: Context, edge: Edge) -> bool:
    """Requests arrive and are obeyed; the answers come after everybody has given up."""
    edge.hold(requests=False)
    await asyncio.sleep(_HOLE_SECONDS)
    return edge.touched.held_answers_bytes > 0


async def _lose_one_way(context: Context, edge: Edge) -> bool:
    """Requests arrive and are obeyed, and no answer ever comes; then requests go out, and never arrive."""
    edge.hold(requests=False)
    await asyncio.sleep(_LOST_SECONDS)
    edge.reset_connections()
    edge.heal()
    await context.moment(1.0, 1.5)
    edge.hold(answers=False)
    await asyncio.sleep(_LOST_SECONDS)
    edge.reset_connections()
    return edge.touched.lost_answers_bytes > 0 and edge.touched.lost_requests_bytes > 0


async def _dawdle(_: Context, edge: Edge) -> bool:
    edge.slow_down(0.05, slicing=True)
    await asyncio.sleep(6)
    return edge.touched.delayed_bytes > 0


async def _cut_and_delay(context: Context, edge: Edge) -> bool:
    """Cut three times, and then a cache whose answers come when nobody waits for them any more."""
    return await _cut(context, edge) and await _swallow_answers(context, edge)


def _trap(pattern: bytes, passage: int) -> Callable[[Context, Edge], Awaitable[bool]]:
    async def disturb(_: Context, edge: Edge) -> bool:
        edge.trap = Trap(pattern, passage)
        trap = edge.trap
        try:
            async with asyncio.timeout(30):
                await trap.sprung.wait()
        except TimeoutError:
            return False
        return True

    return disturb


_ALL: Final[tuple[Name, ...]] = EDGES
_CACHE: Final = [name for name in _ALL if name[1] == "redis"]
_NEEDED: Final = [name for name in _ALL if name[1] != "redis"]

CASES: Final = [
    _case("commit done, reply unseen", ("processor", "postgres"), _trap(b"COMMIT", 5), smoke=True),
    *(
        _case("published, confirm unseen", (door, "amqp"), _trap(b"application/x-protobuf", 3))
        for door in ("api-gateway", "grpc-ingest", "file-watcher", "queue-consumer")
    ),
    *(_case("cut three times", name, _cut) for name in _NEEDED),
    *(_case("black hole for 8 s", name, _swallow) for name in _NEEDED),
    *(_case("answers late by 8 s", name, _swallow_answers) for name in _NEEDED),
    *(_case("answers lost, and then requests", name, _lose_one_way) for name in _NEEDED),
    *(_case("slow and sliced", name, _dawdle) for name in _NEEDED),
    *(_case("black hole for 8 s", name, _swallow) for name in _CACHE),
    *(_case("cut three times, and then answers late by 8 s", name, _cut_and_delay) for name in _CACHE),
]
