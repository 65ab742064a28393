"""Acks that travel together: what is settled in one turn of the event loop is one frame to the broker.

A batch settles all its deliveries at once. An ack of their own for each cost the consumer of single messages a quarter
of its CPU, and the broker as much again.
"""

import asyncio
from typing import Final

from aio_pika.abc import AbstractIncomingMessage

_DUE: Final = True


class Acks:
    """The deliveries of one AMQP channel that are not settled yet.

    An ack of several covers every delivery before it, so it never goes further than the first that is still in hand.
    """

    def __init__(self) -> None:
        """Begin with none in hand."""
        self._in_hand: dict[int, bool] = {}
        self._due: dict[int, AbstractIncomingMessage] = {}
        self._turn: asyncio.Event | None = None
        # One turn after the other: an ack of several must not overtake one of a single delivery that it covers.
        self._sending = asyncio.Lock()

    def take(self, message: AbstractIncomingMessage) -> None:
        """Note a delivery, in the order in which the broker sent them."""
        self._in_hand[_tag(message)] = not _DUE

    async def reject(self, message: AbstractIncomingMessage) -> None:
        """Hand a delivery to its queue's dead letter queue. It stays in hand until that is on its way."""
        await message.reject(requeue=False)
        self._in_hand.pop(_tag(message), None)

    async def ack(self, message: AbstractIncomingMessage) -> None:
        """Ack a delivery, together with those that are acked in the same turn; return when that is on its way."""
        self._in_hand[_tag(message)] = _DUE
        self._due[_tag(message)] = message
        if self._turn is not None:
            await self._turn.wait()
            return
        turn = self._turn = asyncio.Event()
        try:
            await asyncio.sleep(0)
            async with self._sending:
                self._turn = None
                for last, several in self._frames():
                    await last.ack(multiple=several)
        finally:
            if self._turn is turn:
                self._turn = None
            turn.set()

    def _frames(self) -> list[tuple[AbstractIncomingMessage, bool]]:
        """Take what is due: up to the first delivery in hand by one ack, what is due after that one by one."""
        due, self._due = self._due, {}
        beginning: list[int] = []
        for tag, is_due in self._in_hand.items():
            if is_due is not _DUE:
                break
            beginning.append(tag)
        rest = sorted(due.keys() - set(beginning))
        for tag in (*beginning, *rest):
            del self._in_hand[tag]
        together = [(due[beginning[-1]], len(beginning) > 1)] if beginning else []
        return together + [(due[tag], False) for tag in rest]


def _tag(message: AbstractIncomingMessage) -> int:
    if message.delivery_tag is None:
        raise ValueError("only what is to be acked is settled")
    return message.delivery_tag
