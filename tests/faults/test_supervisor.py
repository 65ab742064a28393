"""A program that is killed or frozen is known to be: what was asked of it is not taken for what became of it."""

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from etlpay_cli.local.program import Program
from support.supervisor import Child
from support.waiting import until_true


@pytest.fixture
async def child(tmp_path: Path) -> AsyncIterator[Child]:
    async def ready() -> bool:
        return True

    program = Program(name="sleeper", command=("sleep", "60"), environment={}, folder=tmp_path, ready=ready)
    child = Child(program, tmp_path / "log")
    async with asyncio.TaskGroup() as group:
        group.create_task(child.run())
        assert await until_true(lambda: child.pid is not None, 5)
        yield child
        await child.stop()


async def test_who_is_killed_has_ended_and_who_is_dead_cannot_be_killed(child: Child) -> None:
    first = child.pid

    assert await child.kill()
    assert child.pid != first
    assert not await child.kill()
    assert await until_true(lambda: child.pid not in {None, first}, 5), "a program that died is started again"


async def test_who_is_frozen_stands_still_until_the_end_of_it(child: Child) -> None:
    with child.frozen() as stands_still:
        assert await until_true(stands_still, 5)
        assert child.stands_still
    assert await until_true(lambda: not child.stands_still, 5)


async def test_who_was_woken_did_not_stand_still_to_the_end(child: Child) -> None:
    async with asyncio.TaskGroup() as group:
        frozen = group.create_task(child.freeze(0.2))
        await asyncio.sleep(0.05)
        child.send_signal(signal.SIGCONT)

    assert frozen.result() is False


async def test_who_is_dead_was_not_frozen(child: Child) -> None:
    async with asyncio.TaskGroup() as group:
        killing = group.create_task(child.kill(away_seconds=0.5))
        await until_true(lambda: child.pid is None, 5)
        frozen = await child.freeze(0.05)

    assert (killing.result(), frozen) == (True, False)


async def test_a_disturbance_is_remembered_and_ends(child: Child) -> None:
    begun = time.monotonic()
    undisturbed = child.disturbed_since(begun)
    with child.frozen() as stands_still, contextlib.suppress(TimeoutError):
        await until_true(stands_still, 5)
        while_frozen = child.disturbed_since(time.monotonic())
    await until_true(lambda: not child.stands_still, 5)

    assert (undisturbed, while_frozen) == (False, True)
    assert child.disturbed_since(begun)
    assert not child.disturbed_since(time.monotonic())
