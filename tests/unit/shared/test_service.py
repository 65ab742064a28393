"""The parts of a service start in the order in which they are listed, and stop in the reverse order."""

import asyncio

import pytest

from shared.runtime.ops import OpsServer
from shared.runtime.readiness import Readiness
from shared.runtime.service import Periodic, running


class Noted:
    """A part that takes some turns of the loop to stop, and notes when it does."""

    def __init__(self, name: str, happened: list[str]) -> None:
        self._name = name
        self._happened = happened
        self._closing = asyncio.Event()

    async def run(self) -> None:
        try:
            await self._closing.wait()
            await asyncio.sleep(0.01)
        finally:
            self._happened.append(f"{self._name} ended")

    def close(self) -> None:
        self._happened.append(f"{self._name} closed")
        self._closing.set()


class Broken:
    """A part that cannot work."""

    async def run(self) -> None:
        raise ValueError("broken")

    def close(self) -> None:
        raise AssertionError("it has ended")


async def test_a_part_is_closed_when_those_started_after_it_have_ended() -> None:
    happened: list[str] = []

    async with running(Noted("publisher", happened)), running(Noted("consumer", happened)):
        happened.append("body")

    assert happened == ["body", "consumer closed", "consumer ended", "publisher closed", "publisher ended"]


async def test_a_part_that_fails_ends_the_body_and_the_other_parts() -> None:
    happened: list[str] = []

    with pytest.raises(ExceptionGroup) as raised:
        async with running(Broken()), running(Noted("consumer", happened)):
            await asyncio.Event().wait()

    assert raised.group_contains(ValueError, match="broken")
    assert happened == ["consumer ended"]


async def test_a_body_that_fails_ends_its_parts() -> None:
    happened: list[str] = []

    async def fail() -> None:
        async with running(Noted("publisher", happened)):
            await asyncio.sleep(0)
            raise ValueError("broken")

    with pytest.raises(ExceptionGroup) as raised:
        await fail()

    assert raised.group_contains(ValueError)
    assert happened == ["publisher ended"]


async def test_a_periodic_call_comes_at_once_and_after_each_pause_until_it_is_closed() -> None:
    calls = asyncio.Semaphore(0)

    async def call() -> None:
        calls.release()

    async with asyncio.timeout(5):
        async with running(Periodic(call, seconds=0.01)):
            for _ in range(3):
                await calls.acquire()
        async with running(Periodic(call, seconds=60)):
            await calls.acquire()


async def test_an_operators_port_that_is_turned_off_only_waits() -> None:
    async with asyncio.timeout(5), running(OpsServer(Readiness(), host="127.0.0.1", port=0)) as server:
        await asyncio.sleep(0)

    assert server.port is None
