"""Whether this process may write to the ledger now."""

import asyncio
import time
from types import TracebackType
from typing import Final

import structlog

from processor.sqlstates import LedgerRefusesError
from shared.contracts.errors import UnavailableError

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_REMIND_SECONDS: Final = 60.0


class WriteGate:
    """Closed by the watcher while the ledger is not the one that this code knows; everything that writes goes through.

    `with gate:` raises UnavailableError while it is closed, and notes whether the ledger refused what was written.
    """

    def __init__(self) -> None:
        """Begin open."""
        self.opened = asyncio.Event()
        self.opened.set()
        self.closed = asyncio.Event()
        self.refused = False
        """Whether the ledger refused what was written last, for a reason that an operator must remove."""
        self._reason = ""
        self._reported = ""
        self._reported_at = 0.0

    def close(self, reason: str) -> None:
        """Let nothing more be written, for `reason`."""
        self._reason = reason
        self.opened.clear()
        self.closed.set()
        self._report("the ledger does not fit; nothing is taken and nothing is written until it does", reason)

    def open(self) -> None:
        """Let it be written again."""
        if self.closed.is_set():
            log.info("the ledger fits again")
            self._reported = ""
        self._reason = ""
        self.closed.clear()
        self.opened.set()

    def __enter__(self) -> None:
        """Raise UnavailableError while the gate is closed."""
        if self._reason:
            raise UnavailableError(self._reason)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Note what became of it, and report a refusal."""
        if error is None:
            self.refused = False
        elif isinstance(error, LedgerRefusesError):
            self.refused = True
            self._report("the ledger refuses what is written; it is held and tried again", str(error))

    def _report(self, event: str, reason: str) -> None:
        """Log an error at once when the reason is another one, and then once a minute."""
        if reason != self._reported or time.monotonic() - self._reported_at >= _REMIND_SECONDS:
            self._reported, self._reported_at = reason, time.monotonic()
            log.error(event, reason=reason)
