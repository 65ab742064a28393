"""Scanning: which files wait in inbox/ and work/, and which of them are settled. Blocking."""

import heapq
import re
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from fnmatch import translate
from typing import Final, NamedTuple, Protocol

from file_watcher.spool.entry import SpoolEntry
from file_watcher.spool.files import exists
from file_watcher.spool.folders import OpenFolders

_UNSETTLED_MAX: Final = 100_000


class SourceOptions(Protocol):
    """How the files of one source are taken."""

    @property
    def settle_seconds(self) -> float | None:
        """How long a file must be unchanged; None: as long as those of other sources."""

    @property
    def marker(self) -> str:
        """A suffix such as `.done`: NAME is taken only when NAME.done exists; empty: without it."""


class CommonOptions(NamedTuple):
    """The options of a source that has none of its own."""

    settle_seconds: float | None = None
    marker: str = ""


OptionsOf = Callable[[str], SourceOptions]
"""Gives the options of a source."""


class ScanLimits(NamedTuple):
    """When a file is settled, which names are ignored, and how many files one scan returns.

    `ignored` are patterns, without regard to case, such as those of temporary files.
    """

    settle_seconds: float
    empty_seconds: float
    found_max: int
    ignored: tuple[str, ...]


class Scan(NamedTuple):
    """The files that can be claimed, oldest first, and the time until the next of the other files may be settled."""

    found: list[SpoolEntry]
    settled_in_seconds: float | None


class _Found(NamedTuple):
    """A file; the tuples sort by age."""

    modified_ns: int
    entry: SpoolEntry


class Scanner:
    """Scans inbox/ and work/. Remembers since when files with a time in the future have been unchanged."""

    def __init__(self, folders: OpenFolders, limits: ScanLimits, options_of: OptionsOf) -> None:
        """One for the inbox."""
        self._folders = folders
        self._limits = limits
        self._options_of = options_of
        self._ignored = re.compile("|".join(map(translate, limits.ignored)) or r"(?!)", re.IGNORECASE)
        self._unsettled: dict[SpoolEntry, tuple[int, int]] = {}

    def scan(self) -> Scan:
        """Return the files that can be claimed; those in work/ were left by a watcher or failed.

        Raises:
            OSError: a folder cannot be read.
            FatalError: a folder was removed, or another put in its place.
        """
        self._folders.check_in_place()
        now_ns = time.time_ns()
        waits: list[int] = []
        unsettled: dict[SpoolEntry, tuple[int, int]] = {}

        def settled() -> Iterator[_Found]:
            for found, settle_ns in self._present():
                wait_ns = self._wait_ns(found, settle_ns, now_ns, unsettled)
                if wait_ns > 0:
                    waits.append(wait_ns)
                else:
                    yield found

        oldest = heapq.nsmallest(self._limits.found_max, settled())
        self._unsettled = unsettled
        return Scan([found.entry for found in oldest], min(waits) / 1e9 if waits else None)

    def _present(self) -> Iterator[tuple[_Found, int]]:
        """Yield every file, and how long it must be unchanged, in nanoseconds."""
        for folder in ("work", "inbox"):
            for source, entry, descriptor in self._folders.list(folder):
                options = self._options_of(source)
                if folder == "inbox" and not self._may_be_taken(entry.name, descriptor, options.marker):
                    continue
                if entry.name.startswith("."):
                    continue
                with suppress(FileNotFoundError):
                    status = entry.stat(follow_symlinks=False)
                    found = _Found(status.st_mtime_ns, SpoolEntry(folder, source, entry.name))
                    empty = folder == "inbox" and stat.S_ISREG(status.st_mode) and not status.st_size
                    yield found, self._settle_ns(options, empty=empty)

    def _may_be_taken(self, name: str, folder: int, marker: str) -> bool:
        if self._ignored.match(name):
            return False
        return not marker or (not name.endswith(marker) and exists(folder, name + marker))

    def _settle_ns(self, options: SourceOptions, *, empty: bool) -> int:
        own = options.settle_seconds
        seconds = self._limits.settle_seconds if own is None else own
        return int(max(seconds, self._limits.empty_seconds if empty else 0.0) * 1e9)

    def _wait_ns(self, found: _Found, settle_ns: int, now_ns: int, unsettled: dict[SpoolEntry, tuple[int, int]]) -> int:
        """Return how long the file must stay as it is before it may be taken."""
        age_ns = now_ns - found.modified_ns
        if age_ns >= settle_ns:
            return 0
        if age_ns >= 0:
            return settle_ns - age_ns
        # Its time is in the future, so its age says nothing.
        return self._watched_ns(found, settle_ns, unsettled)

    def _watched_ns(self, found: _Found, settle_ns: int, unsettled: dict[SpoolEntry, tuple[int, int]]) -> int:
        modified_ns, since_ns = self._unsettled.get(found.entry, (0, 0))
        if modified_ns != found.modified_ns:
            since_ns = time.monotonic_ns()
        if len(unsettled) < _UNSETTLED_MAX:
            unsettled[found.entry] = (found.modified_ns, since_ns)
        return settle_ns - (time.monotonic_ns() - since_ns)
