"""An inbox in a folder of a test, with everything that lands its files, and a broker in memory."""

import asyncio
from pathlib import Path

import msgspec

from file_watcher.claim import Folders
from file_watcher.claimed import Claimed
from file_watcher.folders import Place
from file_watcher.handover import Handover
from file_watcher.landing import Landing
from file_watcher.scanning import CommonOptions, OptionsOf, ScanLimits
from file_watcher.settings import Settings
from file_watcher.watch import FinishedWatch
from shared.testing.publisher import FakePublisher

SETTINGS = Settings(files_batch_events_max=10)


def open_folders(  # noqa: PLR0913 - each is one thing that a test is about
    root: Path,
    *,
    settle_seconds: float = 1.0,
    empty_seconds: float = 60.0,
    found_max: int = 100,
    ignored: tuple[str, ...] = ("*.tmp", "*.part"),
    umask: int = 0o027,
    remembered_max: int = 100,
    options_of: OptionsOf = lambda _: CommonOptions(),
) -> Folders:
    """Open the folders below `root`."""
    limits = ScanLimits(settle_seconds, empty_seconds, found_max, ignored)
    return Folders(root, limits, umask=umask, remembered_max=remembered_max, options_of=options_of)


class Inbox:
    """An inbox, and one watcher that lands its files when it is told to; another `Inbox` on it is the next watcher."""

    def __init__(self, root: Path, *, publisher: FakePublisher | None = None, watch_seconds: float = 60.0) -> None:
        """`publisher`: what another watcher has published to."""
        self.root = root
        self.folders = open_folders(root, settle_seconds=0.0)
        self.publisher = publisher or FakePublisher()
        self.stopping = asyncio.Event()
        self.watch = FinishedWatch(self.folders, seconds=watch_seconds, files_max=100, settle_seconds=lambda _: 0.0)

    def drop(self, name: str, content: bytes, *, source: str = "shop", folder: str = "inbox") -> Place:
        """Write a file."""
        path = self.root / folder / source / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        return Place(folder, source, name)

    async def land(self, place: Place, settings: Settings = SETTINGS) -> bool:
        """Claim a file and land it once; return whether it is finished."""
        claimed = self.folders.claim(place)
        assert claimed is not None
        return await self.land_claimed(claimed, settings)

    async def land_until_finished(self, place: Place) -> None:
        """Land a file as often as it takes, from wherever it lies then."""
        while not await self.land(place):
            (place,) = (found.place for found in self.folders.scan().found)

    async def land_claimed(self, claimed: Claimed, settings: Settings = SETTINGS) -> bool:
        """Land a claimed file once; return whether it is finished."""
        handover = Handover(self.publisher, batches_in_flight_max=2, stopping=self.stopping)
        landing = Landing(self.folders, handover, self.watch, settings, stopping=self.stopping)
        try:
            return await landing.land(claimed)
        finally:
            claimed.close()

    async def look_back(self) -> list[Place]:
        """Look until what changed has been seen to be quiet, and land it; return what was taken back."""
        self.watch.look()
        changed = self.watch.look()
        for place in changed:
            claimed = self.watch.take_back(place)
            assert claimed is not None
            assert await self.land_claimed(claimed)
        return changed

    def names(self, folder: str) -> set[str]:
        """Return the names of the files below a folder that a person would see."""
        files = (path for path in (self.root / folder).rglob("*") if path.is_file())
        return {
            path.name for path in files if not any(part.startswith(".") for part in path.relative_to(self.root).parts)
        }

    def notes(self) -> set[str]:
        """Return the names of the notes on claimed files."""
        return {path.name for path in (self.root / "work").rglob(".*.claim*")}

    def rejects(self, path: str) -> list[tuple[int, str]]:
        """Return the lines of a rejects file."""
        lines = (self.root / path).read_bytes().splitlines()
        return [(reject["line"], reject["reason"]) for reject in map(msgspec.json.decode, lines)]

    @property
    def bodies(self) -> list[bytes]:
        """The bodies of what was published."""
        return sorted(event.body for event in self.publisher.events)

    @property
    def stored(self) -> list[bytes]:
        """The bodies that the ledger would hold: the first of each id."""
        first = {event.event_id: event.body for event in reversed(self.publisher.events)}
        return sorted(first.values())
