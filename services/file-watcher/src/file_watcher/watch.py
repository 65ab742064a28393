"""Watching files that are done: an upload may have stalled, and go on in the file that was moved. Blocking.

Whoever has a file open goes on writing into it, wherever it was moved to, and of another user's file nothing tells
that it is open. So a file in done/ or failed/ is looked at for a while. Where it changed it is taken back into work/
and read on from where it had ended. What changes later than that is told, and left to a person.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, NamedTuple

import msgspec
import structlog

from file_watcher.claim import Folders
from file_watcher.claimed import Claimed
from file_watcher.finished import Finished
from file_watcher.folders import Place, Stamp
from file_watcher.metrics import count_grown_late, count_taken_back

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_LOOK_ALL_SECONDS: Final = 600.0
_LOOK_FOR_SECONDS: Final = 24 * 3600.0
# A file that comes back again and again is waited for longer each time: each time it is read from the beginning.
_DOUBLINGS_MAX: Final = 16


class _Watched(NamedTuple):
    """A finished file, what it looks like, and since when (monotonic)."""

    entry: Finished
    stamp: Stamp
    since: float


class FinishedWatch:
    """Looks at the files that were finished a short while ago often, and at those of the last day now and then."""

    def __init__(
        self, folders: Folders, *, seconds: float, files_max: int, settle_seconds: Callable[[str], float]
    ) -> None:
        """Watch for `seconds`, `files_max` files at most; `settle_seconds` of a source: as in the inbox.

        May be used by several threads.
        """
        self._lock = threading.Lock()
        self._folders = folders
        self._seconds = seconds
        self._files_max = files_max
        self._settle_seconds = settle_seconds
        self._watched: OrderedDict[Place, _Watched] = OrderedDict()
        self._look_all_at = 0.0

    def look(self) -> list[Place]:
        """Return the files that changed and have been quiet since. Raises OSError."""
        self._folders.finished.sync()
        with self._lock:
            if time.monotonic() >= self._look_all_at:
                self._look_all_at = time.monotonic() + _LOOK_ALL_SECONDS
                self._look_at_all()
            return [place for place in list(self._watched) if self._is_due(place)]

    def add(self, source: str, entry: Finished) -> None:
        """Watch a file from now on. Of too many the oldest is left to the look at all."""
        with self._lock:
            self._add(source, entry)

    def take_back(self, place: Place) -> Claimed | None:
        """Take a file back into work/, or return None: it is gone, or its producer is still writing. Raises OSError."""
        with self._lock:
            watched = self._watched.get(place)
            claimed = self._folders.take_back(place, watched.entry) if watched else None
            if claimed:
                del self._watched[place]
                count_taken_back()
        return claimed

    def _add(self, source: str, entry: Finished) -> None:
        place = entry.place(source)
        self._watched.pop(place, None)
        self._watched[place] = _Watched(entry, entry.stamp, time.monotonic())
        if len(self._watched) > self._files_max:
            self._watched.popitem(last=False)

    def _is_due(self, place: Place) -> bool:
        entry, before, since = self._watched[place]
        now = self._folders.stamp_at(place)
        over = time.time() > entry.at + self._seconds
        if now is None or now.inode != entry.inode:
            # It is not there yet, or any more, or another file is: that one is watched, or somebody else's.
            if over:
                del self._watched[place]
            return False
        if now != before:
            if before == entry.stamp:
                log.warning(
                    "a file changed after it was moved; it is taken back once nobody writes to it",
                    **place.shown,
                )
            self._watched[place] = _Watched(entry, now, time.monotonic())
            return False
        if now == entry.stamp:
            if over:
                del self._watched[place]
            return False
        return time.monotonic() - since >= self._quiet_seconds(place.source, entry)

    def _quiet_seconds(self, source: str, entry: Finished) -> float:
        settle_seconds = self._settle_seconds(source)
        doubled = settle_seconds * 2.0 ** min(entry.taken_back, _DOUBLINGS_MAX)
        return max(settle_seconds, min(doubled, self._seconds / 2))

    def _look_at_all(self) -> None:
        """Also look at what another watcher has finished, or one before, or what was finished within the last day."""
        now = time.time()
        for source, entry in self._folders.finished.since(now - max(_LOOK_FOR_SECONDS, self._seconds)):
            place = entry.place(source)
            if place in self._watched:
                continue
            stamp = self._folders.stamp_at(place)
            if stamp is None or stamp.inode != entry.inode:
                continue
            until = entry.at + self._seconds
            if now < until or (stamp != entry.stamp and stamp.modified_ns < until * 1e9):
                self._add(source, entry)
            elif stamp != entry.stamp:
                self._tell_late(source, entry, stamp)

    def _tell_late(self, source: str, entry: Finished, stamp: Stamp) -> None:
        place = entry.place(source)
        # Once for each change.
        self._folders.finished.remember(source, _with_stamp(entry, stamp))
        if stamp.bytes > entry.bytes:
            count_grown_late()
            log.error(
                "a file grew long after it was moved; what it grew by is not stored: move it into the inbox again",
                **place.shown,
            )
        else:
            log.warning("a file was changed long after it was moved; it is not read again", **place.shown)


def _with_stamp(entry: Finished, stamp: Stamp) -> Finished:
    return msgspec.structs.replace(entry, bytes=stamp.bytes, modified_ns=stamp.modified_ns)
