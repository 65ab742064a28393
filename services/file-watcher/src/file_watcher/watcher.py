"""The edge: looks at the inbox, and lands what is ready.

The scan is the truth: it runs every few seconds whatever happens. Notifications of the kernel only bring it forward.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Final

import structlog
from watchfiles import Change, awatch

from file_watcher.claim import Claimed, Folders, Found, NotAFileError
from file_watcher.landing import Landing
from shared.messaging.session import first_of
from shared.runtime.readiness import Readiness

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

READY: Final = "inbox"

# Many files that come at once are seen by one scan.
_GATHER_MS: Final = 100
_WATCH_AGAIN_SECONDS: Final = 30.0
_COMPLAINTS_MAX: Final = 10_000


class InboxWatcher:
    """Watches one inbox, and reads some of its files at the same time."""

    def __init__(
        self,
        folders: Folders,
        landing: Landing,
        readiness: Readiness,
        *,
        scan_seconds: float,
        files_at_once_max: int,
    ) -> None:
        """Run `run`."""
        self._folders = folders
        self._landing = landing
        self._readiness = readiness
        self._scan_seconds = scan_seconds
        self._workers = files_at_once_max
        self._waiting: asyncio.Queue[Found | None] = asyncio.Queue(maxsize=files_at_once_max)
        self._changed = asyncio.Event()
        self._complained: set[tuple[str, str, str]] = set()

    async def run(self, stopping: asyncio.Event) -> None:
        """Land files until `stopping`, then finish what is in flight; a file not finished stays in work/."""
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(self._watch())
            for _ in range(self._workers):
                group.create_task(self._land_files(stopping))
            while not stopping.is_set():
                pause = await self._look(stopping)
                await first_of(stopping, self._changed, seconds_max=pause)
                self._changed.clear()
            watching.cancel()
            for _ in range(self._workers):
                await self._waiting.put(None)

    async def _look(self, stopping: asyncio.Event) -> float:
        """Scan once and hand over what was found; return how long to wait for the next scan."""
        try:
            scan = await asyncio.to_thread(self._folders.scan)
        except OSError as error:
            self._readiness.set(READY, present=False)
            log.warning("the inbox cannot be read; trying again", error=error.strerror)
            return self._scan_seconds
        self._readiness.set(READY, present=self._folders.usable())
        for found in scan.found:
            await self._waiting.put(found)
            if stopping.is_set():
                break
        return min(self._scan_seconds, scan.settled_in_seconds or self._scan_seconds)

    async def _watch(self) -> None:
        """Bring scans forward."""
        while True:
            try:
                async for _ in self._changes():
                    self._changed.set()
            except (OSError, RuntimeError) as error:
                log.warning("no notifications from the kernel; the periodic scan goes on", error=type(error).__name__)
            await asyncio.sleep(_WATCH_AGAIN_SECONDS)

    def _changes(self) -> AsyncIterator[object]:
        return awatch(
            self._folders.inbox,
            # Our own renames show as deletions.
            watch_filter=lambda change, _: change is not Change.deleted,
            debounce=10 * _GATHER_MS,
            step=_GATHER_MS,
            stop_event=asyncio.Event(),
            recursive=True,
        )

    async def _land_files(self, stopping: asyncio.Event) -> None:
        while (found := await self._waiting.get()) is not None:
            if stopping.is_set():
                continue
            try:
                await self._land(found)
            except OSError as error:
                self._complain(found, error.strerror or type(error).__name__)
            # Whatever is wrong with one file, the others go on; this one stays in work/ and is tried again.
            except Exception:
                log.exception("a file cannot be landed; it stays in work/", source=found.source, file=found.name)

    async def _land(self, found: Found) -> None:
        if not found.source and found.folder == "inbox":
            await self._landing.refuse(found, "must lie in a folder that is named for its source")
            return
        claimed = await self._claim(found)
        if claimed is None:
            return
        try:
            await self._landing.land(claimed)
        finally:
            claimed.close()

    async def _claim(self, found: Found) -> Claimed | None:
        try:
            return await asyncio.to_thread(self._folders.claim, found)
        except NotAFileError:
            await self._landing.refuse(found, "is no regular file")
            return None

    def _complain(self, found: Found, reason: str) -> None:
        """Warn once about each file; the next scans try again in silence."""
        place = (found.folder, found.source, found.name)
        if place in self._complained:
            return
        if len(self._complained) >= _COMPLAINTS_MAX:
            self._complained.clear()
        self._complained.add(place)
        log.warning(
            "a file cannot be taken or moved; trying again at every scan",
            folder=found.folder,
            source=found.source,
            file=found.name,
            error=reason,
        )
