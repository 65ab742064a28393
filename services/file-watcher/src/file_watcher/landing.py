"""Landing: the way of one claimed file, from its content hash to done/ or failed/."""

import asyncio
from collections.abc import Iterator
from typing import Final, NamedTuple

import structlog

from file_watcher.assembly import Batch, assemble
from file_watcher.claim import Claimed, Folders, Place, Stamp
from file_watcher.formats import NO_FORMATS, Formats
from file_watcher.handover import Handover
from file_watcher.mapping import CsvRows, DeriveKey, JsonRows, MapRow
from file_watcher.metrics import count_file, count_refused
from file_watcher.reading import Content, ContentHash, FileKind, kind_of, open_rows
from file_watcher.rejects import RejectsFile, encode_rejects
from file_watcher.rows import Reject, UnreadableError
from file_watcher.settings import Settings
from shared.contracts.event import now, source_problem
from shared.failpoints import failpoint

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

DONE: Final = "done"
FAILED: Final = "failed"


class Landing:
    """Lands claimed files."""

    def __init__(
        self,
        folders: Folders,
        handover: Handover,
        settings: Settings,
        *,
        stopping: asyncio.Event,
        formats: Formats = NO_FORMATS,
    ) -> None:
        """One for all files; once `stopping` is set nothing more is read."""
        self._formats = formats
        self._stopping = stopping
        self._folders = folders
        self._handover = handover
        self._settings = settings

    async def land(self, claimed: Claimed) -> None:
        """Publish every row, then move the file. Returns early, with the file in work/, when the service is stopping.

        Raises:
            OSError: the file cannot be read or moved, or its rejects cannot be written; it stays in work/.
        """
        rejects = RejectsFile(lambda: self._folders.create_rejects(claimed))
        try:
            ended = await self._publish(claimed, rejects)
        finally:
            await asyncio.to_thread(rejects.close, durable=True)
        if ended is None:
            return
        failpoint("file-watcher.before_move")
        name = await asyncio.to_thread(self._folders.finish, claimed, ended)
        failpoint("file-watcher.moved")
        count_file(ended)
        if rejects.count:
            log.warning(
                "rows were rejected; their numbers and reasons are in the rejects file beside the file",
                source=claimed.source,
                file=name,
                folder=ended,
                rejected=rejects.count,
            )

    async def refuse(self, place: Place, reason: str) -> None:
        """Move what can be no file of events to failed/, unopened, with the reason beside it. Raises OSError."""
        name = await asyncio.to_thread(self._folders.put_aside, place)
        content = encode_rejects([Reject(0, reason)])
        await asyncio.to_thread(self._folders.write_reason, place.source, name, content)
        count_file(FAILED)
        log.warning("a file was refused", source=place.source, file=name, folder=FAILED, reason=reason)

    async def _publish(self, claimed: Claimed, rejects: RejectsFile) -> str | None:
        """Return where the file belongs, or None when the service is stopping."""
        stamp = claimed.stamp()
        try:
            kind = self._kind(claimed)
        except UnreadableError as error:
            await self._reject_whole(rejects, error, claimed.source)
            return FAILED
        fingerprint = await self._fingerprint(claimed)
        while fingerprint:
            published = _Tally()
            try:
                batches = await asyncio.to_thread(self._batches, claimed, kind, fingerprint.text, stamp)
            except UnreadableError as error:
                await self._reject_whole(rejects, error, claimed.source)
                return FAILED
            if not await self._handover.publish_all(
                batches,
                source=claimed.source,
                rejected=lambda batch: rejects.write(batch.rejects),
                confirmed=published.add,
            ):
                return None
            if claimed.stamp() == stamp:
                if published.skipped:
                    log.info(
                        "rows that hold nothing were skipped",
                        source=claimed.source,
                        file=claimed.name,
                        skipped=published.skipped,
                    )
                # A file of which nothing could be an event needs a person, even where every row was read.
                return DONE if published.readable and (published.events or not rejects.count) else FAILED
            log.warning("a file changed while it was read; reading it again", source=claimed.source, file=claimed.name)
            await asyncio.to_thread(rejects.begin_again)
            stamp = claimed.stamp()
            fingerprint = await self._fingerprint(claimed, before=fingerprint)
        return None

    async def _fingerprint(self, claimed: Claimed, *, before: "_Fingerprint | None" = None) -> "_Fingerprint | None":
        """Return the file's fingerprint, or None when the service is stopping.

        A file that only grew keeps the one it had, and with it the keys of the rows that were published before.
        """
        if before and await self._hash(claimed, bytes_max=before.bytes) == before:
            return before
        return await self._hash(claimed)

    async def _hash(self, claimed: Claimed, *, bytes_max: int | None = None) -> "_Fingerprint | None":
        content = ContentHash(claimed.file, bytes_max=bytes_max)
        while await asyncio.to_thread(content.take_part):
            if self._stopping.is_set():
                return None
        return _Fingerprint(content.text(), content.bytes)

    def _kind(self, claimed: Claimed) -> FileKind:
        """Return what the names and the size allow to say, before anything is read. Raises UnreadableError."""
        problem = source_problem(claimed.source)
        if problem:
            raise UnreadableError(f"the folder's name is no source: {problem}")
        if claimed.stamp().bytes > self._settings.files_bytes_max:
            raise UnreadableError(f"the file is larger than {self._settings.files_bytes_max} bytes")
        return kind_of(claimed.name)

    async def _reject_whole(self, rejects: RejectsFile, error: UnreadableError, source: str) -> None:
        await asyncio.to_thread(rejects.write, [Reject(0, str(error))])
        count_refused(1, source=source, received_at=now())

    def _batches(self, claimed: Claimed, kind: FileKind, fingerprint: str, stamp: Stamp) -> Iterator[Batch]:
        content = open_rows(claimed.file, kind, self._settings, form=self._formats.of(claimed.source))
        map_row = row_mapping(
            content,
            claimed.source,
            claimed.name,
            id_field=self._settings.files_id_field,
            derive_key=lambda row: f"file:{fingerprint}:{row.number}",
            derived=True,
        )
        return _while_unchanged(assemble(content.rows, map_row, self._settings), claimed, stamp)


def _while_unchanged(batches: Iterator[Batch], claimed: Claimed, stamp: Stamp) -> Iterator[Batch]:
    """Yield batches until the file is no more what it was: a row that an edit tore in two is nobody's row."""
    for batch in batches:
        if claimed.stamp() != stamp:
            return
        yield batch


class _Fingerprint(NamedTuple):
    """The hash of a file's first bytes, and how many these are."""

    text: str
    bytes: int


class _Tally:
    """What became of a file's rows so far."""

    def __init__(self) -> None:
        self.events = 0
        self.skipped = 0
        self.readable = True

    def add(self, batch: Batch) -> None:
        self.events += batch.events
        self.skipped += batch.skipped
        self.readable = self.readable and not batch.unreadable


def row_mapping(  # noqa: PLR0913 - what is one for all rows of a file
    content: Content, source: str, file_name: str, *, id_field: str, derive_key: DeriveKey, derived: bool
) -> MapRow:
    """Return the mapping for the rows of a file."""
    shown = printable(file_name)
    if content.csv is None:
        return JsonRows(source, shown, id_field=id_field, derive_key=derive_key, derived=derived)
    return CsvRows(
        source,
        shown,
        columns=content.csv.columns,
        screen=content.csv.screen,
        derive_key=derive_key,
        derived=derived,
    )


def printable(name: str) -> str:
    """Return a file's name, which may be any bytes, as text that can be stored and shown."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape", "surrogatepass").decode()
        for character in name
    )
