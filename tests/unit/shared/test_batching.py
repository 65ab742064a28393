"""Group commit: what gathers while a batch is written becomes the next one, and each caller gets its own answer."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.batching import Batcher, BatcherLimits
from shared.contracts.errors import OverloadedError, UnavailableError
from shared.runtime.service import running

IntBatcher = Batcher[int, str]


class Writer:
    """Writes to memory, and only when it is let."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.begun = asyncio.Semaphore(0)
        self.let = asyncio.Event()
        self.let.set()
        self.faults: dict[int, Exception] = {}
        """What writing an item raises."""

    async def write(self, items: list[int]) -> Sequence[str]:
        self.batches.append(items)
        self.begun.release()
        await self.let.wait()
        for item in items:
            if item in self.faults:
                raise self.faults[item]
        return [str(item) for item in items]


def batching(
    write: Callable[[list[int]], Awaitable[Sequence[str]]], *, in_flight: int = 1, **limits: float
) -> AbstractAsyncContextManager[IntBatcher]:
    """Run a batcher of numbers, each as heavy as itself; close it and wait for its end."""
    bounds = BatcherLimits.model_validate({"in_flight_max": in_flight, **limits})
    return running(IntBatcher(write, limits=bounds, weigh=lambda item: item))


async def gathered(batcher: IntBatcher, *groups: list[int]) -> list[asyncio.Task[list[str]]]:
    """Submit groups and return once each of them waits."""
    waiting = [asyncio.ensure_future(batcher.submit(group)) for group in groups]
    await asyncio.sleep(0)
    return waiting


async def test_one_event_is_a_batch_of_one_at_once() -> None:
    """Nothing waits on a timer."""
    writer = Writer()

    async with batching(writer.write) as batcher, asyncio.timeout(1):
        assert await batcher.submit([7]) == ["7"]

    assert writer.batches == [[7]]


async def submit_later(batcher: IntBatcher, item: int, *, at_once: bool = False) -> list[str]:
    """Submit an item as many turns later as it says."""
    for _ in range(item):
        await asyncio.sleep(0)
    return await batcher.submit([item], at_once=at_once)


async def test_what_the_event_loop_brings_a_few_turns_later_comes_along() -> None:
    """Else a burst that one socket brought is many small batches, each with a commit of its own."""
    writer = Writer()

    async with batching(writer.write) as batcher:
        await asyncio.gather(*(submit_later(batcher, item) for item in range(1, 7)))

    assert writer.batches == [[1, 2, 3, 4, 5, 6]]


async def test_what_shall_go_at_once_does_not_wait_for_what_comes_later() -> None:
    writer = Writer()

    async with batching(writer.write) as batcher:
        await asyncio.gather(*(submit_later(batcher, item, at_once=True) for item in range(1, 7)))

    assert writer.batches[0] == [1]


async def test_a_stream_without_end_does_not_hold_up_the_first_of_it() -> None:
    writer = Writer()
    ended = False

    async def submit_on_and_on(batcher: IntBatcher) -> None:
        async with asyncio.TaskGroup() as group:
            while not ended:
                group.create_task(batcher.submit([1]))
                await asyncio.sleep(0)

    async with batching(writer.write) as batcher, asyncio.TaskGroup() as group, asyncio.timeout(5):
        group.create_task(submit_on_and_on(batcher))
        await writer.begun.acquire()
        ended = True

    assert len(writer.batches[0]) < 100


async def test_what_gathers_while_a_batch_is_written_is_the_next_batch() -> None:
    writer = Writer()
    writer.let.clear()

    async with batching(writer.write) as batcher:
        first = await gathered(batcher, [1])
        await writer.begun.acquire()
        others = await gathered(batcher, [2, 3], [4], [5, 6])
        writer.let.set()
        answers = await asyncio.gather(*first, *others)

    assert writer.batches == [[1], [2, 3, 4, 5, 6]]
    assert answers == [["1"], ["2", "3"], ["4"], ["5", "6"]]


async def test_batches_are_in_flight_side_by_side_up_to_the_limit() -> None:
    writer = Writer()
    writer.let.clear()

    async with batching(writer.write, in_flight=2, events_max=1) as batcher:
        waiting = await gathered(batcher, [1], [2], [3])
        await writer.begun.acquire()
        await writer.begun.acquire()
        await asyncio.sleep(0)
        in_flight = list(writer.batches)
        writer.let.set()
        await asyncio.gather(*waiting)

    assert in_flight == [[1], [2]]


async def test_a_batch_that_is_not_full_waits_while_others_are_in_flight_and_a_full_one_does_not() -> None:
    """Where each batch has a price of its own, many small ones are dear."""
    writer = Writer()
    writer.let.clear()

    async with (
        batching(writer.write, in_flight=3, partial_in_flight_max=1, events_max=2) as batcher,
        asyncio.timeout(5),
    ):
        waiting = await gathered(batcher, [1])
        await writer.begun.acquire()
        waiting += await gathered(batcher, [2])
        await asyncio.sleep(0.05)
        before = list(writer.batches)
        waiting += await gathered(batcher, [3])
        await writer.begun.acquire()
        after = list(writer.batches)
        waiting += await gathered(batcher, [4])
        writer.let.set()
        await asyncio.gather(*waiting)

    assert before == [[1]]
    assert after == [[1], [2, 3]]
    assert writer.batches == [[1], [2, 3], [4]]


async def test_a_batch_that_is_not_full_does_not_wait_for_long() -> None:
    """What is in flight may stand still for seconds; each batch behind it would add as many."""
    writer = Writer()
    writer.let.clear()

    async with (
        batching(writer.write, in_flight=3, partial_in_flight_max=1, events_max=9) as batcher,
        asyncio.timeout(5),
    ):
        waiting = await gathered(batcher, [1])
        await writer.begun.acquire()
        waiting += await gathered(batcher, [2])
        await writer.begun.acquire()
        writer.let.set()
        await asyncio.gather(*waiting)

    assert writer.batches == [[1], [2]]


@given(
    groups=st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=6), min_size=1, max_size=12),
    events_max=st.integers(1, 8),
    bytes_max=st.integers(1, 30),
)
async def test_order_and_limits_hold_and_no_group_is_split(
    groups: list[list[int]], events_max: int, bytes_max: int
) -> None:
    writer = Writer()

    async with batching(writer.write, events_max=events_max, bytes_max=bytes_max) as batcher:
        answers = await asyncio.gather(*await gathered(batcher, *groups))

    assert answers == [[str(item) for item in group] for group in groups]
    assert [item for batch in writer.batches for item in batch] == [item for group in groups for item in group]
    ends = {sum(map(len, groups[: number + 1])) for number in range(len(groups))}
    position = 0
    for batch in writer.batches:
        position += len(batch)
        assert position in ends
        assert (len(batch) <= events_max and sum(batch) <= bytes_max) or batch in groups


async def test_a_failure_reaches_every_group_of_its_batch_and_no_other() -> None:
    writer = Writer()
    writer.faults[1] = fault = UnavailableError("away")

    async with batching(writer.write, events_max=2) as batcher:
        first, second, spared = await gathered(batcher, [1], [2], [3, 4])
        failures = await asyncio.gather(first, second, return_exceptions=True)
        answer = await spared

    assert writer.batches == [[1, 2], [3, 4]]
    assert failures[0] is fault
    assert failures[1] is fault
    assert answer == ["3", "4"]


async def test_a_fault_of_ours_ends_a_batch_and_not_the_batcher() -> None:
    writer = Writer()
    writer.faults[1] = RuntimeError("a bug")

    async with batching(writer.write) as batcher:
        with pytest.raises(RuntimeError, match="a bug"):
            await batcher.submit([1])
        assert await batcher.submit([2]) == ["2"]


async def test_a_caller_that_goes_away_does_not_stop_the_write() -> None:
    writer = Writer()
    writer.let.clear()

    async with batching(writer.write) as batcher:
        leaving, staying = await gathered(batcher, [1], [2])
        await writer.begun.acquire()
        leaving.cancel()
        await asyncio.sleep(0)
        writer.let.set()
        answer = await staying

    assert writer.batches == [[1, 2]]
    assert answer == ["2"]
    assert leaving.cancelled()


async def test_a_caller_that_goes_away_before_its_batch_is_written_all_the_same() -> None:
    writer = Writer()
    writer.let.clear()

    async with batching(writer.write) as batcher:
        (first,) = await gathered(batcher, [1])
        await writer.begun.acquire()
        (leaving,) = await gathered(batcher, [2])
        leaving.cancel()
        writer.let.set()
        await first

    assert writer.batches == [[1], [2]]


@pytest.mark.parametrize("limits", [{"backlog_events_max": 3}, {"backlog_bytes_max": 3}])
async def test_at_the_limit_of_the_backlog_nothing_is_taken(limits: dict[str, int]) -> None:
    writer = Writer()
    writer.let.clear()

    async with batching(writer.write, **limits) as batcher:
        waiting = await gathered(batcher, [1])
        await writer.begun.acquire()
        waiting += await gathered(batcher, [1, 1], [1])
        with pytest.raises(OverloadedError):
            await batcher.submit([1])
        writer.let.set()
        await asyncio.gather(*waiting)
        assert await batcher.submit([1]) == ["1"]

    assert writer.batches == [[1], [1, 1, 1], [1]]


async def test_what_waits_too_long_is_given_back_and_never_written() -> None:
    """Both transports may be down for minutes: a caller gets its answer all the same."""
    writer = Writer()
    writer.let.clear()

    async with batching(writer.write, events_max=1, backlog_events_max=2, backlog_seconds_max=0.1) as batcher:
        first = await gathered(batcher, [1])
        await writer.begun.acquire()
        waiting = await gathered(batcher, [2], [3])
        async with asyncio.timeout(1):
            given_back = await asyncio.gather(*waiting, return_exceptions=True)
        # Its room is free again, and what came later has its own time.
        later = await gathered(batcher, [4], [5])
        writer.let.set()
        answers = await asyncio.gather(*first, *later)

    assert [type(error) for error in given_back] == [UnavailableError] * 2
    assert answers == [["1"], ["4"], ["5"]]
    assert writer.batches == [[1], [4], [5]]


async def test_what_is_being_written_is_not_given_back_however_long_it_takes() -> None:
    """It may be taken: to say that nothing was would be a guess."""
    writer = Writer()
    writer.let.clear()

    async with batching(writer.write, backlog_seconds_max=0.05) as batcher:
        [writing] = await gathered(batcher, [1])
        await writer.begun.acquire()
        await asyncio.sleep(0.2)
        done_meanwhile = writing.done()
        writer.let.set()
        answer = await writing

    assert not done_meanwhile
    assert answer == ["1"]


async def test_a_group_larger_than_every_limit_goes_alone() -> None:
    """It was taken by a service that allows it: refusing it here would refuse it for ever."""
    writer = Writer()

    async with batching(writer.write, events_max=2, backlog_events_max=2, bytes_max=2) as batcher:
        assert await batcher.submit([5, 6, 7]) == ["5", "6", "7"]

    assert writer.batches == [[5, 6, 7]]


async def test_closing_takes_nothing_more_and_settles_what_was_taken() -> None:
    writer = Writer()
    writer.let.clear()

    async with batching(writer.write, in_flight=2, events_max=1) as batcher:
        waiting = await gathered(batcher, [1], [2], [3], [4])
        batcher.close()
        with pytest.raises(UnavailableError):
            await batcher.submit([5])
        writer.let.set()
        answers = await asyncio.gather(*waiting)

    assert answers == [["1"], ["2"], ["3"], ["4"]]


async def test_nothing_submitted_is_nothing_written() -> None:
    writer = Writer()

    async with batching(writer.write) as batcher:
        assert await batcher.submit([]) == []

    assert writer.batches == []
