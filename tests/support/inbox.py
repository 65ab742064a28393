"""An inbox in a folder of a test, with all that ingests its files, and a broker in memory."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from file_watcher.ingest_file import FileIngester
from file_watcher.pipeline import RowPipeline
from file_watcher.publish import ConfirmedPublisher
from file_watcher.settings import Settings
from file_watcher.spool.claims import ClaimedFile
from file_watcher.spool.directory import SpoolDirectory
from file_watcher.spool.entry import SpoolEntry
from file_watcher.spool.scanning import CommonOptions, OptionsOf, ScanLimits
from file_watcher.spool.watch import FinishedWatch
from shared.batching import BatchLimits
from shared.contracts.errors import OutcomeUnknownError
from shared.contracts.event import reserve_moments
from shared.messaging.publisher import BatchPublisher
from shared.testing.publisher import FakePublisher
from support import watcher

SETTINGS = Settings(batch=BatchLimits(events_max=10, in_flight_max=2))


def open_spool(  # noqa: PLR0913 - each is one thing that a test is about
    root: Path,
    *,
    settle_seconds: float = 1.0,
    empty_seconds: float = 60.0,
    found_max: int = 100,
    ignored: tuple[str, ...] = ("*.tmp", "*.part"),
    umask: int = 0o027,
    remembered_max: int = 100,
    options_of: OptionsOf = lambda _: CommonOptions(),
) -> SpoolDirectory:
    """Open the folders below `root`."""
    limits = ScanLimits(settle_seconds, empty_seconds, found_max, ignored)
    return SpoolDirectory(root, limits, umask=umask, remembered_max=remembered_max, options_of=options_of)


def pipeline_to(publisher: BatchPublisher, settings: Settings, stopping: asyncio.Event) -> RowPipeline:
    """Return a pipeline that ends at `publisher`."""
    return RowPipeline(ConfirmedPublisher(publisher, stopping=stopping), settings.batch, stopping=stopping)


class Inbox:
    """An inbox and one watcher, which ingests a file when it is called; a second `Inbox` on it is the next watcher."""

    def __init__(self, root: Path, *, publisher: FakePublisher | None = None, watch_seconds: float = 60.0) -> None:
        """`publisher`: what another watcher has published to."""
        self.root = root
        self.spool = open_spool(root, settle_seconds=0.0)
        self.publisher = publisher or FakePublisher()
        self.stopping = asyncio.Event()
        self.watch = FinishedWatch(self.spool, seconds=watch_seconds, files_max=100, settle_seconds=lambda _: 0.0)

    def drop(self, name: str, content: bytes, *, source: str = "shop", folder: str = "inbox") -> SpoolEntry:
        """Write a file."""
        path = self.root / folder / source / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        return SpoolEntry(folder, source, name)

    async def ingest(self, entry: SpoolEntry, settings: Settings = SETTINGS) -> bool:
        """Claim a file and ingest it once; return whether it is finished."""
        claimed = self.spool.claim(entry, reserve_moments(1))
        assert claimed is not None
        return await self.ingest_claimed(claimed, settings)

    async def ingest_until_finished(self, entry: SpoolEntry) -> None:
        """Ingest a file until it is finished, from wherever it is."""
        while not await self.ingest(entry):
            (entry,) = self.spool.scan().found

    async def ingest_claimed(self, claimed: ClaimedFile, settings: Settings = SETTINGS) -> bool:
        """Ingest a claimed file once; return whether it is finished."""
        pipeline = pipeline_to(self.publisher, settings, self.stopping)
        ingester = FileIngester(self.spool, pipeline, self.watch, settings, stopping=self.stopping)
        try:
            return await ingester.ingest(claimed)
        finally:
            claimed.close()

    async def look_back(self) -> list[SpoolEntry]:
        """Look until the changed files are quiet, and ingest them; return what was taken back."""
        self.watch.look()
        changed = self.watch.look()
        for entry in changed:
            claimed = self.watch.take_back(entry)
            assert claimed is not None
            assert await self.ingest_claimed(claimed)
        return changed

    def names(self, folder: str) -> set[str]:
        """Return the names of the files below a folder that are not hidden."""
        return watcher.names(self.root, folder)

    def notes(self) -> set[str]:
        """Return the names of the notes on claimed files."""
        return {path.name for path in (self.root / "work").rglob(".*.claim*")}

    def rejects(self, path: str) -> list[tuple[int, str]]:
        """Return the lines of a rejects file."""
        lines = (self.root / path).read_bytes().splitlines()
        return [(reject["line"], reject["reason"]) for reject in map(msgspec.json.decode, lines)]

    @property
    def bodies(self) -> list[bytes]:
        """The bodies of the published events."""
        return sorted(event.body for event in self.publisher.events)

    @property
    def stored(self) -> list[bytes]:
        """The bodies that the ledger would hold: the first of each id."""
        first = {event.event_id: event.body for event in reversed(self.publisher.events)}
        return sorted(first.values())


class DyingPublisher:
    """Confirms some batches, and then nothing more: what a watcher sees that is killed in the middle of a file."""

    def __init__(self, inbox: Inbox, batches: int) -> None:
        self._inbox = inbox
        self._left = batches
        self._confirmed = inbox.publisher

    async def publish_batch(self, body: bytes) -> None:
        if self._left == 0:
            self._inbox.stopping.set()
            raise OutcomeUnknownError("no confirmation")
        self._left -= 1
        await self._confirmed.publish_batch(body)


@asynccontextmanager
async def died_after(
    root: Path, entry: SpoolEntry, *, batches: int, before: Inbox | None = None
) -> AsyncIterator[Inbox]:
    """Let a watcher land a file until it has published some batches, and give the next watcher of the same inbox."""
    first = Inbox(root, publisher=before.publisher if before else None)
    with first.spool:
        confirmed, first.publisher = first.publisher, DyingPublisher(first, batches)  # type: ignore[assignment] # what it uses of one it has
        assert not await first.ingest(entry)
    following = Inbox(root, publisher=confirmed)
    with following.spool:
        yield following
