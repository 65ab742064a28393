"""At the limit nothing more is read from the broker; a message of any size is accepted alone."""

import asyncio

from shared.messaging.throttle import ReadThrottle


class Line:
    """The frames of an AMQP channel, read one after the other as the client library does."""

    def __init__(self, throttle: ReadThrottle) -> None:
        self.frames: asyncio.Queue[int] = asyncio.Queue(maxsize=2)
        self.read: list[int] = []
        throttle.apply_to(self.frames)

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


async def test_frames_wait_at_the_limit_and_go_on_below_it() -> None:
    throttle = ReadThrottle(10)
    line = Line(throttle)
    reading = asyncio.ensure_future(line.read_on())

    before = await line.fill(1, 2, 3)
    throttle.acquire(6)
    half = await line.fill(4)
    throttle.acquire(6)
    # The frame that was waited for before the limit still comes.
    full = await line.fill(5, 6, 7, 8, 9)
    read_while_full = list(line.read)
    throttle.release(6)
    await asyncio.sleep(0.01)
    reading.cancel()

    assert (before, half, full) == (3, 1, 3)
    assert read_while_full == [1, 2, 3, 4, 5]
    assert line.read == [1, 2, 3, 4, 5, 6, 7]


async def test_a_message_larger_than_the_limit_is_accepted_alone() -> None:
    throttle = ReadThrottle(10)
    line = Line(throttle)
    reading = asyncio.ensure_future(line.read_on())
    throttle.acquire(1_000)
    throttle.release(1_000)

    await line.fill(1, 2)
    await asyncio.sleep(0)
    reading.cancel()

    assert line.read == [1, 2]
