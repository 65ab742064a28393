"""Landing: the way of one claimed file, from its content hash to done/ or failed/."""

import asyncio
from collections.abc import Iterator
from typing import Final

import structlog

from file_watcher.assembly import Batch, assemble
from file_watcher.claim import Folders
from file_watcher.claimed import Claimed
from file_watcher.content import ContentFile, row_digest
from file_watcher.folders import Place, Stamp, printable
from file_watcher.formats import NO_FORMATS, Formats
from file_watcher.handover import Handover
from file_watcher.identity import Identity, StoppingError, ToRead
from file_watcher.mapping import CsvRows, DeriveKey, JsonRows, MapRow
from file_watcher.metrics import count_file, count_refused, count_unnamed_rows
from file_watcher.naming import NewRows, RowKeys, last_number
from file_watcher.notes import ClaimNote, Confirmed
from file_watcher.reading import Content, FileKind, kind_of, open_rows
from file_watcher.rejects import RejectsFile, encode_rejects
from file_watcher.rows import Reject, Row, UnreadableError
from file_watcher.settings import Settings
from file_watcher.watch import FinishedWatch
from shared.contracts.event import now, source_problem
from shared.failpoints import failpoint

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

DONE: Final = "done"
FAILED: Final = "failed"


class Landing:
    """Lands claimed files."""

    def __init__(  # noqa: PLR0913 - what a file is landed with
        self,
        folders: Folders,
        handover: Handover,
        watch: FinishedWatch,
        settings: Settings,
        *,
        stopping: asyncio.Event,
        formats: Formats = NO_FORMATS,
    ) -> None:
        """One for all files; once `stopping` is set nothing more is read. `watch` gets the files that are finished."""
        self._formats = formats
        self._folders = folders
        self._handover = handover
        self._watch = watch
        self._settings = settings
        self._identity = Identity(folders, settings, is_stopping=stopping.is_set)

    async def land(self, claimed: Claimed) -> bool:
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
            if reading.stamp.bytes <= reading.extent.file_bytes:
                await self._finish(claimed, reading)
                return True
            # What it grew by since it was hashed is read under another name than what is confirmed.
            note = ClaimNote(confirmed=reading.confirmed, taken_back=reading.taken_back)
            await asyncio.to_thread(self._folders.write_note, claimed, note)
            failpoint("file-watcher.grown")
        return False

    async def refuse(self, place: Place, reason: str) -> None:
        """Move what can be no file of events to failed/, unopened, with the reason beside it. Raises OSError."""
        name = await asyncio.to_thread(self._folders.put_aside, place)
        content = encode_rejects([Reject(0, reason)])
        await asyncio.to_thread(self._folders.write_reason, place.source, name, content)
        count_file(FAILED)
        log.warning("a file was refused", reason=reason, **Place(FAILED, place.source, name).shown)

    async def _read(self, claimed: Claimed, kind: FileKind) -> "_Reading | None":
        """Publish every row up to where the content was hashed; None: not all of it was read."""
        rejects = RejectsFile(lambda: self._folders.create_rejects(claimed))
        try:
            reading = await asyncio.to_thread(self._begin, claimed, kind, rejects)
            confirmed = await self._handover.publish_all(
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
        if claimed.stamp() != reading.stamp:
            log.warning("a file changed while it was read; it is read again", **claimed.place.shown)
            return None
        reading.rejects = rejects.count
        return reading

    def _begin(self, claimed: Claimed, kind: FileKind, rejects: RejectsFile) -> "_Reading":
        """Fix what is read, and open it. A file of which nothing can be read has one reject, and no rows.

        Raises:
            StoppingError: the service is stopping.
        """
        stamp = claimed.stamp()
        reading = _Reading(stamp, self._identity.fix(claimed, kind), numbered_by_line=kind.numbered_by_line)
        self._folders.discard_rejects(claimed)
        try:
            reading.batches = self._batches(claimed, kind, reading)
        except UnreadableError as error:
            rejects.write([Reject(0, str(error))])
            count_refused(1, source=claimed.source, received_at=now())
            reading.readable = False
        return reading

    async def _finish(self, claimed: Claimed, reading: "_Reading") -> None:
        # A file of which nothing could be an event needs a person, even where every row was read.
        ended = DONE if reading.readable and (reading.events or not reading.rejects) else FAILED
        name = await self._move(claimed, ended, reading.stamp, reading.confirmed)
        shown = Place(ended, claimed.source, name).shown
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

    async def _move(self, claimed: Claimed, ended: str, stamp: Stamp, confirmed: Confirmed | None) -> str:
        failpoint("file-watcher.before_move")
        moved = await asyncio.to_thread(self._folders.finish, claimed, ended, stamp, confirmed)
        failpoint("file-watcher.moved")
        if moved.entry:
            self._watch.add(claimed.source, moved.entry)
        count_file(ended)
        return moved.name

    def _kind(self, claimed: Claimed) -> FileKind:
        """Return what the names and the size allow to say, before anything is read. Raises UnreadableError."""
        problem = source_problem(claimed.source)
        if problem:
            raise UnreadableError(f"the folder's name is no source: {problem}")
        if claimed.stamp().bytes > self._settings.files_bytes_max:
            raise UnreadableError(f"the file is larger than {self._settings.files_bytes_max} bytes")
        return kind_of(claimed.name)

    async def _reject_whole(self, claimed: Claimed, error: UnreadableError) -> None:
        """Move a file of which nothing was read to failed/, with the reason beside it. Raises OSError."""
        rejects = RejectsFile(lambda: self._folders.create_rejects(claimed))
        try:
            await asyncio.to_thread(rejects.write, [Reject(0, str(error))])
        finally:
            await asyncio.to_thread(rejects.close, durable=True)
        count_refused(1, source=claimed.source, received_at=now())
        name = await self._move(claimed, FAILED, claimed.stamp(), None)
        log.warning(
            "a file was rejected; the reason is in the rejects file beside the file",
            **Place(FAILED, claimed.source, name).shown,
        )

    def _batches(self, claimed: Claimed, kind: FileKind, reading: "_Reading") -> Iterator[Batch]:
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
            assemble(content.rows, map_row, self._settings, fresh=reading.new_rows(map_row)), claimed, reading.stamp
        )


def _while_unchanged(batches: Iterator[Batch], claimed: Claimed, stamp: Stamp) -> Iterator[Batch]:
    """Yield batches until the file is no more what it was: a row that an edit tore in two is nobody's row."""
    for batch in batches:
        if claimed.stamp() != stamp:
            return
        yield batch


class _Reading:
    """What became of a file's rows so far; of those that were confirmed before it grew, too."""

    def __init__(self, stamp: Stamp, to_read: ToRead, *, numbered_by_line: bool) -> None:
        self.stamp = stamp
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
