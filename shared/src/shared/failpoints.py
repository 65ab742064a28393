"""Places where a fault can be set off on purpose, so that what happens at every instruction is tested and not guessed.

Off unless `arm` is called, and then as cheap as one comparison. `ETLPAY_FAILPOINT=processor.committed:kill@3` kills the
process at its third passage of that place. Before it acts it leaves a line in the file that ETLPAY_FAILPOINT_LOG
names: a test whose fault never came true has tested nothing, and must know.
"""

import os
import re
import signal
from pathlib import Path
from typing import Final, Literal, cast

_SPECIFICATION: Final = re.compile(r"(?P<name>[a-z_.-]+):(?P<action>kill|pause|error)(?:@(?P<passage>[1-9]\d{0,8}))?")

Action = Literal["kill", "pause", "error"]


class InjectedError(Exception):
    """The fault that `:error` asks for: a surprise that no code is written for."""


class _Armed:
    """The one place that acts in this process, and how often it was passed."""

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
            self._tell()
            self._act()

    def _tell(self) -> None:
        """Leave the line on the disk: after a kill there is nobody left to say it."""
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
    """Mark a place. Does nothing unless this process was armed for it."""
    if _armed is not None:
        _armed.pass_by(name)


def arm(specification: str, log: Path | None) -> None:
    """Let `name:action@passage` come true once; an empty specification disarms.

    Raises:
        ValueError: it says something else, or `log` is missing: both must be set, so that nobody arms by accident.
    """
    global _armed  # noqa: PLW0603 - one comparison with a global is what a place costs that does nothing
    if not specification:
        _armed = None
        return
    said = _SPECIFICATION.fullmatch(specification)
    if said is None:
        raise ValueError("must be name:kill, name:pause or name:error, with @ and a number for a later passage")
    if log is None:
        raise ValueError("takes effect only together with ETLPAY_FAILPOINT_LOG")
    _armed = _Armed(said["name"], cast("Action", said["action"]), int(said["passage"] or 1), log)
