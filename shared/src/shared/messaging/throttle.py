"""Limits the bytes of unsettled messages. A prefetch counts messages, and one may hold a few bytes or 16 MiB.

Where there is none left, no more is read from the socket: the broker's own flow control then keeps the rest with it.
"""

import asyncio
from typing import Any


class ReadThrottle:
    """Limits the bytes of messages that are read but not settled. The message that reaches the limit is still taken."""

    def __init__(self, bytes_max: int) -> None:
        """Begin with nothing taken."""
        self._bytes_max = bytes_max
        self._taken = 0
        self._open = asyncio.Event()
        self._open.set()

    def take(self, size: int) -> None:
        """Note a message that was received."""
        self._taken += size
        if self._taken >= self._bytes_max:
            self._open.clear()

    def give_back(self, size: int) -> None:
        """Note that a message is out of hand."""
        self._taken -= size
        if self._taken < self._bytes_max:
            self._open.set()

    def guard(self, frames: "asyncio.Queue[Any]") -> None:
        """Hand out frames only below the limit; `frames` is the bounded queue of an AMQP channel's frames.

        When it is full the client library stops reading its connection, and TCP does the rest. A library that is held
        up like this for more than half a minute takes its connection for dead: a session that ends in a long outage.
        """
        get = frames.get

        async def get_while_there_is_room() -> Any:  # noqa: ANN401 - as the library has it
            if not self._open.is_set():
                await self._open.wait()
            return await get()

        frames.get = get_while_there_is_room  # type: ignore[method-assign] # the library has no door for this
