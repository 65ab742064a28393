"""A service is a list of parts. Each runs beside those that are started after it, and stops when they have ended."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Protocol, TypeVar

from shared.runtime.waiting import wait_any


class Part(Protocol):
    """Something that works until it is closed."""

    async def run(self) -> None:
        """Work until `close`, then finish what was begun and return."""

    def close(self) -> None:
        """Begin nothing more, and let `run` return."""


P = TypeVar("P", bound=Part)


@asynccontextmanager
async def running(part: P) -> AsyncIterator[P]:
    """Run a part beside the body; at the end of the body close it and wait until it has ended.

    Where the part fails the body is cancelled, and where the body fails the part is.

    ```python
    async with running(publisher), running(consumer):
        await stopping.wait()
    ```

    Here the publisher is closed once the consumer has settled its deliveries.
    """
    async with asyncio.TaskGroup() as group:
        group.create_task(part.run())
        yield part
        part.close()


class Periodic:
    """Calls a function at once, and again after each pause of `seconds`, until it is closed."""

    def __init__(self, call: Callable[[], Awaitable[None]], *, seconds: float) -> None:
        """`call` is never cancelled by `close`."""
        self._call = call
        self._seconds = seconds
        self._closing = asyncio.Event()

    async def run(self) -> None:
        """See `Part`."""
        while not self._closing.is_set():
            await self._call()
            await wait_any(self._closing, seconds_max=self._seconds)

    def close(self) -> None:
        """See `Part`."""
        self._closing.set()
