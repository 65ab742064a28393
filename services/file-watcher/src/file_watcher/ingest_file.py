"""Ingest a claimed file: its rows become confirmed events, then it moves to done/ or failed/."""

import asyncio
import hashlib
import os
from typing import Final

import structlog

from file_watcher.identity import Identity, StoppingError, ToRead
from file_watcher.mapping import RowMapper, row_mapper
from file_watcher.metrics import FILES, UNNAMED_ROWS, count_refused
from file_watcher.pipeline import PipelineRun, RowPipeline
from file_watcher.rejects import RejectsFile, encode_rejects
from file_watcher.settings import Settings
from file_watcher.spool.claims import ClaimedFile, ClaimNote, Confirmed
from file_watcher.spool.directory import SpoolDirectory
from file_watcher.spool.entry import FileVersion, SpoolEntry, printable
from file_watcher.spool.watch import FinishedWatch
from shared.contracts.event import now, source_problem
from shared.failpoints import failpoint
from shared.files.content import DIGEST_CHARS, ContentFile
from shared.files.reading import FileKind, kind_of, open_rows
from shared.files.rows import Chunk, ChunkReader, Reject, Row, UnreadableError
from shared.files.source_formats import NO_FORMATS, Formats

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

DONE: Final = "done"
FAILED: Final = "failed"

_NO_MORE: Final = Chunk([], ended=True)


class FileIngester:
    """Ingests claimed files."""

    def __init__(  # noqa: PLR0913 - each is one part of the service
        self,
        spool: SpoolDirectory,
        pipeline: RowPipeline,
        watch: FinishedWatch,
        settings: Settings,
        *,
        stopping: asyncio.Event,
        formats: Formats = NO_FORMATS,
    ) -> None:
        """One for all files. `watch` gets the files that are finished."""
        self._formats = formats
        self._spool = spool
        self._pipeline = pipeline
        self._watch = watch
        self._settings = settings
        self._identity = Identity(spool, settings, is_stopping=stopping.is_set)

    async def ingest(self, claimed: ClaimedFile) -> bool:
        """Publish every row, then move the file.

        Return False where it stays in work/ and is ingested again: the service is stopping, or the file was changed.

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
            # What it grew by after it was hashed is read under another hash.
            note = ClaimNote(confirmed=reading.confirmed, taken_back=reading.taken_back, file_at=claimed.file_at)
            await asyncio.to_thread(self._spool.write_note, claimed, note)
            failpoint("file-watcher.grown")
        return False

    async def refuse(self, entry: SpoolEntry, reason: str) -> None:
        """Move it to failed/ without opening it, with the reason beside it. Raises OSError."""
        name = await asyncio.to_thread(self._spool.put_aside, entry)
        content = encode_rejects([Reject(0, reason)])
        await asyncio.to_thread(self._spool.write_reason, entry.source, name, content)
        FILES.labels(FAILED).inc()
        log.warning("a file was refused", reason=reason, **SpoolEntry(FAILED, entry.source, name).shown)

    async def _read(self, claimed: ClaimedFile, kind: FileKind) -> "_ClaimedReading | None":
        """Publish every row of the extent that was hashed; None: not all of it was read."""
        rejects = RejectsFile(lambda: self._spool.create_rejects(claimed))
        try:
            reading = await asyncio.to_thread(self._begin, claimed, kind, rejects)
            run = await self._pipeline.run(reading) if reading.is_open else reading.run
        except StoppingError:
            return None
        finally:
            if rejects.count:
                await asyncio.to_thread(rejects.close, durable=True)
        if run is None:
            return None
        reading.run = run
        if claimed.version() != reading.version:
            log.warning("a file changed while it was read; it is read again", **claimed.entry.shown)
            return None
        return reading

    def _begin(self, claimed: ClaimedFile, kind: FileKind, rejects: RejectsFile) -> "_ClaimedReading":
        """Fix what is read, and open it. An unreadable file has one reject, and no rows.

        Raises:
            StoppingError: the service is stopping.
        """
        version = claimed.version()
        to_read = self._identity.fix(claimed, kind)
        self._spool.discard_rejects(claimed)
        reading = _ClaimedReading(claimed, kind, version, to_read, rejects)
        shown = printable(claimed.name)
        unpacked = ContentFile(claimed.file, kind.packing, self._settings, to_read.extent)
        form = self._formats.of(claimed.source)
        try:
            content = open_rows(unpacked, kind._replace(packing=""), self._settings, form=form)
        except UnreadableError as error:
            rejects.write([Reject(0, str(error))])
            count_refused(1, source=claimed.source, received_at=now())
            return reading
        mapper = row_mapper(
            content.csv,
            claimed.source,
            shown,
            id_field=self._settings.files_id_field,
            key_prefix=f"file:{to_read.extent.digest}:",
            derived=not to_read.extent.packed,
            file_at=claimed.file_at,
        )
        reading.open(content.chunks, mapper)
        return reading

    async def _finish(self, claimed: ClaimedFile, reading: "_ClaimedReading") -> None:
        # An operator must look at a file without any event, even where every row was read.
        rejected, unnamed = reading.rejects.count, reading.mapper.derived_keys if reading.is_open else 0
        readable = reading.is_open and not reading.run.unreadable
        ended = DONE if readable and (reading.events or not rejected) else FAILED
        name = await self._move(claimed, ended, reading.version, reading.confirmed)
        shown = SpoolEntry(ended, claimed.source, name).shown
        log.info("a file was read", queued=reading.events, rejected=rejected, skipped=reading.run.skipped, **shown)
        if rejected:
            log.warning(
                "rows were rejected; their numbers and reasons are in the rejects file beside the file",
                rejected=rejected,
                **shown,
            )
        if unnamed:
            UNNAMED_ROWS.inc(unnamed)
            log.warning("rows have no id; their keys are derived from the file's content", rows=unnamed, **shown)

    async def _move(self, claimed: ClaimedFile, ended: str, version: FileVersion, confirmed: Confirmed | None) -> str:
        failpoint("file-watcher.before_move")
        moved = await asyncio.to_thread(self._spool.finish, claimed, ended, version, confirmed)
        failpoint("file-watcher.moved")
        if moved.finished:
            self._watch.add(claimed.source, moved.finished)
        FILES.labels(ended).inc()
        return moved.name

    def _kind(self, claimed: ClaimedFile) -> FileKind:
        """Check the names and the size before anything is read. Raises UnreadableError."""
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


class _ClaimedReading:
    """One reading of a claimed file, up to the end of its extent. See `Reading` and `RowFilter`."""

    def __init__(
        self, claimed: ClaimedFile, kind: FileKind, version: FileVersion, to_read: ToRead, rejects: RejectsFile
    ) -> None:
        self.source = claimed.source
        self.version = version
        self.extent = to_read.extent
        self.taken_back = to_read.taken_back
        self.rejects = rejects
        self.run = PipelineRun()
        self._before = to_read.confirmed
        self._by_line = kind.numbered_by_line
        self._descriptor = claimed.file.fileno()
        self.row_filter = self if self._before else None
        self.is_open = False

    def open(self, chunks: ChunkReader, mapper: RowMapper) -> None:
        """Read these. Without a call, nothing of the file can be read."""
        self._chunks = chunks
        self.mapper = mapper
        self.is_open = True

    def next_chunk(self, pieces_max: int, bytes_max: int) -> Chunk:
        """Read rows until the file changes: half of a row may be of the file before an edit."""
        chunk = self._chunks.next_chunk(pieces_max, bytes_max)
        status = os.fstat(self._descriptor)
        return chunk if (status.st_ino, status.st_size, status.st_mtime_ns) == self.version else _NO_MORE

    def new(self, row: Row) -> Row | None:
        """Return the row if it was added when the file grew. One that was cut off before and is complete now is new."""
        before, last = self._before, _last_line(row, numbered_by_line=self._by_line)
        if before is None or last > before.rows or (last == before.rows and _row_digest(row.body) != before.tail):
            return row
        # A row that was rejected is reported again, in the new rejects file.
        self.mapper.map(row, now())
        return None

    def skip_reject(self) -> None:
        """See `RowFilter`."""

    def reject(self, rejects: list[Reject]) -> None:
        """Write rejected rows. Raises OSError."""
        self.rejects.write(rejects)

    @property
    def events(self) -> int:
        """The number of confirmed events, with those from before the file grew."""
        return self.run.events + (self._before.events if self._before else 0)

    @property
    def confirmed(self) -> Confirmed:
        """What the next reading must know of these rows when the file has grown."""
        last = self.run.last
        if last is None:
            rows, tail = (self._before.rows, self._before.tail) if self._before else (0, "")
        else:
            rows = _last_line(last, numbered_by_line=self._by_line)
            tail = _row_digest(last.body) if isinstance(last, Row) else ""
        return Confirmed(extent=self.extent, rows=rows, tail=tail, events=self.events)


def _last_line(row: Row | Reject, *, numbered_by_line: bool) -> int:
    """Return the number of the row's last line, or its own where rows have no lines."""
    if isinstance(row, Row) and numbered_by_line:
        return row.number + row.body.count(b"\n")
    return row.number


def _row_digest(body: bytes) -> str:
    """Return the hash that shows whether the last row was cut off before."""
    return hashlib.sha256(body).hexdigest()[:DIGEST_CHARS]
