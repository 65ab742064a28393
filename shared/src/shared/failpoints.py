"""Failpoints: places in the code where a test can cause a fault.

They do nothing, at the cost of one comparison, unless `arm` is called. `ETLPAY_FAILPOINT=processor.committed:kill@3`
kills the process when it passes that place for the third time. The failpoint first writes a line to the file that
ETLPAY_FAILPOINT_LOG names: a test whose fault never happened has tested nothing, and must fail.
"""

import os
import re
import signal
from pathlib import Path
from typing import Final, Literal, cast

_SPECIFICATION: Final = re.compile(r"(?P<name>[a-z_.-]+):(?P<action>kill|pause|error)(?:@(?P<passage>[1-9]\d{0,8}))?")

Action = Literal["kill", "pause", "error"]


class InjectedError(Exception):
    """The error that `:error` raises: no code expects it."""


class _Armed:
    """The one failpoint that acts in this process, and how often it still has to be passed."""

    def __init__(self, name: str, action: Action, passage: int, log: Path) -> None:
        self._name = name
        self._action = action
        self._left = passage
        self._log = log

    def pass_by(self, name: str) -> None:
        if name != self._name:
            return
        self._left -= 1
        if self._left == 0:
            self._log_fault()
            self._act()

    def _log_fault(self) -> None:
        """Write the line to the disk before the process may be killed."""
        with self._log.open("a", encoding="utf-8") as log:
            log.write(f"{self._name}:{self._action} {os.getpid()}\n")
            log.flush()
            os.fsync(log.fileno())

    def _act(self) -> None:
        match self._action:
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "pause":
                os.kill(os.getpid(), signal.SIGSTOP)
            case "error":
                raise InjectedError(self._name)


_armed: _Armed | None = None


def failpoint(name: str) -> None:
    """Mark a place. Does nothing unless the process is armed for it."""
    if _armed is not None:
        _armed.pass_by(name)


def arm(specification: str, log: Path | None) -> None:
    """Arm the failpoint of `name:action@passage` once; an empty specification disarms.

    Raises:
        ValueError: the specification is invalid, or `log` is missing. Both are needed, so that nobody arms by accident.
    """
    global _armed  # noqa: PLW0603 - the cost of a failpoint is one comparison with a global
    if not specification:
        _armed = None
        return
    parsed = _SPECIFICATION.fullmatch(specification)
    if parsed is None:
        raise ValueError("must be name:kill, name:pause or name:error, with @ and a number for a later passage")
    if log is None:
        raise ValueError("takes effect only together with ETLPAY_FAILPOINT_LOG")
    _armed = _Armed(parsed["name"], cast("Action", parsed["action"]), int(parsed["passage"] or 1), log)
