"""Start, stop and drain: SIGTERM asks a service to stop receiving, finish, settle and close."""

import asyncio
import gc
import os
import signal
import sys
import traceback
from collections.abc import Awaitable, Callable, Iterator
from typing import Final

import structlog
import uvloop

from shared.contracts.errors import FatalError

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_GC_OBJECTS: Final = 10_000


def run(serve: Callable[[asyncio.Event], Awaitable[None]], *, drain_seconds_max: float) -> int:
    """Run `serve(stopping)` until it returns; return the exit code.

    SIGTERM and SIGINT set `stopping`. If the service has not returned `drain_seconds_max` later, the process ends at
    once: unsettled messages are delivered again. The code is 0 after a drain, 1 if the service cannot work here or its
    drain took too long, and 70 (EX_SOFTWARE of sysexits.h) after an unexpected error.
    """
    code = 0
    # Imported modules are never freed. Full collections that visited them stopped the process for 50 ms, once a second
    # under load: the slowest hundredth of single HTTP requests took 61 ms instead of 15.
    gc.collect()
    gc.freeze()
    # A request creates a hundred objects that the collector tracks. With Python's threshold of 700 the collections took
    # a thirteenth of the gateway's CPU time.
    gc.set_threshold(_GC_OBJECTS)
    try:
        uvloop.run(_serve(serve, drain_seconds_max))
    except* FatalError as fatal:
        log.error("stopped: cannot work here", reasons=list(_reasons(fatal)))  # noqa: TRY400 - the reason is enough
        code = 1
    except* Exception as unexpected:  # noqa: BLE001 - the end of the process
        log.critical(
            "ended by an unexpected error; unsettled messages are delivered again",
            errors=list(_places(unexpected)),
        )
        code = os.EX_SOFTWARE
    return code


def _reasons(group: BaseExceptionGroup[BaseException]) -> Iterator[str]:
    """Yield the message of each error in nested groups."""
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _reasons(error)
        else:
            yield str(error)


def _places(error: BaseException) -> Iterator[dict[str, str | list[str]]]:
    """Yield the type and the stack of each error, without its message: that may hold a payload."""
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from _places(one)
        return
    frames = traceback.extract_tb(error.__traceback__)
    yield {
        "type": type(error).__qualname__,
        "at": [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames],
    }
    if error.__cause__ is not None:
        yield from _places(error.__cause__)


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
    log.error("drain took too long; unsettled messages are delivered again", seconds_max=seconds_max)
    sys.stdout.flush()
    # Cancelling could interrupt a writer half-way. Every protocol here is built for a process that is killed.
    os._exit(1)
