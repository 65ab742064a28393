"""Waiting for what is on its way already."""

import asyncio
from collections.abc import Callable
from typing import Final

_TURNS_MAX: Final = 64
_QUIET_TURNS: Final = 20


async def linger(count: Callable[[], int], *, enough: Callable[[], bool] = lambda: False) -> None:
    """Let what the event loop holds already come along; `count` tells how much is here, `enough` ends it early.

    Turns of the loop, not time, so that nothing waits while it is quiet: what a socket brought at once comes some turns
    apart, and calls of gRPC more than that, for its own thread brings them. Measured beside taking the first at once:
    single messages of a queue 5,000 instead of 2,800 a second, single HTTP requests 255 instead of 326 microseconds of
    CPU. With ten or thirty quiet turns 21 to 24 calls of gRPC are a batch, with three 14 to 17.
    """
    seen = quiet_turns = 0
    for _ in range(_TURNS_MAX):
        if quiet_turns == _QUIET_TURNS or enough():
            return
        await asyncio.sleep(0)
        now_here = count()
        quiet_turns = 0 if now_here > seen else quiet_turns + 1
        seen = now_here
