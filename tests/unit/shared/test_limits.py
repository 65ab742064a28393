"""A limit that callers share: none uses it up, and all of it is used."""

import asyncio

import pytest

from shared.contracts.errors import OverloadedError
from shared.runtime.limits import CapacityLimit, network_of


def fill(capacity: CapacityLimit, caller: str, amount: int = 1) -> int:
    """Take as much as the caller may have; return how much that was."""
    taken = 0
    while True:
        try:
            capacity.acquire(caller, amount)
        except OverloadedError:
            return taken
        taken += amount


@pytest.mark.parametrize(("share", "taken"), [(0.75, 3), (0.5, 2), (1.0, 4)])
def test_one_caller_alone_may_have_its_share(share: float, taken: int) -> None:
    assert fill(CapacityLimit(4, share=share), "a") == taken


@pytest.mark.parametrize("size", [2, 4, 12, 500, 8 * 1024 * 1024])
def test_a_greedy_caller_leaves_something_for_the_next(size: int) -> None:
    capacity = CapacityLimit(size, share=0.75)

    assert fill(capacity, "greedy", max(1, size // 100)) > 0
    capacity.acquire("other", max(1, size // 100))


def test_greedy_callers_get_about_the_same() -> None:
    capacity = CapacityLimit(1_000, share=0.75)
    for _ in range(1_000):
        for caller in "abc":
            try:
                capacity.acquire(caller)
            except OverloadedError:
                continue

    assert [fill(capacity, caller) for caller in "abc"] == [0, 0, 0]
    # Each has three times what is free.
    assert fill(capacity, "d") == pytest.approx(75, abs=2)


def test_what_is_given_back_is_there_for_anybody() -> None:
    capacity = CapacityLimit(4, share=0.75)
    taken = fill(capacity, "a")

    capacity.release("a", taken)

    assert fill(capacity, "b") == taken


def test_where_nobody_holds_anything_any_amount_may_be_taken() -> None:
    capacity = CapacityLimit(10, share=0.5)

    capacity.acquire("a", 11)

    with pytest.raises(OverloadedError):
        capacity.acquire("b")
    capacity.release("a", 11)
    capacity.acquire("b", 10)


async def test_one_that_waits_goes_on_when_there_is_enough() -> None:
    capacity = CapacityLimit(10, share=1)
    capacity.acquire("a", 8)

    waiting = asyncio.ensure_future(capacity.wait("b", 4))
    await asyncio.sleep(0)
    assert not waiting.done()
    capacity.release("a", 8)
    await waiting

    assert fill(capacity, "c") == 6


async def test_of_those_that_wait_the_one_that_holds_least_is_first() -> None:
    capacity = CapacityLimit(10, share=1)
    capacity.acquire("a", 10)
    order: list[str] = []

    async def wait(caller: str) -> None:
        await capacity.wait(caller, 5)
        order.append(caller)

    async with asyncio.TaskGroup() as group:
        for caller in ("a", "a", "b"):
            group.create_task(wait(caller))
        await asyncio.sleep(0)
        capacity.release("a", 5)
        await asyncio.sleep(0.01)
        assert order == ["b"]
        capacity.release("a", 5)
        capacity.release("b", 5)

    assert order == ["b", "a", "a"]


async def test_one_that_holds_nothing_does_not_wait_for_those_who_have_their_share() -> None:
    capacity = CapacityLimit(4, share=0.75)
    fill(capacity, "greedy")
    waiting = asyncio.ensure_future(capacity.wait("greedy"))
    await asyncio.sleep(0)

    async with asyncio.timeout(1):
        await capacity.wait("other")

    assert not waiting.done()
    waiting.cancel()


async def test_nobody_overtakes_one_that_waits_for_much() -> None:
    capacity = CapacityLimit(10, share=1)
    capacity.acquire("a", 10)

    large = asyncio.ensure_future(capacity.wait("b", 8))
    small = asyncio.ensure_future(capacity.wait("c", 1))
    await asyncio.sleep(0)
    capacity.release("a", 4)
    await asyncio.sleep(0)
    assert (large.done(), small.done()) == (False, False)
    capacity.release("a", 6)
    await asyncio.gather(large, small)


async def test_one_that_waits_too_long_is_refused_and_holds_nothing() -> None:
    capacity = CapacityLimit(2, share=1)
    capacity.acquire("a", 2)

    with pytest.raises(OverloadedError):
        await capacity.wait("b", 1, seconds_max=0.01)

    capacity.release("a", 2)
    assert fill(capacity, "c") == 2


async def test_one_that_is_cancelled_just_before_it_would_be_served_is_passed_over() -> None:
    capacity = CapacityLimit(2, share=1)
    capacity.acquire("a", 2)
    cancelled, waiting = [asyncio.ensure_future(capacity.wait(caller)) for caller in "bc"]
    await asyncio.sleep(0)

    cancelled.cancel()
    capacity.release("a", 1)
    await asyncio.wait([cancelled, waiting])

    assert (cancelled.cancelled(), waiting.exception()) == (True, None)
    assert (capacity.held("b"), capacity.held("c"), capacity.free) == (0, 1, 0)


async def test_one_that_is_cancelled_when_it_was_just_served_holds_nothing() -> None:
    capacity = CapacityLimit(2, share=1)
    capacity.acquire("a", 2)
    waiting = asyncio.ensure_future(capacity.wait("b", 1))
    await asyncio.sleep(0)

    capacity.release("a", 2)
    waiting.cancel()
    await asyncio.wait([waiting])

    assert fill(capacity, "c") == 2


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::ffff", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("unix:", "unix:"),
        ("", ""),
    ],
)
def test_callers_are_told_apart_by_their_network(address: str, network: str) -> None:
    assert network_of(address) == network
