"""A program of the local stack, as the supervisor runs it."""

from __future__ import annotations

import shutil
import signal
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Program:
    """A child process that is restarted when it ends."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    folder: Path
    ready: Callable[[], Awaitable[bool]]
    stop_signal: signal.Signals = signal.SIGTERM
    stop_seconds_max: float = 30.0
    # Whether the signal is sent until the program ends: for one that loses it while it starts.
    stop_insists: bool = False
    ready_seconds_max: float = 60.0
    # Options of setpriv(1) that take privileges away from the child.
    privileges: tuple[str, ...] = field(default=())

    def command_line(self) -> tuple[str, ...]:
        """Return the command so that it cannot outlive its supervisor, where setpriv(1) is installed."""
        setpriv = shutil.which("setpriv")
        if setpriv is None:
            return self.command
        leash = f"--pdeathsig={self.stop_signal.name.removeprefix('SIG')}"
        return (setpriv, leash, *self.privileges, "--", *self.command)
