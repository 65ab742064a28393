"""Where there is no room for another message, no more is read from the broker; whatever fits alone comes through."""

import asyncio

from shared.messaging.throttle import ReadThrottle


class Line:
    """The frames of an AMQP channel, read one after the other as the client library does."""

    def __init__(self, room: ReadThrottle) -> None:
        self.frames: asyncio.Queue[int] = asyncio.Queue(maxsize=2)
        self.read: list[int] = []
        room.guard(self.frames)

    async def read_on(self) -> None:
        while True:
            self.read.append(await self.frames.get())

    async def fill(self, *frames: int) -> int:
        """Send the frames until the queue is full; return how many went in."""
        sent = 0
        for frame in frames:
            try:
                async with asyncio.timeout(0.01):
                    await self.frames.put(frame)
            except TimeoutError:
                break
            sent += 1
            await asyncio.sleep(0)
        return sent


async def test_frames_wait_while_the_room_is_full_and_go_on_when_it_is_not() -> None:
    room = ReadThrottle(10)
    line = Line(room)
    reading = asyncio.ensure_future(line.read_on())

    before = await line.fill(1, 2, 3)
    room.take(6)
    half = await line.fill(4)
    room.take(6)
    # The frame that was waited for before the room was full still comes.
    full = await line.fill(5, 6, 7, 8, 9)
    read_while_full = list(line.read)
    room.give_back(6)
    await asyncio.sleep(0.01)
    reading.cancel()

    assert (before, half, full) == (3, 1, 3)
    assert read_while_full == [1, 2, 3, 4, 5]
    assert line.read == [1, 2, 3, 4, 5, 6, 7]


async def test_a_message_larger_than_the_room_is_taken_alone() -> None:
    room = ReadThrottle(10)
    line = Line(room)
    reading = asyncio.ensure_future(line.read_on())
    room.take(1_000)
    room.give_back(1_000)

    await line.fill(1, 2)
    await asyncio.sleep(0)
    reading.cancel()

    assert line.read == [1, 2]
