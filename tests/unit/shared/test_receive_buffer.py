"""What comes together is taken together, in order and within a bound."""

import asyncio
from typing import Any

import pytest

from shared.messaging.consumer import ReceiveBuffer
from shared.messaging.throttle import ReadThrottle


class Message:
    """What a buffer needs of a delivery."""

    def __init__(self, body: bytes) -> None:
        self.body = body


async def put(buffer: ReceiveBuffer, *bodies: bytes) -> None:
    for body in bodies:
        message: Any = Message(body)
        await buffer.put(message)


async def take_batch(buffer: ReceiveBuffer, *, bytes_max: int = 100) -> list[bytes]:
    return [message.body for message in await buffer.take_batch(bytes_max)]


@pytest.fixture
def buffer() -> ReceiveBuffer:
    return ReceiveBuffer(ReadThrottle(1_000_000))


async def test_what_waits_is_one_batch_in_order(buffer: ReceiveBuffer) -> None:
    await put(buffer, b"1", b"2", b"3")

    assert await take_batch(buffer) == [b"1", b"2", b"3"]


async def test_what_the_event_loop_brings_some_turns_apart_is_one_batch(buffer: ReceiveBuffer) -> None:
    async def bring() -> None:
        for number in range(5):
            await put(buffer, b"%d" % number)
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        taking = group.create_task(take_batch(buffer))
        group.create_task(bring())

    assert taking.result() == [b"0", b"1", b"2", b"3", b"4"]


async def test_a_batch_does_not_wait_for_what_may_come_later(buffer: ReceiveBuffer) -> None:
    await put(buffer, b"1")

    assert await asyncio.wait_for(take_batch(buffer), 1) == [b"1"]


async def test_a_batch_is_bounded_and_the_next_goes_on_where_it_ended(buffer: ReceiveBuffer) -> None:
    await put(buffer, b"a" * 60, b"b" * 40, b"c")

    assert await take_batch(buffer) == [b"a" * 60, b"b" * 40]
    assert await take_batch(buffer) == [b"c"]


async def test_a_message_larger_than_a_batch_goes_alone(buffer: ReceiveBuffer) -> None:
    await put(buffer, b"a" * 101, b"b")

    assert await take_batch(buffer) == [b"a" * 101]
    assert await take_batch(buffer) == [b"b"]
