"""A service ends as it was asked to: 0 after its drain, 1 where it cannot work, and never later than its limit."""

import asyncio
import os
import signal
import subprocess
import sys
import time

import pytest
import structlog

from shared.contracts.errors import FatalError
from shared.runtime.lifecycle import run

DRAINS_FOR_EVER = """
import asyncio
from shared.runtime.lifecycle import run

async def serve(stopping):
    print("up", flush=True)
    await asyncio.Event().wait()

run(serve, drain_seconds_max=0.3)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_asks_to_stop_and_the_drain_is_waited_for(number: signal.Signals) -> None:
    happened: list[str] = []

    async def serve(stopping: asyncio.Event) -> None:
        os.kill(os.getpid(), number)
        await stopping.wait()
        await asyncio.sleep(0.05)
        happened.append("drained")

    code = run(serve, drain_seconds_max=5)

    assert code == 0
    assert happened == ["drained"]


def test_a_service_that_ends_by_itself_ends_well() -> None:
    async def serve(_: asyncio.Event) -> None:
        await asyncio.sleep(0)

    assert run(serve, drain_seconds_max=5) == 0


def test_what_no_waiting_can_mend_is_told_and_ends_with_one() -> None:
    """The reasons, not the task groups that they came through."""

    async def fail(reason: str) -> None:
        raise FatalError(reason)

    async def serve(_: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as outer, asyncio.TaskGroup() as inner:
            outer.create_task(fail("no password"))
            inner.create_task(fail("no schema"))

    with structlog.testing.capture_logs() as lines:
        code = run(serve, drain_seconds_max=5)

    assert code == 1
    (line,) = lines
    assert sorted(line["reasons"]) == ["no password", "no schema"]


def test_a_fault_of_ours_is_told_with_its_place_and_without_its_words() -> None:
    """The words of an error may be a payload."""

    async def fail() -> None:
        known: dict[str, str] = {}
        try:
            known["4111 1111 1111 1111"]
        except KeyError as error:
            raise RuntimeError("a payload") from error

    async def serve(_: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(fail())

    with structlog.testing.capture_logs() as lines:
        code = run(serve, drain_seconds_max=5)

    assert code == os.EX_SOFTWARE
    (line,) = lines
    assert [error["type"] for error in line["errors"]] == ["RuntimeError", "KeyError"]
    assert all(error["at"][-1].endswith(" fail") for error in line["errors"])
    assert "payload" not in str(line)
    assert "4111" not in str(line)


def test_a_drain_that_does_not_end_is_ended() -> None:
    """Cancelling could cut a writer in two; the process goes, and what it held is delivered again."""
    with subprocess.Popen((sys.executable, "-c", DRAINS_FOR_EVER), stdout=subprocess.PIPE, text=True) as service:
        assert service.stdout is not None
        assert service.stdout.readline() == "up\n"
        begun = time.monotonic()
        service.send_signal(signal.SIGTERM)
        code = service.wait(timeout=10)
        took_seconds = time.monotonic() - begun
        said = service.stdout.read()

    assert code == 1
    assert "drain took too long" in said
    least_seconds, most_seconds = 0.3, 5
    assert least_seconds <= took_seconds < most_seconds
