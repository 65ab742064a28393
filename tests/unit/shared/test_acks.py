"""Acks are sent together, and none covers an unsettled delivery."""

import asyncio

import pytest

from shared.messaging.acks import AckCoalescer


class Broker:
    """A channel that notes the frames, and which deliveries are settled by them as a broker would."""

    def __init__(self) -> None:
        self.frames: list[str] = []
        self.open: set[int] = set()
        self.slow = asyncio.Event()
        self.slow.set()

    def deliver(self, acks: AckCoalescer, *tags: int) -> None:
        for tag in tags:
            self.open.add(tag)
            acks.add(tag)

    async def basic_ack(self, delivery_tag: int, multiple: bool = False) -> None:  # noqa: FBT001, FBT002 - as the library has it
        covered = {tag for tag in self.open if tag <= delivery_tag} if multiple else {delivery_tag}
        assert covered <= self.open, "the broker closes the channel on an ack of what is settled already"
        self.open -= covered
        self.frames.append(f"ack {'to ' if multiple else ''}{delivery_tag}")
        await self.slow.wait()

    async def basic_reject(self, delivery_tag: int, *, requeue: bool = True) -> None:
        assert not requeue
        await self.slow.wait()
        self.open.remove(delivery_tag)
        self.frames.append(f"reject {delivery_tag}")


@pytest.fixture
def broker() -> Broker:
    return Broker()


@pytest.fixture
def acks(broker: Broker) -> AckCoalescer:
    return AckCoalescer(broker)


async def test_what_is_settled_at_once_is_one_frame(broker: Broker, acks: AckCoalescer) -> None:
    broker.deliver(acks, 1, 2, 3)

    await asyncio.gather(*(acks.ack([tag]) for tag in (1, 2, 3)))

    assert broker.frames == ["ack to 3"]
    assert broker.open == set()


async def test_a_batch_is_one_frame(broker: Broker, acks: AckCoalescer) -> None:
    broker.deliver(acks, 1, 2, 3)

    await acks.ack([1, 2, 3])

    assert broker.frames == ["ack to 3"]


async def test_a_delivery_alone_is_acked_alone(broker: Broker, acks: AckCoalescer) -> None:
    broker.deliver(acks, 7)

    await acks.ack([7])

    assert broker.frames == ["ack 7"]


async def test_an_ack_never_covers_what_is_unsettled(broker: Broker, acks: AckCoalescer) -> None:
    broker.deliver(acks, 1, 2, 3, 4, 5)

    await asyncio.gather(*(acks.ack([tag]) for tag in (1, 2, 4, 5)))

    assert broker.frames == ["ack to 2", "ack 4", "ack 5"]
    assert broker.open == {3}
    await acks.ack([3])
    assert broker.open == set()


async def test_an_ack_does_not_cover_a_delivery_that_is_being_rejected(broker: Broker, acks: AckCoalescer) -> None:
    broker.deliver(acks, 1, 2, 3)
    broker.slow.clear()

    async with asyncio.TaskGroup() as group:
        group.create_task(acks.reject(2))
        group.create_task(acks.ack([1]))
        group.create_task(acks.ack([3]))
        await asyncio.sleep(0.01)
        assert 2 in broker.open
        broker.slow.set()

    assert sorted(broker.frames) == ["ack 1", "ack 3", "reject 2"]


async def test_what_is_settled_while_a_frame_is_on_its_way_waits_for_its_turn(
    broker: Broker, acks: AckCoalescer
) -> None:
    """Else an ack of several could overtake one of a single delivery that it covers."""
    broker.deliver(acks, 1, 2, 3, 4)
    broker.slow.clear()

    async with asyncio.TaskGroup() as group:
        group.create_task(acks.ack([2]))
        group.create_task(acks.ack([4]))
        await asyncio.sleep(0.01)
        group.create_task(acks.ack([1]))
        group.create_task(acks.ack([3]))
        await asyncio.sleep(0.01)
        broker.slow.set()

    assert broker.frames == ["ack 2", "ack 4", "ack to 3"]
    assert broker.open == set()


async def test_where_the_session_ends_nobody_waits_for_ever(broker: Broker, acks: AckCoalescer) -> None:
    broker.deliver(acks, 1, 2)
    broker.slow.clear()
    settling = [asyncio.ensure_future(acks.ack([tag])) for tag in (1, 2)]
    await asyncio.sleep(0.01)

    settling[0].cancel()

    ended = await asyncio.wait_for(asyncio.gather(*settling, return_exceptions=True), 1)
    assert isinstance(ended[0], asyncio.CancelledError)
    assert ended[1] is None
