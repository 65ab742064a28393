"""The identity of a claimed file: the hash of its content, which is part of the keys of rows without an id. Blocking.

The hash is written to the disk before the first row is published. When a file grows, the rows that it had keep the old
hash. So it is read in two parts: first what was hashed, and, once all of that is confirmed, the rest, under the hash of
the whole. The rest needs another hash, because many files begin alike: rows of two days would have one key.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple

import structlog

from file_watcher.metrics import KNOWN_FILES
from file_watcher.spool.claims import ClaimedFile, ClaimNote, Confirmed
from file_watcher.spool.directory import SpoolDirectory
from file_watcher.spool.entry import printable
from file_watcher.spool.finished import Finished
from shared.failpoints import failpoint
from shared.files.content import ContentFile, ContentHash, Extent
from shared.files.limits import ReadLimits
from shared.files.reading import FileKind

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class StoppingError(Exception):
    """The service is stopping, so the hash was not finished."""


class ToRead(NamedTuple):
    """What is read of a file now, what was confirmed of it before, and how often it was taken back."""

    extent: Extent
    confirmed: Confirmed | None
    taken_back: int


class Identity:
    """Fixes which part of a file is read next, and under which hash."""

    def __init__(self, spool: SpoolDirectory, limits: ReadLimits, *, is_stopping: Callable[[], bool]) -> None:
        """One for all files."""
        self._spool = spool
        self._limits = limits
        self._is_stopping = is_stopping

    def fix(self, claimed: ClaimedFile, kind: FileKind) -> ToRead:
        """Return what is read now, once its claim note is on the disk.

        Raises:
            StoppingError: the service is stopping.
            OSError: the file cannot be read, or the note not be written.
        """
        note = claimed.note
        if note is None:
            to_read = ToRead(self._measure(claimed, kind, packed=True), None, 0)
            return self._write(claimed, to_read, claimed.file_at)
        if note.reading and self._holds(claimed, kind, note.reading):
            return ToRead(note.reading, note.confirmed, note.taken_back)
        is_new = note.reading is None and note.confirmed is None
        before = self._moved_back(claimed) if is_new else None
        has_grown = before is not None and claimed.version().bytes > before.confirmed.extent.file_bytes
        confirmed = before.confirmed if before and has_grown else note.confirmed
        if confirmed and not self._holds(claimed, kind, confirmed.extent):
            before = confirmed = None
        extent = self._measure(claimed, kind)
        if is_new and not confirmed:
            self._warn_of_known(claimed, extent)
        elif not is_new and (note.reading or not confirmed):
            log.warning(
                "a file was changed other than by appending; rows without an id are stored as they are now, too",
                **claimed.entry.shown,
            )
        file_at = before.claimed_at if before else claimed.file_at
        return self._write(claimed, ToRead(extent, confirmed, note.taken_back), file_at)

    def _write(self, claimed: ClaimedFile, to_read: ToRead, file_at: datetime) -> ToRead:
        note = ClaimNote(
            reading=to_read.extent, confirmed=to_read.confirmed, taken_back=to_read.taken_back, file_at=file_at
        )
        self._spool.write_note(claimed, note)
        failpoint("file-watcher.identified")
        return to_read

    def _measure(self, claimed: ClaimedFile, kind: FileKind, *, packed: bool = False) -> Extent:
        """Return the extent of the whole content, or of as much as can be unpacked."""
        file_bytes = claimed.version().bytes
        content = self._hash(claimed, "" if packed else kind.packing)
        return Extent(
            bytes=content.bytes, digest=content.text(), file_bytes=file_bytes, fault=content.fault, packed=packed
        )

    def _holds(self, claimed: ClaimedFile, kind: FileKind, extent: Extent) -> bool:
        """Return True where the content still begins with the extent."""
        content = self._hash(claimed, "" if extent.packed else kind.packing, bytes_max=extent.bytes)
        return (content.bytes, content.text()) == (extent.bytes, extent.digest)

    def _hash(self, claimed: ClaimedFile, packing: str, *, bytes_max: int | None = None) -> ContentHash:
        content = ContentHash(ContentFile(claimed.file, packing, self._limits), bytes_max=bytes_max)
        while content.hash_part():
            if self._is_stopping():
                raise StoppingError
        return content

    def _moved_back(self, claimed: ClaimedFile) -> Finished | None:
        """Return what is known of a finished file that was moved into the inbox again, as it was or grown too late.

        Compares size and time too: a new file may get the inode of a deleted one.
        """
        version = claimed.version()
        entry = self._spool.finished.with_inode(claimed.source, version.inode)
        return entry if entry and entry.version == version else None

    def _warn_of_known(self, claimed: ClaimedFile, extent: Extent) -> None:
        known = self._spool.finished.with_content(claimed.source, extent)
        if known:
            KNOWN_FILES.inc()
            log.warning(
                "the same content was taken before; its rows are stored once",
                before=printable(known.entry(claimed.source).file),
                at=datetime.fromtimestamp(known.at, UTC).isoformat(timespec="seconds"),
                **claimed.entry.shown,
            )
