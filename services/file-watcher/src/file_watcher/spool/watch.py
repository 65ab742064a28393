"""Watches finished files: an upload may have stalled, and may go on in the file that was moved. Blocking.

A process that has a file open goes on writing to it after a move, and the kernel does not say that another user's file
is open. So a file in done/ or failed/ is watched for a while. Where it changed, it is moved back into work/ and read on
from where it had ended. A later change is logged, and an operator must act.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, NamedTuple

import msgspec
import structlog

from file_watcher.metrics import GROWN_LATE, TAKEN_BACK
from file_watcher.spool.claims import ClaimedFile
from file_watcher.spool.directory import SpoolDirectory
from file_watcher.spool.entry import FileVersion, SpoolEntry
from file_watcher.spool.finished import Finished

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_LOOK_ALL_SECONDS: Final = 600.0
_LOOK_FOR_SECONDS: Final = 24 * 3600.0
# A file that comes back again and again must be quiet for longer each time: each time it is read from the beginning.
_DOUBLINGS_MAX: Final = 16


class _Watched(NamedTuple):
    """A finished file, its version at the last look, and since when it has that (monotonic)."""

    finished: Finished
    version: FileVersion
    since: float


class FinishedWatch:
    """Looks often at the files that were finished a short time ago, and seldom at those of the last day."""

    def __init__(
        self, spool: SpoolDirectory, *, seconds: float, files_max: int, settle_seconds: Callable[[str], float]
    ) -> None:
        """Watch for `seconds`, `files_max` files at most; `settle_seconds` of a source: as in the inbox.

        May be used by several threads.
        """
        self._lock = threading.Lock()
        self._spool = spool
        self._seconds = seconds
        self._files_max = files_max
        self._settle_seconds = settle_seconds
        self._watched: OrderedDict[SpoolEntry, _Watched] = OrderedDict()
        self._look_all_at = 0.0

    def look(self) -> list[SpoolEntry]:
        """Return the files that changed and are quiet again. Raises OSError."""
        self._spool.finished.sync()
        with self._lock:
            if time.monotonic() >= self._look_all_at:
                self._look_all_at = time.monotonic() + _LOOK_ALL_SECONDS
                self._look_at_all()
            return [entry for entry in list(self._watched) if self._is_due(entry)]

    def add(self, source: str, finished: Finished) -> None:
        """Watch a file from now on. Where there are too many, the oldest is looked at seldom."""
        with self._lock:
            self._add(source, finished)

    def take_back(self, entry: SpoolEntry) -> ClaimedFile | None:
        """Move a file back into work/, or return None: it is gone, or its producer is still writing. Raises OSError."""
        with self._lock:
            watched = self._watched.get(entry)
            claimed = self._spool.take_back(entry, watched.finished) if watched else None
            if claimed:
                del self._watched[entry]
                TAKEN_BACK.inc()
        return claimed

    def _add(self, source: str, finished: Finished) -> None:
        entry = finished.entry(source)
        self._watched.pop(entry, None)
        self._watched[entry] = _Watched(finished, finished.version, time.monotonic())
        if len(self._watched) > self._files_max:
            self._watched.popitem(last=False)

    def _is_due(self, entry: SpoolEntry) -> bool:
        finished, before, since = self._watched[entry]
        now = self._spool.version_at(entry)
        over = time.time() > finished.at + self._seconds
        if now is None or now.inode != finished.inode:
            # It was not moved yet, or is gone, or another file has its name.
            if over:
                del self._watched[entry]
            return False
        if now != before:
            if before == finished.version:
                log.warning(
                    "a file changed after it was moved; it is taken back when it is quiet",
                    **entry.shown,
                )
            self._watched[entry] = _Watched(finished, now, time.monotonic())
            return False
        if now == finished.version:
            if over:
                del self._watched[entry]
            return False
        return time.monotonic() - since >= self._quiet_seconds(entry.source, finished)

    def _quiet_seconds(self, source: str, finished: Finished) -> float:
        settle_seconds = self._settle_seconds(source)
        doubled = settle_seconds * 2.0 ** min(finished.taken_back, _DOUBLINGS_MAX)
        return max(settle_seconds, min(doubled, self._seconds / 2))

    def _look_at_all(self) -> None:
        """Look at all files of the last day, also those that another watcher has finished."""
        now = time.time()
        for source, finished in self._spool.finished.since(now - max(_LOOK_FOR_SECONDS, self._seconds)):
            entry = finished.entry(source)
            if entry in self._watched:
                continue
            version = self._spool.version_at(entry)
            if version is None or version.inode != finished.inode:
                continue
            until = finished.at + self._seconds
            if now < until or (version != finished.version and version.modified_ns < until * 1e9):
                self._add(source, finished)
            elif version != finished.version:
                self._report_late(source, finished, version)

    def _report_late(self, source: str, finished: Finished, version: FileVersion) -> None:
        entry = finished.entry(source)
        # Each change is logged once.
        self._spool.finished.remember(source, _with_version(finished, version))
        if version.bytes > finished.bytes:
            GROWN_LATE.inc()
            log.error(
                "a file grew long after it was moved; what it grew by is not stored: move it into the inbox again",
                **entry.shown,
            )
        else:
            log.warning("a file was changed long after it was moved; it is not read again", **entry.shown)


def _with_version(finished: Finished, version: FileVersion) -> Finished:
    return msgspec.structs.replace(finished, bytes=version.bytes, modified_ns=version.modified_ns)
