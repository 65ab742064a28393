"""Limits the bytes of unsettled messages: a prefetch counts messages, which may be of a few bytes or of 16 MiB.

At the limit nothing is read from the socket, and the broker's flow control keeps the rest of the messages in the queue.
"""

import asyncio
from typing import Any


class ReadThrottle:
    """Limits the bytes of received messages that are not settled. The message that reaches the limit is accepted."""

    def __init__(self, bytes_max: int) -> None:
        """Begin with no messages."""
        self._bytes_max = bytes_max
        self._bytes = 0
        self._below_limit = asyncio.Event()
        self._below_limit.set()

    def acquire(self, size: int) -> None:
        """Count a message that was received."""
        self._bytes += size
        if self._bytes >= self._bytes_max:
            self._below_limit.clear()

    def release(self, size: int) -> None:
        """Stop to count a message, which was settled."""
        self._bytes -= size
        if self._bytes < self._bytes_max:
            self._below_limit.set()

    def apply_to(self, frames: "asyncio.Queue[Any]") -> None:
        """Return no frame from `frames`, the bounded queue of an AMQP channel's frames, while at the limit.

        When the queue is full the client library stops reading its connection, and TCP does the rest. A library that
        reads nothing for more than half a minute takes its connection for dead: in a long outage the session ends.
        """
        get = frames.get

        async def get_below_limit() -> Any:  # noqa: ANN401 - as the library has it
            if not self._below_limit.is_set():
                await self._below_limit.wait()
            return await get()

        frames.get = get_below_limit  # type: ignore[method-assign] # the library has no setting for this
