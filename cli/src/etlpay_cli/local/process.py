"""Runs one program of the local stack: starts it, restarts it when it ends, and stops it on request."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from asyncio.subprocess import DEVNULL, Process
from typing import TYPE_CHECKING, Final

import psutil

from etlpay_cli import state
from shared.runtime.waiting import wait_any

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from etlpay_cli.local.program import Program

_BACKOFF_SECONDS_FIRST: Final = 0.5
_BACKOFF_SECONDS_MAX: Final = 10.0
_STABLE_SECONDS: Final = 30.0
_POLL_SECONDS: Final = 0.1
_INSIST_SECONDS: Final = 1.0
# A program that ends this often before it was ever ready does not come up.
_STARTS_MAX: Final = 4
LOG_BYTES_MAX: Final = 16 * 1024**2


class StartError(Exception):
    """A program did not become ready; its log says why."""

    def __init__(self, name: str, reason: str) -> None:
        """Keep which program it was."""
        super().__init__(f"{name} {reason}")
        self.name = name


class SupervisedProcess:
    """One program that is restarted when it ends. `run` is the only task that starts and ends it."""

    def __init__(self, program: Program, log: Path, changed: Callable[[], None]) -> None:
        """Prepare; nothing is started. `changed` is called whenever `seen` says something new."""
        self.program = program
        self.seen = state.Process()
        self._log = log
        self._changed = changed
        self._stopping = asyncio.Event()
        self._ended = asyncio.Event()
        self._process: Process | None = None
        self._starts = 0

    async def run(self) -> None:
        """Start the program, and again whenever it ends, until `stop` is called."""
        backoff_seconds = _BACKOFF_SECONDS_FIRST
        try:
            while not self._stopping.is_set():
                started = asyncio.get_running_loop().time()
                process = await self._start()
                await process.wait()
                if asyncio.get_running_loop().time() - started > _STABLE_SECONDS:
                    backoff_seconds = _BACKOFF_SECONDS_FIRST
                await wait_any(self._stopping, seconds_max=backoff_seconds)
                backoff_seconds = min(2 * backoff_seconds, _BACKOFF_SECONDS_MAX)
        finally:
            self._kill()
            self.seen.state = "stopped"
            self.seen.pid = self.seen.created = None
            self._changed()
            self._ended.set()

    async def wait_ready(self) -> None:
        """Wait until the program is ready. Raises StartError when it keeps ending or takes too long."""
        try:
            async with asyncio.timeout(self.program.ready_seconds_max):
                while not (self._process is not None and await self.program.ready()):
                    if self._starts >= _STARTS_MAX:
                        raise StartError(self.program.name, "ends as soon as it is started")
                    await asyncio.sleep(_POLL_SECONDS)
        except TimeoutError:
            raise StartError(
                self.program.name, f"was not ready within {self.program.ready_seconds_max:.0f} seconds"
            ) from None
        self.seen.state = "ready"
        self._changed()

    async def stop(self) -> None:
        """Ask the program to end, insist after its time is up, and wait until it has ended."""
        self._stopping.set()
        try:
            async with asyncio.timeout(self.program.stop_seconds_max):
                self._signal(self.program.stop_signal)
                while self.program.stop_insists and not self._ended.is_set():
                    await wait_any(self._ended, seconds_max=_INSIST_SECONDS)
                    self._signal(self.program.stop_signal)
                await self._ended.wait()
        except TimeoutError:
            self._kill()
            await self._ended.wait()

    def bound_log(self) -> None:
        """Start the log anew when it is long, keeping the previous one. The program writes on, at the new end."""
        with contextlib.suppress(FileNotFoundError):
            if self._log.stat().st_size > LOG_BYTES_MAX:
                self._log.with_suffix(".log.1").write_bytes(self._log.read_bytes())
                os.truncate(self._log, 0)

    async def _start(self) -> Process:
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self.program.command_line(),
                stdin=DEVNULL,
                stdout=log,
                stderr=log,
                env=dict(self.program.environment),
                cwd=self.program.folder,
                # A ^C in the terminal is for the command; the order in which programs end is ours.
                start_new_session=True,
            )
        self._starts += 1
        self.seen.pid = self._process.pid
        self.seen.created = created_at(self._process.pid)
        self.seen.restarts = self._starts - 1
        self.seen.state = "starting"
        self._changed()
        if self._stopping.is_set():
            self._signal(self.program.stop_signal)
        return self._process

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    def _kill(self) -> None:
        """End the program and everything that it started."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)


def created_at(pid: int) -> float | None:
    """Return when a process was created; together with its number this names it for ever."""
    try:
        created: float = psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:
        return None
    return created


def find(process: state.Process | None) -> psutil.Process | None:
    """Return this very process while it runs: never a later one with its number, nor a zombie."""
    if process is None or process.pid is None:
        return None
    try:
        found = psutil.Process(process.pid)
        same = found.create_time() == process.created and found.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return None
    return found if same else None


def is_alive(process: state.Process | None) -> bool:
    """Tell whether this very process still runs."""
    return find(process) is not None
