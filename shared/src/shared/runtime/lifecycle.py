"""Start, stop and drain: SIGTERM asks a service to stop receiving, finish, settle and close."""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator

import structlog
import uvloop

from shared.contracts.errors import FatalError

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


def run(serve: Callable[[asyncio.Event], Awaitable[None]], *, drain_seconds_max: float) -> int:
    """Run `serve(stopping)` until it returns; return the exit code.

    SIGTERM and SIGINT set `stopping`. A service that has not returned `drain_seconds_max` later is ended as it is:
    what it had not settled comes back from where it came.
    """
    code = 0
    try:
        uvloop.run(_serve(serve, drain_seconds_max))
    except* FatalError as fatal:
        log.error("stopped: cannot work here", reasons=list(_reasons(fatal)))  # noqa: TRY400 - the reason says it all
        code = 1
    return code


def _reasons(group: BaseExceptionGroup[BaseException]) -> Iterator[str]:
    """Yield the message of each error, however deep the task groups were nested that it came through."""
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _reasons(error)
        else:
            yield str(error)


async def _serve(serve: Callable[[asyncio.Event], Awaitable[None]], drain_seconds_max: float) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    async with asyncio.TaskGroup() as group:
        watch = group.create_task(_limit_drain(stopping, drain_seconds_max))
        await serve(stopping)
        watch.cancel()


async def _limit_drain(stopping: asyncio.Event, seconds_max: float) -> None:
    await stopping.wait()
    log.info("draining")
    await asyncio.sleep(seconds_max)
    log.error("drain took too long; unsettled work will be delivered again", seconds_max=seconds_max)
    sys.stdout.flush()
    # Cancelling would cut a writer off in the middle; a process that is gone is what every protocol here is built for.
    os._exit(1)
