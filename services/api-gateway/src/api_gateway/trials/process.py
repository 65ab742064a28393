"""Runs trials, each in a process of its own: no pipeline file is compiled where events are taken."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from contextlib import suppress
from pathlib import Path
from typing import Final

from api_gateway.trials.answers import TOO_LARGE
from shared.contracts.errors import EtlPayError, OverloadedError, UnavailableError

SECONDS_MAX: Final = 5.0
"""How long a trial may take with the start of its process, on a machine that has other work too."""

# Without `site`, which would look for what is installed: that comes by the path.
_COMMAND: Final = (sys.executable, "-S", "-P", "-B", "-m", "api_gateway.trials")


class TrialTooLargeError(EtlPayError):
    """The trial takes more time or memory than one may have."""


class Trials:
    """Runs one trial at a time."""

    def __init__(self, command: tuple[str, ...] = _COMMAND, *, seconds_max: float = SECONDS_MAX) -> None:
        """`command` reads a request on stdin, and writes the answer to stdout."""
        self._command = command
        self._seconds_max = seconds_max
        self._busy = False

    async def run(self, request: bytes) -> bytes:
        """Return the answer to a request. When this is cancelled the process is killed.

        Raises:
            OverloadedError: another trial runs.
            UnavailableError: the process cannot be started, or did not get enough of the machine in time.
            TrialTooLargeError.
        """
        if self._busy:
            raise OverloadedError("another trial runs")
        self._busy = True
        try:
            return await self._run(request)
        finally:
            self._busy = False

    async def _run(self, request: bytes) -> bytes:
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=PIPE,
                stdout=PIPE,
                stderr=DEVNULL,
                env=_environment(),
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            raise UnavailableError("a trial cannot be started") from error
        try:
            async with asyncio.timeout(self._seconds_max):
                answer, _ = await process.communicate(request)
        except TimeoutError as error:
            raise UnavailableError("the trial took too long") from error
        finally:
            await _end(process)
        return _checked(process.returncode, answer)


def _environment() -> dict[str, str]:
    """Return where the code is, and nothing else: no setting and no secret."""
    return {"PYTHONPATH": os.pathsep.join(path for path in sys.path if Path(path).is_absolute())}


def _checked(code: int | None, answer: bytes) -> bytes:
    """Return the answer of a process that ended with this code. Raises TrialTooLargeError."""
    if code == 0:
        return answer
    if code == TOO_LARGE or (code is not None and code < 0):
        raise TrialTooLargeError("the trial takes too much time or memory")
    raise RuntimeError(f"a trial ended with code {code}")


async def _end(process: Process) -> None:
    """Kill the process, and what it may have started, unless it has ended."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    await process.wait()
