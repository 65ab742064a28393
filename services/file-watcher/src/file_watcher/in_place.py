"""In-place mode: one file that its owner rewrites is read again whenever it changed, and never moved.

Rows without an id of their own are told apart by their bytes: the n-th row of these bytes is the same event at every
reading, wherever it stands. So an added row is new, an edited row is new, and a moved row is not. The name of the file
is part of the key: two files are two, also where their rows are equal. The ledger's identity makes that last over a
restart; what is kept in `KnownRows` only saves publishing rows again.
"""

import asyncio
import hashlib
import os
import sqlite3
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

import structlog

from file_watcher.batches import Batch, assemble
from file_watcher.formats.reading import kind_of, open_rows
from file_watcher.formats.rows import Reject, UnreadableError
from file_watcher.formats.source_formats import NO_FORMATS, Formats
from file_watcher.ingest_file import row_mapping
from file_watcher.known_rows import NOTHING, KnownRows
from file_watcher.one_reading import HeaderChangedError, OneReading, ReadFile
from file_watcher.publish import FilePublisher
from file_watcher.settings import Settings
from file_watcher.spool.entry import FileVersion, version_of
from shared.runtime.readiness import Readiness
from shared.runtime.waiting import wait_any

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

READY: Final = "file"

_REJECTS_SHOWN: Final = 5
# A second change within one tick of the file system's clock leaves no trace, so a file this young is read once more.
_CLOCK_TICK_NS: Final = 2_000_000_000
_NAME_DIGITS: Final = 16
_PART_BYTES: Final = 256 * 1024


class InPlace(NamedTuple):
    """Which file is read. `name` is for the keys of its rows. `rotates`: it only grows, or begins anew."""

    path: Path
    source: str
    name: str
    rotates: bool = False

    @property
    def digest(self) -> str:
        """What tells the file from the others of its source."""
        return hashlib.sha256(self.name.encode("utf-8", "surrogateescape")).hexdigest()[:_NAME_DIGITS]


class InPlaceFile:
    """Reads one file at an interval."""

    def __init__(  # noqa: PLR0913 - what the file is, and what reads it
        self,
        file: InPlace,
        known: KnownRows,
        *,
        file_publisher: FilePublisher,
        settings: Settings,
        readiness: Readiness,
        formats: Formats = NO_FORMATS,
    ) -> None:
        """The path may be a link: its owner chose it. `known` is of this file alone."""
        self._file = file
        self._known = known
        self._publisher = file_publisher
        self._settings = settings
        self._readiness = readiness
        self._formats = formats
        self._finished: FileVersion | None = None
        self._complaint = ""

    async def run(self, stopping: asyncio.Event, *, interval_seconds: float) -> None:
        """Read what is new until `stopping`."""
        while not stopping.is_set():
            try:
                await self._read_if_changed()
            except (OSError, sqlite3.Error) as error:
                self._complain(getattr(error, "strerror", None) or type(error).__name__)
            except HeaderChangedError as error:
                self._complain(str(error), operator_must_act=True)
            await wait_any(stopping, seconds_max=interval_seconds)

    async def _read_if_changed(self) -> None:
        with await asyncio.to_thread(_open_regular, self._file.path) as file:
            status = os.fstat(file.fileno())
            version = version_of(status)
            if version != self._finished:
                settled = time.time_ns() - status.st_mtime_ns > _CLOCK_TICK_NS
                if await self._read(file, settled=settled) and settled:
                    self._finished = version
            self._readiness.set(READY, present=True)
            self._complaint = ""

    async def _read(self, file: BinaryIO, *, settled: bool) -> bool:
        """Publish what is new; return True when every row is confirmed or rejected, and is known from now on."""
        grown = await asyncio.to_thread(self._has_only_grown, file)
        if self._file.rotates and not grown and self._known.extent.inode:
            await asyncio.to_thread(self._known.begin_generation, f"{time.time_ns():x}")
        shown = _Rejects()
        appended = grown and self._known.extent.rows is not None
        with self._known.reading(appended=appended) as counted:
            reading = OneReading(
                counted, self._known, rows_max=self._settings.files_in_place_rows_max, appended=appended
            )
            content = ReadFile(file, self._known.extent if grown else NOTHING)
            confirmed = await self._publish(content, reading, shown, settled=settled)
        # While its owner is writing, half a row is no news.
        if shown.count and settled:
            log.warning(
                "rows were rejected; the rest of the file was taken",
                rejected=shown.count,
                first=shown.first,
                **self._names,
            )
        return confirmed

    async def _publish(self, file: ReadFile, reading: OneReading, shown: "_Rejects", *, settled: bool) -> bool:
        try:
            batches = await asyncio.to_thread(self._batches, file, reading, settled=settled)
        except UnreadableError as error:
            shown.add([Reject(0, str(error))])
            return True
        if not await self._publisher.publish_all(
            batches, source=self._file.source, rejected=lambda batch: shown.add(batch.rejects)
        ):
            return False
        if not file.begins_as_before:
            log.warning("the file changed while it was read; reading it again", **self._names)
            return False
        await asyncio.to_thread(reading.keep, file)
        return True

    def _has_only_grown(self, file: BinaryIO) -> bool:
        """Tell whether the file begins with what was read of it before, and is the same file."""
        extent, status = self._known.extent, os.fstat(file.fileno())
        if not extent.length or status.st_size < extent.length:
            return False
        if self._file.rotates and status.st_ino != extent.inode:
            return False
        begin = ReadFile(file, extent)
        begin.seek(0)
        while begin.position < extent.length and begin.read(_PART_BYTES):
            pass
        return begin.begins_as_before

    def _batches(self, file: ReadFile, reading: OneReading, *, settled: bool) -> Iterator[Batch]:
        size = os.fstat(file.fileno()).st_size
        if size > self._settings.files_bytes_max:
            raise UnreadableError(f"the file is larger than {self._settings.files_bytes_max} bytes")
        if not size:
            # A log that has just begun anew.
            return iter(())
        form = self._formats.of(self._file.source)
        # A row counts with its line end, however old the file is: who writes it may do so in parts.
        complete = settled and form.last_row == "accept"
        content = open_rows(file, kind_of(self._file.path.name), self._settings, complete=complete, form=form)
        reading.take_header(content.csv.header if content.csv else None)
        map_row = row_mapping(
            content,
            self._file.source,
            self._file.path.name,
            id_field=self._settings.files_id_field,
            derive_key=reading.keys(self._file.digest),
            derived=True,
        )
        return assemble(reading.watched(content.rows), map_row, self._settings.batch, fresh=reading)

    def _complain(self, reason: str, *, operator_must_act: bool = False) -> None:
        """Say once, until it works again or the reason is another, why the file is not read."""
        self._readiness.set(READY, present=False)
        if reason == self._complaint:
            return
        self._complaint = reason
        if operator_must_act:
            log.error("the file is not read until an operator has looked at it", reason=reason, **self._names)
        else:
            log.warning("the file cannot be read; trying again at every interval", error=reason, **self._names)

    @property
    def _names(self) -> dict[str, str]:
        return {"source": self._file.source, "file": self._file.path.name}


class _Rejects:
    """How many rows were rejected in one reading, and the first of them."""

    def __init__(self) -> None:
        self.count = 0
        self.first: list[dict[str, int | str]] = []

    def add(self, rejects: tuple[Reject, ...] | list[Reject]) -> None:
        self.count += len(rejects)
        room = _REJECTS_SHOWN - len(self.first)
        self.first += [{"line": reject.number, "reason": reject.reason} for reject in rejects[:room]]


def _open_regular(path: Path) -> BinaryIO:
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    file = os.fdopen(descriptor, "rb", buffering=0)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return file
    file.close()
    raise OSError("it is no regular file")
