"""AckCoalescer that travel together: what is settled in one turn of the event loop is one frame to the broker.

A batch settles all its deliveries at once. An ack of their own for each cost the consumer of single messages a quarter
of its CPU, and the broker as much again.
"""

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Final, Protocol

_DUE: Final = True


class AckChannel(Protocol):
    """The AMQP channel that brought the deliveries; that of aiormq is one."""

    def basic_ack(self, delivery_tag: int, multiple: bool = ...) -> Awaitable[None]:  # noqa: FBT001 - as the library has it
        """Return when the ack of a delivery, or of every one up to it, is on its way."""

    def basic_reject(self, delivery_tag: int, *, requeue: bool = ...) -> Awaitable[None]:
        """Return when the rejection is on its way."""


class AckCoalescer:
    """The deliveries of one AMQP channel that are not settled yet, by their tags.

    An ack of several covers every delivery before it, so it never goes further than the first that is still in hand.
    """

    def __init__(self, amqp_channel: AckChannel) -> None:
        """Begin with none in hand."""
        self._amqp_channel = amqp_channel
        self._in_hand: dict[int, bool] = {}
        self._due: set[int] = set()
        self._turn: asyncio.Event | None = None
        # One turn after the other: an ack of several must not overtake one of a single delivery that it covers.
        self._sending = asyncio.Lock()

    def take(self, tag: int) -> None:
        """Note a delivery, in the order in which the broker sent them."""
        self._in_hand[tag] = not _DUE

    async def reject(self, tag: int) -> None:
        """Reject a delivery to its queue's dead letter queue. It stays in hand until that is on its way."""
        await self._amqp_channel.basic_reject(tag, requeue=False)
        self._in_hand.pop(tag, None)

    async def ack(self, tags: Sequence[int]) -> None:
        """Ack deliveries, together with those that are acked in the same turn; return when that is on its way."""
        self._in_hand.update(dict.fromkeys(tags, _DUE))
        self._due.update(tags)
        if self._turn is not None:
            await self._turn.wait()
            return
        turn = self._turn = asyncio.Event()
        try:
            await asyncio.sleep(0)
            async with self._sending:
                self._turn = None
                for last, several in self._frames():
                    await self._amqp_channel.basic_ack(last, multiple=several)
        finally:
            if self._turn is turn:
                self._turn = None
            turn.set()

    def _frames(self) -> list[tuple[int, bool]]:
        """Take what is due: up to the first delivery in hand by one ack, what is due after that one by one."""
        due, self._due = self._due, set()
        beginning: list[int] = []
        for tag, is_due in self._in_hand.items():
            if is_due is not _DUE:
                break
            beginning.append(tag)
        rest = sorted(due.difference(beginning))
        for tag in (*beginning, *rest):
            del self._in_hand[tag]
        together = [(beginning[-1], len(beginning) > 1)] if beginning else []
        return together + [(tag, False) for tag in rest]
