"""FileIngest: the way of one claimed file, from its content hash to done/ or failed/."""

import asyncio
from collections.abc import Iterator
from typing import Final

import structlog

from file_watcher.batches import Batch, assemble
from file_watcher.formats.content import ContentFile, row_digest
from file_watcher.formats.reading import Content, FileKind, kind_of, open_rows
from file_watcher.formats.rows import Reject, Row, UnreadableError
from file_watcher.formats.source_formats import NO_FORMATS, Formats
from file_watcher.identity import Identity, StoppingError, ToRead
from file_watcher.mapping import CsvRows, DeriveKey, JsonRows, MapRow
from file_watcher.metrics import count_file, count_refused, count_unnamed_rows
from file_watcher.naming import NewRows, RowKeys, last_number
from file_watcher.publish import FilePublisher
from file_watcher.rejects import RejectsFile, encode_rejects
from file_watcher.settings import Settings
from file_watcher.spool.claims import ClaimedFile, ClaimNote, Confirmed
from file_watcher.spool.directory import SpoolDirectory
from file_watcher.spool.entry import FileVersion, SpoolEntry, printable
from file_watcher.spool.watch import FinishedWatch
from shared.contracts.event import now, source_problem
from shared.failpoints import failpoint

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

DONE: Final = "done"
FAILED: Final = "failed"


class FileIngester:
    """Lands claimed files."""

    def __init__(  # noqa: PLR0913 - what a file is landed with
        self,
        spool: SpoolDirectory,
        file_publisher: FilePublisher,
        watch: FinishedWatch,
        settings: Settings,
        *,
        stopping: asyncio.Event,
        formats: Formats = NO_FORMATS,
    ) -> None:
        """One for all files; once `stopping` is set nothing more is read. `watch` gets the files that are finished."""
        self._formats = formats
        self._spool = spool
        self._publisher = file_publisher
        self._watch = watch
        self._settings = settings
        self._identity = Identity(spool, settings, is_stopping=stopping.is_set)

    async def ingest(self, claimed: ClaimedFile) -> bool:
        """Publish every row, then move the file.

        Return False where it stays in work/, to be landed again: the service is stopping, or somebody changed it.

        Raises:
            OSError: the file cannot be read or moved, or its rejects or its note cannot be written; it stays in work/.
        """
        try:
            kind = self._kind(claimed)
        except UnreadableError as error:
            await self._reject_whole(claimed, error)
            return True
        while (reading := await self._read(claimed, kind)) is not None:
            if reading.version.bytes <= reading.extent.file_bytes:
                await self._finish(claimed, reading)
                return True
            # What it grew by since it was hashed is read under another name than what is confirmed.
            note = ClaimNote(confirmed=reading.confirmed, taken_back=reading.taken_back)
            await asyncio.to_thread(self._spool.write_note, claimed, note)
            failpoint("file-watcher.grown")
        return False

    async def refuse(self, entry: SpoolEntry, reason: str) -> None:
        """Move what can be no file of events to failed/, unopened, with the reason beside it. Raises OSError."""
        name = await asyncio.to_thread(self._spool.put_aside, entry)
        content = encode_rejects([Reject(0, reason)])
        await asyncio.to_thread(self._spool.write_reason, entry.source, name, content)
        count_file(FAILED)
        log.warning("a file was refused", reason=reason, **SpoolEntry(FAILED, entry.source, name).shown)

    async def _read(self, claimed: ClaimedFile, kind: FileKind) -> "_Reading | None":
        """Publish every row up to where the content was hashed; None: not all of it was read."""
        rejects = RejectsFile(lambda: self._spool.create_rejects(claimed))
        try:
            reading = await asyncio.to_thread(self._begin, claimed, kind, rejects)
            confirmed = await self._publisher.publish_all(
                reading.batches,
                source=claimed.source,
                rejected=lambda batch: rejects.write(batch.rejects),
                confirmed=reading.add,
            )
        except StoppingError:
            return None
        finally:
            if rejects.count:
                await asyncio.to_thread(rejects.close, durable=True)
        if not confirmed:
            return None
        if claimed.version() != reading.version:
            log.warning("a file changed while it was read; it is read again", **claimed.entry.shown)
            return None
        reading.rejects = rejects.count
        return reading

    def _begin(self, claimed: ClaimedFile, kind: FileKind, rejects: RejectsFile) -> "_Reading":
        """Fix what is read, and open it. A file of which nothing can be read has one reject, and no rows.

        Raises:
            StoppingError: the service is stopping.
        """
        version = claimed.version()
        reading = _Reading(version, self._identity.fix(claimed, kind), numbered_by_line=kind.numbered_by_line)
        self._spool.discard_rejects(claimed)
        try:
            reading.batches = self._batches(claimed, kind, reading)
        except UnreadableError as error:
            rejects.write([Reject(0, str(error))])
            count_refused(1, source=claimed.source, received_at=now())
            reading.readable = False
        return reading

    async def _finish(self, claimed: ClaimedFile, reading: "_Reading") -> None:
        # A file of which nothing could be an event needs a person, even where every row was read.
        ended = DONE if reading.readable and (reading.events or not reading.rejects) else FAILED
        name = await self._move(claimed, ended, reading.version, reading.confirmed)
        shown = SpoolEntry(ended, claimed.source, name).shown
        log.info("a file was read", queued=reading.events, rejected=reading.rejects, skipped=reading.skipped, **shown)
        if reading.rejects:
            log.warning(
                "rows were rejected; their numbers and reasons are in the rejects file beside the file",
                rejected=reading.rejects,
                **shown,
            )
        if reading.keys.count:
            count_unnamed_rows(reading.keys.count)
            log.warning("rows have no id; they are named by the file's content", rows=reading.keys.count, **shown)

    async def _move(self, claimed: ClaimedFile, ended: str, version: FileVersion, confirmed: Confirmed | None) -> str:
        failpoint("file-watcher.before_move")
        moved = await asyncio.to_thread(self._spool.finish, claimed, ended, version, confirmed)
        failpoint("file-watcher.moved")
        if moved.finished:
            self._watch.add(claimed.source, moved.finished)
        count_file(ended)
        return moved.name

    def _kind(self, claimed: ClaimedFile) -> FileKind:
        """Return what the names and the size allow to say, before anything is read. Raises UnreadableError."""
        problem = source_problem(claimed.source)
        if problem:
            raise UnreadableError(f"the folder's name is no source: {problem}")
        if claimed.version().bytes > self._settings.files_bytes_max:
            raise UnreadableError(f"the file is larger than {self._settings.files_bytes_max} bytes")
        return kind_of(claimed.name)

    async def _reject_whole(self, claimed: ClaimedFile, error: UnreadableError) -> None:
        """Move a file of which nothing was read to failed/, with the reason beside it. Raises OSError."""
        rejects = RejectsFile(lambda: self._spool.create_rejects(claimed))
        try:
            await asyncio.to_thread(rejects.write, [Reject(0, str(error))])
        finally:
            await asyncio.to_thread(rejects.close, durable=True)
        count_refused(1, source=claimed.source, received_at=now())
        name = await self._move(claimed, FAILED, claimed.version(), None)
        log.warning(
            "a file was rejected; the reason is in the rejects file beside the file",
            **SpoolEntry(FAILED, claimed.source, name).shown,
        )

    def _batches(self, claimed: ClaimedFile, kind: FileKind, reading: "_Reading") -> Iterator[Batch]:
        extent = reading.extent
        unpacked = ContentFile(claimed.file, kind.packing, self._settings, extent)
        form = self._formats.of(claimed.source)
        content = open_rows(unpacked, kind._replace(packing=""), self._settings, form=form)
        map_row = row_mapping(
            content,
            claimed.source,
            claimed.name,
            id_field=self._settings.files_id_field,
            derive_key=reading.keys,
            derived=not extent.packed,
        )
        return _while_unchanged(
            assemble(content.rows, map_row, self._settings.batch, fresh=reading.new_rows(map_row)),
            claimed,
            reading.version,
        )


def _while_unchanged(batches: Iterator[Batch], claimed: ClaimedFile, version: FileVersion) -> Iterator[Batch]:
    """Yield batches until the file is no more what it was: a row that an edit tore in two is nobody's row."""
    for batch in batches:
        if claimed.version() != version:
            return
        yield batch


class _Reading:
    """What became of a file's rows so far; of those that were confirmed before it grew, too."""

    def __init__(self, version: FileVersion, to_read: ToRead, *, numbered_by_line: bool) -> None:
        self.version = version
        self.extent = to_read.extent
        self.taken_back = to_read.taken_back
        self.keys = RowKeys(to_read.extent)
        self.batches: Iterator[Batch] = iter(())
        self.skipped = 0
        self.readable = True
        self.rejects = 0
        self._before = to_read.confirmed
        self.events = to_read.confirmed.events if to_read.confirmed else 0
        self._last: Row | Reject | None = None
        self._by_line = numbered_by_line

    def add(self, batch: Batch) -> None:
        """Count a confirmed batch; they come in any order."""
        self.events += batch.events
        self.skipped += batch.skipped
        self.readable = self.readable and not batch.unreadable
        if batch.last and (self._last is None or batch.last.number > self._last.number):
            self._last = batch.last

    def new_rows(self, map_row: MapRow) -> NewRows | None:
        """Return what tells the rows that it grew by, or None: all are new."""
        return NewRows(self._before, map_row, numbered_by_line=self._by_line) if self._before else None

    @property
    def confirmed(self) -> Confirmed:
        """What is to be known of these rows when the file has grown."""
        last = self._last
        if last is None:
            rows, tail = (self._before.rows, self._before.tail) if self._before else (0, "")
        else:
            rows = last_number(last, numbered_by_line=self._by_line)
            tail = row_digest(last.body) if isinstance(last, Row) else ""
        return Confirmed(extent=self.extent, rows=rows, tail=tail, events=self.events)


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
