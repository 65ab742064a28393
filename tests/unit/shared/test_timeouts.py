"""A wait ends when its time is over, and only then; whoever else cancels the task is told apart."""

import asyncio
import time

import pytest

from shared.runtime.timeouts import Timeouts


async def test_what_ends_in_time_is_left_alone() -> None:
    timeouts = Timeouts()

    with timeouts.until(time.monotonic() + 0.05):
        pass
    await asyncio.sleep(0.3)

    assert not timeouts._waits
    assert timeouts._timer is None


async def test_what_takes_too_long_is_ended_with_a_time_out() -> None:
    timeouts, began = Timeouts(), time.monotonic()

    with pytest.raises(TimeoutError), timeouts.until(began + 0.05):
        await asyncio.sleep(10)

    assert time.monotonic() - began < 5
    assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr] # a test is a task
    await asyncio.sleep(0)


async def test_each_of_many_waits_has_its_own_time() -> None:
    timeouts = Timeouts()

    async def wait(seconds: float) -> bool:
        try:
            with timeouts.until(time.monotonic() + seconds):
                await asyncio.sleep(0.6)
        except TimeoutError:
            return False
        return True

    assert await asyncio.gather(*(wait(seconds) for seconds in (0.05, 30, 0.1, 30))) == [False, True, False, True]


async def test_a_task_that_is_cancelled_by_others_is_cancelled() -> None:
    timeouts = Timeouts()

    async def wait() -> None:
        with timeouts.until(time.monotonic() + 30):
            await asyncio.sleep(30)

    task = asyncio.ensure_future(wait())
    await asyncio.sleep(0.01)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert not timeouts._waits


async def test_a_wait_within_a_longer_one_ends_alone() -> None:
    timeouts = Timeouts()

    with timeouts.until(time.monotonic() + 30):
        with pytest.raises(TimeoutError), timeouts.until(time.monotonic() + 0.05):
            await asyncio.sleep(10)
        await asyncio.sleep(0)


async def test_all_waits_can_be_ended_at_once() -> None:
    """Those of a session that is lost do not wait for their deadlines."""
    timeouts = Timeouts()

    async def wait() -> None:
        with timeouts.until(time.monotonic() + 30):
            await asyncio.sleep(30)

    waits = [asyncio.ensure_future(wait()) for _ in range(2)]
    await asyncio.sleep(0.01)

    timeouts.expire()

    ended = await asyncio.wait_for(asyncio.gather(*waits, return_exceptions=True), timeout=5)
    assert [type(error) for error in ended] == [TimeoutError, TimeoutError]
