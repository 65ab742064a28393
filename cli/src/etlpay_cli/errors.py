"""The exit codes of the command, and the error that carries one."""

from __future__ import annotations

from typing import Final

ERROR: Final = 1
USAGE: Final = 2
UNAVAILABLE: Final = 5
UNVOUCHED: Final = 6
INTERRUPTED: Final = 130


class StackError(Exception):
    """The command could not do its work. The message is one sentence for the operator; `details` may be long."""

    def __init__(self, message: str, *, details: str = "", exit_code: int = ERROR) -> None:
        """Keep what the command prints and its exit code."""
        super().__init__(message)
        self.details = details
        self.exit_code = exit_code
