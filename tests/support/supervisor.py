"""A supervised program that a test can kill, freeze, restart with other settings, and keep away for a while."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import psutil

from etlpay_cli.local.process import SupervisedProcess
from etlpay_cli.local.program import Program
from support.waiting import until_true

_RESTART_SECONDS: Final = 0.3


class Child(SupervisedProcess):
    """Starts the program again at once whenever it dies. `run` is its task; everything else may be called meanwhile."""

    def __init__(self, program: Program, log: Path) -> None:
        """Prepare; nothing is started."""
        super().__init__(program, log, changed=lambda: None)
        self.exits: list[int] = []
        self._plain = program
        self._may_run = asyncio.Event()
        self._may_run.set()
        self._disturbed_at = 0.0

    async def run(self) -> None:
        """Keep the program running until `stop`."""
        try:
            while await self._may_run.wait() and not self._stopping.is_set():
                process = await self._start()
                self.exits.append(await process.wait())
                self._disturbed_at = time.monotonic()
                # A fault that was asked for comes true in one life only.
                self.program = self._plain
                await asyncio.sleep(_RESTART_SECONDS)
        finally:
            self.send_signal(signal.SIGKILL)
            self._ended.set()

    @property
    def pid(self) -> int | None:
        """The process, while it lives."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    @property
    def stands_still(self) -> bool:
        """Whether it is stopped."""
        return any(map(_stands_still, self._family()[:1]))

    def disturbed_since(self, moment: float) -> bool:
        """Whether it was stopped, signalled or dead at any time since a moment of `time.monotonic`."""
        return self._disturbed_at >= moment or self.pid is None or self.stands_still

    @property
    def rss_bytes(self) -> int:
        """Memory of the process and those that it started."""
        return sum(process.memory_info().rss for process in self._family())

    @property
    def open_files(self) -> int:
        """File descriptors, sockets among them."""
        return sum(process.num_fds() for process in self._family())

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the program and to everything that it started."""
        self._disturbed_at = time.monotonic()
        for process in self._family():
            with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
                os.kill(process.pid, number)

    async def end(self, number: signal.Signals) -> bool:
        """Send a signal to the program alone, and wait until it has ended; return whether it lived before."""
        process = self._process
        if process is None or process.returncode is not None:
            return False
        process.send_signal(number)
        await process.wait()
        return True

    async def kill(self, *, away_seconds: float = 0.0) -> bool:
        """Kill -9 everything of it, and let it come back after a while; return whether it lived and has ended."""
        self._may_run.clear()
        try:
            process, pid = self._process, self.pid
            self.send_signal(signal.SIGKILL)
            if process is not None:
                await process.wait()
            ended = pid is not None and not _runs(pid)
            await asyncio.sleep(away_seconds)
        finally:
            self._may_run.set()
        return ended

    @contextlib.contextmanager
    def frozen(self) -> Iterator[Callable[[], bool]]:
        """Stop everything of it, until the block ends; give the question whether all of it still stands still."""
        frozen = self._family()
        self.send_signal(signal.SIGSTOP)
        try:
            yield lambda: bool(frozen) and all(_stands_still(process) for process in frozen)
        finally:
            self.send_signal(signal.SIGCONT)

    async def freeze(self, seconds: float) -> bool:
        """Stop everything of it for a while; return whether it stood still to the end."""
        with self.frozen() as stands_still:
            await asyncio.sleep(seconds)
            return stands_still()

    async def terminate(self) -> float:
        """SIGTERM, and return how many seconds it took to end."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        await self.end(self.program.stop_signal)
        return loop.time() - begun

    async def restart(self, program: Program) -> None:
        """End the program in peace, start this one for one life, and wait until it is ready."""
        self._may_run.clear()
        await self.terminate()
        await asyncio.sleep(2 * _RESTART_SECONDS)
        self.program = program
        self._may_run.set()
        await asyncio.sleep(0)
        await self.wait_ready()

    def always(self, program: Program) -> None:
        """From the next start on, in every life, run this program."""
        self._plain = self.program = program

    def with_environment(self, **environment: str) -> Program:
        """Return the plain program with more settings."""
        return replace(self._plain, environment={**self._plain.environment, **environment})

    async def wait_ready(self, seconds_max: float = 60.0) -> None:
        """Return when the program is ready. Raises TimeoutError."""
        if not await until_true(self._is_ready, seconds_max):
            raise TimeoutError(f"{self.program.name} was not ready within {seconds_max:.0f} s")

    async def stop(self) -> None:
        """End the program for good, also one that is frozen."""
        self._stopping.set()
        self._may_run.set()
        self.send_signal(signal.SIGCONT)
        await super().stop()

    async def _is_ready(self) -> bool:
        return self.pid is not None and await self.program.ready()

    def _family(self) -> list[psutil.Process]:
        if self.pid is None:
            return []
        try:
            parent = psutil.Process(self.pid)
            return [parent, *parent.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []


def _stands_still(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_STOPPED)
    except psutil.NoSuchProcess:
        return False


def _runs(pid: int) -> bool:
    """Return whether there is such a process, and not only its exit code."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
