"""The memory of the services while a case runs: its highest point counts, and not what is left of it afterwards."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Final

from faults.harness.case import Context
from faults.harness.checks import RSS_BYTES_MAX
from faults.harness.world import SERVICES

_PAUSE_SECONDS: Final = 0.1


@contextlib.asynccontextmanager
async def watched_memory(context: Context) -> AsyncIterator[None]:
    """Look at every service until the block ends, and note each that took more than it may."""
    most = dict.fromkeys(SERVICES, 0)

    async def look() -> None:
        while True:
            for name in SERVICES:
                most[name] = max(most[name], context.child(name).rss_bytes)
            await asyncio.sleep(_PAUSE_SECONDS)

    async with asyncio.TaskGroup() as group:
        looking = group.create_task(look())
        try:
            yield
        finally:
            looking.cancel()
    for name, rss_bytes in most.items():
        if rss_bytes > RSS_BYTES_MAX:
            context.problems.append(f"{name} grew to {rss_bytes >> 20} MB")
