"""What comes together is taken together, in order and within a bound."""

import asyncio
from typing import Any

import pytest

from shared.messaging.consumer import ReceiveBuffer
from shared.messaging.throttle import ReadThrottle


class Message:
    """What an inbox needs of a delivery."""

    def __init__(self, body: bytes) -> None:
        self.body = body


async def put(inbox: ReceiveBuffer, *bodies: bytes) -> None:
    for body in bodies:
        message: Any = Message(body)
        await inbox.put(message)


async def take_run(inbox: ReceiveBuffer, *, bytes_max: int = 100) -> list[bytes]:
    return [message.body for message in await inbox.take_run(bytes_max)]


@pytest.fixture
def inbox() -> ReceiveBuffer:
    return ReceiveBuffer(ReadThrottle(1_000_000))


async def test_what_waits_is_one_run_in_order(inbox: ReceiveBuffer) -> None:
    await put(inbox, b"1", b"2", b"3")

    assert await take_run(inbox) == [b"1", b"2", b"3"]


async def test_what_the_event_loop_brings_some_turns_apart_is_one_run(inbox: ReceiveBuffer) -> None:
    async def bring() -> None:
        for number in range(5):
            await put(inbox, b"%d" % number)
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        taking = group.create_task(take_run(inbox))
        group.create_task(bring())

    assert taking.result() == [b"0", b"1", b"2", b"3", b"4"]


async def test_a_run_does_not_wait_for_what_may_come_later(inbox: ReceiveBuffer) -> None:
    await put(inbox, b"1")

    assert await asyncio.wait_for(take_run(inbox), 1) == [b"1"]


async def test_a_run_is_bounded_and_the_next_goes_on_where_it_ended(inbox: ReceiveBuffer) -> None:
    await put(inbox, b"a" * 60, b"b" * 40, b"c")

    assert await take_run(inbox) == [b"a" * 60, b"b" * 40]
    assert await take_run(inbox) == [b"c"]


async def test_a_message_larger_than_a_run_goes_alone(inbox: ReceiveBuffer) -> None:
    await put(inbox, b"a" * 101, b"b")

    assert await take_run(inbox) == [b"a" * 101]
    assert await take_run(inbox) == [b"b"]
