"""Sends acks together: deliveries that are acked in one turn of the event loop share one frame where possible.

A batch settles all its deliveries at once. One ack for each delivery cost the consumer of single messages a quarter of
its CPU, and the broker as much again.
"""

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Final, Protocol

_DUE: Final = True


class AckChannel(Protocol):
    """The AMQP channel that brought the deliveries; aiormq's channel is one."""

    def basic_ack(self, delivery_tag: int, multiple: bool = ...) -> Awaitable[None]:  # noqa: FBT001 - as the library has it
        """Ack a delivery, or every delivery up to it; return when the frame is sent."""

    def basic_reject(self, delivery_tag: int, *, requeue: bool = ...) -> Awaitable[None]:
        """Reject a delivery; return when the frame is sent."""


class AckCoalescer:
    """The unsettled deliveries of one AMQP channel, by their tags.

    An ack of several deliveries covers all before the last of them, so it ends before the first unsettled one.
    """

    def __init__(self, amqp_channel: AckChannel) -> None:
        """Begin without deliveries."""
        self._amqp_channel = amqp_channel
        self._unsettled: dict[int, bool] = {}
        self._due: set[int] = set()
        self._turn: asyncio.Event | None = None
        # One turn after the other: an ack of several must not overtake the ack of a delivery that it covers.
        self._sending = asyncio.Lock()

    def add(self, tag: int) -> None:
        """Add a delivery, in the order in which the broker sent them."""
        self._unsettled[tag] = not _DUE

    async def reject(self, tag: int) -> None:
        """Reject a delivery to its queue's dead letter queue. It counts as unsettled until the frame is sent."""
        await self._amqp_channel.basic_reject(tag, requeue=False)
        self._unsettled.pop(tag, None)

    async def ack(self, tags: Sequence[int]) -> None:
        """Ack deliveries, together with those acked in the same turn; return when the frames are sent."""
        self._unsettled.update(dict.fromkeys(tags, _DUE))
        self._due.update(tags)
        if self._turn is not None:
            await self._turn.wait()
            return
        turn = self._turn = asyncio.Event()
        try:
            await asyncio.sleep(0)
            async with self._sending:
                self._turn = None
                for last, multiple in self._frames():
                    await self._amqp_channel.basic_ack(last, multiple=multiple)
        finally:
            if self._turn is turn:
                self._turn = None
            turn.set()

    def _frames(self) -> list[tuple[int, bool]]:
        """Remove what is due; return one ack for all before the first unsettled delivery, and one for each after it."""
        due, self._due = self._due, set()
        first: list[int] = []
        for tag, is_due in self._unsettled.items():
            if is_due is not _DUE:
                break
            first.append(tag)
        rest = sorted(due.difference(first))
        for tag in (*first, *rest):
            del self._unsettled[tag]
        together = [(first[-1], len(first) > 1)] if first else []
        return together + [(tag, False) for tag in rest]
