"""Acks travel together, and none covers a delivery that is still in hand."""

import asyncio
from typing import Any

import pytest

from shared.messaging.acks import Acks


class Broker:
    """Notes the frames, and which deliveries are settled by them as a broker would."""

    def __init__(self) -> None:
        self.frames: list[str] = []
        self.open: set[int] = set()
        self.slow = asyncio.Event()
        self.slow.set()

    def deliver(self, acks: Acks, *tags: int) -> "list[Any]":
        messages = [Message(self, tag) for tag in tags]
        for message in messages:
            self.open.add(message.delivery_tag)
            acks.take(message)  # type: ignore[arg-type] # what Acks needs of one
        return messages


class Message:
    """A delivery as the client library has it."""

    def __init__(self, broker: Broker, tag: int) -> None:
        self._broker = broker
        self.delivery_tag = tag

    async def ack(self, *, multiple: bool) -> None:
        broker = self._broker
        covered = {tag for tag in broker.open if tag <= self.delivery_tag} if multiple else {self.delivery_tag}
        assert covered <= broker.open, "the broker closes the channel on an ack of what is settled already"
        broker.open -= covered
        broker.frames.append(f"ack {'to ' if multiple else ''}{self.delivery_tag}")
        await broker.slow.wait()

    async def reject(self, *, requeue: bool) -> None:
        assert not requeue
        await self._broker.slow.wait()
        self._broker.open.remove(self.delivery_tag)
        self._broker.frames.append(f"reject {self.delivery_tag}")


@pytest.fixture
def broker() -> Broker:
    return Broker()


async def test_what_is_settled_at_once_is_one_frame(broker: Broker) -> None:
    acks = Acks()
    messages = broker.deliver(acks, 1, 2, 3)

    await asyncio.gather(*map(acks.ack, messages))

    assert broker.frames == ["ack to 3"]
    assert broker.open == set()


async def test_a_delivery_alone_is_acked_alone(broker: Broker) -> None:
    acks = Acks()
    [message] = broker.deliver(acks, 7)

    await acks.ack(message)

    assert broker.frames == ["ack 7"]


async def test_an_ack_never_covers_what_is_still_in_hand(broker: Broker) -> None:
    acks = Acks()
    one, two, three, four, five = broker.deliver(acks, 1, 2, 3, 4, 5)

    await asyncio.gather(*map(acks.ack, (one, two, four, five)))

    assert broker.frames == ["ack to 2", "ack 4", "ack 5"]
    assert broker.open == {3}
    await acks.ack(three)
    assert broker.open == set()


async def test_an_ack_does_not_cover_a_delivery_that_is_being_rejected(broker: Broker) -> None:
    acks = Acks()
    one, two, three = broker.deliver(acks, 1, 2, 3)
    broker.slow.clear()

    async with asyncio.TaskGroup() as group:
        group.create_task(acks.reject(two))
        group.create_task(acks.ack(one))
        group.create_task(acks.ack(three))
        await asyncio.sleep(0.01)
        assert 2 in broker.open
        broker.slow.set()

    assert sorted(broker.frames) == ["ack 1", "ack 3", "reject 2"]


async def test_what_is_settled_while_a_frame_is_on_its_way_waits_for_its_turn(broker: Broker) -> None:
    """Else an ack of several could overtake one of a single delivery that it covers."""
    acks = Acks()
    one, two, three, four = broker.deliver(acks, 1, 2, 3, 4)
    broker.slow.clear()

    async with asyncio.TaskGroup() as group:
        group.create_task(acks.ack(two))
        group.create_task(acks.ack(four))
        await asyncio.sleep(0.01)
        group.create_task(acks.ack(one))
        group.create_task(acks.ack(three))
        await asyncio.sleep(0.01)
        broker.slow.set()

    assert broker.frames == ["ack 2", "ack 4", "ack to 3"]
    assert broker.open == set()


async def test_where_the_session_ends_nobody_waits_for_ever(broker: Broker) -> None:
    acks = Acks()
    messages = broker.deliver(acks, 1, 2)
    broker.slow.clear()
    settling = [asyncio.ensure_future(acks.ack(message)) for message in messages]
    await asyncio.sleep(0.01)

    settling[0].cancel()

    ended = await asyncio.wait_for(asyncio.gather(*settling, return_exceptions=True), 1)
    assert isinstance(ended[0], asyncio.CancelledError)
    assert ended[1] is None
