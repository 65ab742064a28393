"""In-place mode: one file that its owner rewrites is read again whenever it changed, and never moved.

Rows without an id of their own are identified by their bytes: the n-th row of these bytes is the same event at every
reading, at whatever position. So an added row is new, an edited row is new, and a moved row is not. The name of the
file is part of the key: equal rows of two files are two events. The ledger's identity makes that last over a restart;
what is kept in `KnownRows` only saves publishing rows again.
"""

import asyncio
import csv
import hashlib
import os
import sqlite3
import time
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

import structlog

from file_watcher.known_rows import DIGEST_BYTES, NOTHING, TAIL_MAX, KnownRows, RowCount
from file_watcher.mapping import RowMapper, row_mapper
from file_watcher.pipeline import RowPipeline
from file_watcher.read_file import ReadFile, begins_with, open_regular, seen_of
from file_watcher.settings import Settings
from file_watcher.spool.entry import FileVersion, printable, version_of
from shared.contracts.event import reserve_moments
from shared.files.reading import kind_of, open_rows
from shared.files.rows import Chunk, ChunkReader, Reject, Row, UnreadableError
from shared.files.source_formats import NO_FORMATS, Formats
from shared.runtime.readiness import Readiness
from shared.runtime.waiting import wait_any

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

READY: Final = "file"

_REJECTS_SHOWN: Final = 5
_COLUMNS_SHOWN: Final = 10
# A second change within one tick of the file system's clock leaves no trace, so a file this young is read once more.
_CLOCK_TICK_NS: Final = 2_000_000_000
_NAME_DIGITS: Final = 16


class HeaderChangedError(Exception):
    """The header of a CSV file differs from that of the rows that were published. The message names the difference."""


class InPlace(NamedTuple):
    """Which file is read. `name` is part of the keys of its rows. `rotates`: it only grows, or begins anew."""

    path: Path
    source: str
    name: str
    rotates: bool = False

    @property
    def digest(self) -> str:
        """Identifies the file among those of its source."""
        return hashlib.sha256(self.name.encode("utf-8", "surrogateescape")).hexdigest()[:_NAME_DIGITS]


class InPlaceReading:
    """One reading of the file: publishes the rows that are new, and counts all. See `Reading` and `RowFilter`."""

    def __init__(  # noqa: PLR0913 - what is known of the file before it is read
        self,
        file: InPlace,
        counted: RowCount,
        known: KnownRows,
        file_at: datetime,
        *,
        rows_max: int,
        appended: bool,
    ) -> None:
        """`appended`: the file begins with what was read before. Rows beyond `rows_max` make the rest unreadable."""
        self.source = file.source
        self.file_at = file_at
        self.row_filter = self
        self.rejected = 0
        self.first_rejects: list[dict[str, int | str]] = []
        self._counted = counted
        self._known = known
        self._rows_max = rows_max
        self._stable = (known.checkpoint.rows or 0) if appended else 0
        self._skipped = self._stable
        self._rows = 0
        self._whole = True
        self._header: bytes | None = None
        generation = f"{known.generation}:" if known.generation else ""
        self._key_prefix = f"row:{file.digest}:{generation}"

    def check_header(self, header: bytes | None) -> None:
        """Keep the header of a CSV file. Raises HeaderChangedError where it is not the one of before."""
        before = self._known.header
        if header is not None and before is not None and header != before:
            changed = _difference(before, header)
            raise HeaderChangedError(f"the header has changed: {changed}; start with --accept-header to go on")
        self._header = header

    def open(self, chunks: ChunkReader, mapper: RowMapper) -> None:
        """Read these."""
        self._chunks = chunks
        self.mapper = mapper

    def next_chunk(self, pieces_max: int, bytes_max: int) -> Chunk:
        """See `Reading`."""
        return self._chunks.next_chunk(pieces_max, bytes_max)

    def new(self, row: Row) -> Row | None:
        """Count a row; return it with its key where it was not published before."""
        self._rows += 1
        if self._rows > self._rows_max:
            raise UnreadableError(f"a file that is read in place may have {self._rows_max} rows")
        if self._rows <= self._skipped:
            return None
        digest = hashlib.sha256(row.body).digest()[:DIGEST_BYTES]
        nth, new = self._counted.count(digest)
        if self._whole:
            # The last row may not be complete.
            self._stable = self._rows - 1
            self._counted.tail = [digest]
        elif len(self._counted.tail) <= TAIL_MAX:
            self._counted.tail.append(digest)
        return Row(row.number, row.body, f"{self._key_prefix}{digest.hex()}:{nth}") if new else None

    def skip_reject(self) -> None:
        """Note that from here on more bytes may change what was read."""
        self._whole = False

    def reject(self, rejects: list[Reject]) -> None:
        """Count rejected rows, and keep the first."""
        self.rejected += len(rejects)
        left = _REJECTS_SHOWN - len(self.first_rejects)
        self.first_rejects += [{"line": reject.number, "reason": reject.reason} for reject in rejects[:left]]

    def keep(self, file: ReadFile) -> None:
        """Keep that all rows of this reading are published."""
        self._known.keep(self._counted, file.checkpoint(self._stable), header=self._header, file_at=self.file_at)


class InPlaceFile:
    """Reads one file at an interval."""

    def __init__(  # noqa: PLR0913 - each is one part of the service
        self,
        file: InPlace,
        known: KnownRows,
        *,
        pipeline: RowPipeline,
        settings: Settings,
        readiness: Readiness,
        formats: Formats = NO_FORMATS,
    ) -> None:
        """The path may be a link: its owner chose it. `known` is of this file alone."""
        self._file = file
        self._known = known
        self._pipeline = pipeline
        self._settings = settings
        self._readiness = readiness
        self._formats = formats
        self._finished: FileVersion | None = None
        self._reported = ""

    async def run(self, stopping: asyncio.Event, *, interval_seconds: float) -> None:
        """Read what is new until `stopping`."""
        while not stopping.is_set():
            try:
                await self._read_if_changed()
            except (OSError, sqlite3.Error) as error:
                self._report(getattr(error, "strerror", None) or type(error).__name__)
            except HeaderChangedError as error:
                self._report(str(error), operator_must_act=True)
            await wait_any(stopping, seconds_max=interval_seconds)

    async def _read_if_changed(self) -> None:
        with await asyncio.to_thread(open_regular, self._file.path) as file:
            status = os.fstat(file.fileno())
            version = version_of(status)
            if version != self._finished:
                settled = time.time_ns() - status.st_mtime_ns > _CLOCK_TICK_NS
                if await self._read(file, settled=settled) and settled:
                    self._finished = version
            self._readiness.set(READY, present=True)
            self._reported = ""

    async def _read(self, file: BinaryIO, *, settled: bool) -> bool:
        """Publish what is new; return True when every row is confirmed or rejected, and kept as known."""
        grown = await asyncio.to_thread(self._has_only_grown, file)
        if self._file.rotates and not grown and self._known.checkpoint.inode:
            await asyncio.to_thread(self._known.begin_generation, f"{time.time_ns():x}")
        file_at = await asyncio.to_thread(self._moment_of, file, grown=grown)
        appended = grown and self._known.checkpoint.rows is not None
        content = ReadFile(file, self._known.checkpoint if grown else NOTHING)
        with self._known.counting(appended=appended) as counted:
            reading = InPlaceReading(
                self._file,
                counted,
                self._known,
                file_at,
                rows_max=self._settings.files_in_place_rows_max,
                appended=appended,
            )
            confirmed = await self._publish(content, reading, settled=settled)
        # While its owner is writing, half a row is normal.
        if reading.rejected and settled:
            log.warning(
                "rows were rejected; the rest of the file was taken",
                rejected=reading.rejected,
                first=reading.first_rejects,
                **self._names,
            )
        return confirmed

    async def _publish(self, file: ReadFile, reading: InPlaceReading, *, settled: bool) -> bool:
        try:
            has_rows = await asyncio.to_thread(self._open, file, reading, settled=settled)
        except UnreadableError as error:
            reading.reject([Reject(0, str(error))])
            return True
        if has_rows and await self._pipeline.run(reading) is None:
            return False
        if not file.begins_as_before:
            log.warning("the file changed while it was read; reading it again", **self._names)
            return False
        await asyncio.to_thread(reading.keep, file)
        return True

    def _has_only_grown(self, file: BinaryIO) -> bool:
        """Return True where it is the same file and begins with what was read of it before."""
        return begins_with(file, self._known.checkpoint, same_inode=self._file.rotates)

    def _moment_of(self, file: BinaryIO, *, grown: bool) -> datetime:
        """Return when the file was first seen, once that is on the disk. A file that was rewritten is another one.

        A file that was not read to its end yet is known again by what was there when it was first seen.
        """
        if grown and self._known.file_at:
            return self._known.file_at
        edition = self._known.edition
        if edition and begins_with(file, edition.seen, same_inode=True):
            return edition.file_at
        file_at = reserve_moments(1)
        self._known.begin_edition(file_at, seen_of(file, bytes_max=self._settings.files_bytes_max))
        return file_at

    def _open(self, file: ReadFile, reading: InPlaceReading, *, settled: bool) -> bool:
        """Open the rows; return False where the file is empty. Raises UnreadableError and HeaderChangedError."""
        size = os.fstat(file.fileno()).st_size
        if size > self._settings.files_bytes_max:
            raise UnreadableError(f"the file is larger than {self._settings.files_bytes_max} bytes")
        if not size:
            # A log file that was just created.
            return False
        form = self._formats.of(self._file.source)
        # A row counts with its line end, however old the file is: its writer may write it in parts.
        complete = settled and form.last_row == "accept"
        name = self._file.path.name
        content = open_rows(file, kind_of(name), self._settings, complete=complete, form=form)
        reading.check_header(content.csv.header if content.csv else None)
        mapper = row_mapper(
            content.csv,
            self._file.source,
            printable(name),
            id_field=self._settings.files_id_field,
            file_at=reading.file_at,
        )
        reading.open(content.chunks, mapper)
        return True

    def _report(self, reason: str, *, operator_must_act: bool = False) -> None:
        """Log once why the file is not read, until it works again or the reason changes."""
        self._readiness.set(READY, present=False)
        if reason == self._reported:
            return
        self._reported = reason
        if operator_must_act:
            log.error("the file is not read until an operator acts", reason=reason, **self._names)
        else:
            log.warning("the file cannot be read; trying again at every interval", error=reason, **self._names)

    @property
    def _names(self) -> dict[str, str]:
        return {"source": self._file.source, "file": self._file.path.name}


def _difference(before: bytes, header: bytes) -> str:
    """Return which columns are gone and which are new. The names of columns are no values, and may be logged."""
    old, new = _columns(before), _columns(header)
    gone, come = [name for name in old if name not in new], [name for name in new if name not in old]
    if not gone and not come:
        return "its columns are in another order, or quoted in another way"
    return f"gone {_shown(gone)}, new {_shown(come)}"


def _columns(header: bytes) -> list[str]:
    try:
        return next(csv.reader([header.decode("utf-8", "replace")]), [])
    except csv.Error:
        return []


def _shown(names: list[str]) -> str:
    shown = ", ".join(ascii(name) for name in names[:_COLUMNS_SHOWN]) or "none"
    return shown + (" ..." if len(names) > _COLUMNS_SHOWN else "")
