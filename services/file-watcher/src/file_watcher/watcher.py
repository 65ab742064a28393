"""Watches the inbox, and ingests the files that are ready.

A scan runs every few seconds. Notifications of the kernel only make the next one start earlier: they can be lost.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Final

import structlog
from watchfiles import Change, awatch

from file_watcher.ingest_file import DONE, FAILED, FileIngester
from file_watcher.spool.claims import ClaimedFile
from file_watcher.spool.directory import SpoolDirectory
from file_watcher.spool.entry import SpoolEntry
from file_watcher.spool.files import NotAFileError
from file_watcher.spool.watch import FinishedWatch
from shared.contracts.event import reserve_moments
from shared.failpoints import failpoint
from shared.runtime.readiness import Readiness
from shared.runtime.waiting import wait_any

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

READY: Final = "inbox"

# One scan finds the files that arrive within this time.
_GATHER_MS: Final = 100
_WATCH_AGAIN_SECONDS: Final = 30.0
_DELAY_SECONDS_MAX: Final = 60.0
_DELAYS_MAX: Final = 10_000


class InboxWatcher:
    """Watches one inbox, and ingests several files at a time."""

    def __init__(  # noqa: PLR0913 - each is one part of the service
        self,
        spool: SpoolDirectory,
        ingester: FileIngester,
        watch: FinishedWatch,
        readiness: Readiness,
        *,
        scan_seconds: float,
        files_at_once_max: int,
    ) -> None:
        """Run `run`."""
        self._spool = spool
        self._ingester = ingester
        self._watch = watch
        self._readiness = readiness
        self._scan_seconds = scan_seconds
        self._workers = files_at_once_max
        self._waiting: asyncio.Queue[SpoolEntry | None] = asyncio.Queue(maxsize=files_at_once_max)
        self._changed = asyncio.Event()
        self._delays = _Delays(first_seconds=scan_seconds)

    async def run(self, stopping: asyncio.Event) -> None:
        """Ingest files until `stopping`, then finish what is in flight. A file that is not finished stays in work/."""
        async with asyncio.TaskGroup() as group:
            notified = group.create_task(self._notice_changes())
            looking_back = group.create_task(self._look_back(stopping))
            for _ in range(self._workers):
                group.create_task(self._ingest_files(stopping))
            while not stopping.is_set():
                pause = await self._look(stopping)
                await wait_any(stopping, self._changed, seconds_max=pause)
                self._changed.clear()
            notified.cancel()
            await looking_back
            for _ in range(self._workers):
                await self._waiting.put(None)

    async def _look(self, stopping: asyncio.Event) -> float:
        """Scan once and queue the files that were found; return the seconds until the next scan."""
        try:
            scan = await asyncio.to_thread(self._spool.scan)
        except OSError as error:
            self._readiness.set(READY, present=False)
            log.warning("the inbox cannot be read; trying again", error=error.strerror)
            return self._scan_seconds
        self._readiness.set(READY, present=self._spool.usable())
        for entry in scan.found:
            await self._waiting.put(entry)
            if stopping.is_set():
                break
        return min(self._scan_seconds, scan.settled_in_seconds or self._scan_seconds)

    async def _look_back(self, stopping: asyncio.Event) -> None:
        """Look at the finished files, and queue those that changed."""
        while not stopping.is_set():
            try:
                changed = await asyncio.to_thread(self._watch.look)
            except OSError as error:
                log.warning("finished files cannot be looked at; trying again", error=error.strerror)
                changed = []
            for entry in changed:
                await self._waiting.put(entry)
            await wait_any(stopping, seconds_max=self._scan_seconds)

    async def _notice_changes(self) -> None:
        """Start the next scan earlier when the kernel reports a change."""
        while True:
            try:
                async for _ in self._changes():
                    self._changed.set()
            # The library raises groups, for example for a link to itself.
            except* (OSError, RuntimeError) as group:
                names = [type(error).__name__ for error in group.exceptions]
                log.warning("no notifications from the kernel; the periodic scan goes on", errors=names)
            await asyncio.sleep(_WATCH_AGAIN_SECONDS)

    def _changes(self) -> AsyncIterator[object]:
        return awatch(
            self._spool.inbox,
            # Our own renames show as deletions.
            watch_filter=lambda change, _: change is not Change.deleted,
            debounce=10 * _GATHER_MS,
            step=_GATHER_MS,
            stop_event=asyncio.Event(),
            recursive=True,
        )

    async def _ingest_files(self, stopping: asyncio.Event) -> None:
        while (entry := await self._waiting.get()) is not None:
            if stopping.is_set():
                continue
            if self._delays.passed(entry):
                await self._try(entry)

    async def _try(self, entry: SpoolEntry) -> None:
        try:
            await self._ingest(entry)
        except OSError as error:
            if self._delays.lengthen(entry):
                log.warning(
                    "a file cannot be taken, read or moved; it stays where it is and is tried again",
                    error=error.strerror or type(error).__name__,
                    **entry.shown,
                )
        # A fault of one file must not stop the others.
        except Exception:
            if self._delays.lengthen(entry):
                log.exception("a file cannot be ingested; it stays where it is and is tried again", **entry.shown)

    async def _ingest(self, entry: SpoolEntry) -> None:
        if not entry.source and entry.folder == "inbox":
            await self._ingester.refuse(entry, "must lie in a folder that is named for its source")
            return
        failpoint("file-watcher.seen")
        claimed = await self._claim(entry)
        if claimed is None:
            return
        failpoint("file-watcher.claimed")
        try:
            ingested = await self._ingester.ingest(claimed)
        except Exception:
            if claimed.entry != entry:
                # The next scans find it in work/.
                self._delays.lengthen(claimed.entry)
            raise
        finally:
            claimed.close()
        if not ingested:
            self._delays.lengthen(claimed.entry)

    async def _claim(self, entry: SpoolEntry) -> ClaimedFile | None:
        try:
            if entry.folder in (DONE, FAILED):
                return await asyncio.to_thread(self._watch.take_back, entry)
            # Of files that wait together the one that was changed last gets the latest moment: threads have no order.
            return await asyncio.to_thread(self._spool.claim, entry, reserve_moments(1))
        except NotAFileError:
            await self._ingester.refuse(entry, "is no regular file")
            return None


class _Delays:
    """When files that could not be ingested are tried again: later each time, because each attempt reads a file."""

    def __init__(self, *, first_seconds: float) -> None:
        self._first_seconds = first_seconds
        self._until: dict[SpoolEntry, tuple[float, float]] = {}

    def passed(self, entry: SpoolEntry) -> bool:
        """Return True where the file may be tried now."""
        return self._until.get(entry, (0.0, 0.0))[0] <= time.monotonic()

    def lengthen(self, entry: SpoolEntry) -> bool:
        """Delay the next attempt; return True the first time."""
        if len(self._until) >= _DELAYS_MAX:
            self._until.clear()
        _, before = self._until.get(entry, (0.0, 0.0))
        pause = min(2 * before or self._first_seconds, _DELAY_SECONDS_MAX)
        self._until[entry] = (time.monotonic() + pause, pause)
        return not before
