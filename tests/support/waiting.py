"""Waiting until a condition holds that another program brings about."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final

_PAUSE_SECONDS: Final = 0.1


async def until_true(ask: Callable[[], bool | Awaitable[bool]], seconds_max: float | None) -> bool:
    """Ask again and again until the answer is yes; return whether it was."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds_max):
            while True:
                answer = ask()
                if answer if isinstance(answer, bool) else await answer:
                    return True
                await asyncio.sleep(_PAUSE_SECONDS)
    return False
