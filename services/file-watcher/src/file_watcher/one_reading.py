"""One reading of a file that is read in place: which of its rows are new, what they are called, what is kept of it."""

import csv
import hashlib
import os
from collections.abc import Iterator
from typing import BinaryIO, Final

from file_watcher.formats.rows import Piece, Reject, Row, UnreadableError
from file_watcher.known_rows import DIGEST_BYTES, TAIL_MAX, Extent, KnownRows, Reading
from file_watcher.mapping import DeriveKey

_COLUMNS_SHOWN: Final = 10


class HeaderChangedError(Exception):
    """The header of a CSV file is another one than that of the rows that were published. The message names both."""


class ReadFile:
    """A file that hashes what is read of it, from its beginning on."""

    def __init__(self, file: BinaryIO, before: Extent) -> None:
        """`before` is what was read of it the last time."""
        self._file = file
        self._before = before
        self.seek(0)

    def seek(self, offset: int, /) -> int:
        """Begin again; there is no other place to go to."""
        self._digest = hashlib.sha256()
        self._beginning: bytes | None = None
        self.position = 0
        return self._file.seek(offset)

    def tell(self) -> int:
        """Return how many bytes were read."""
        return self.position

    def fileno(self) -> int:
        """Return the file's descriptor."""
        return self._file.fileno()

    def read(self, size: int, /) -> bytes:
        """Return some bytes, at most `size`; none at the end."""
        left = self._before.length - self.position
        # Read up to where the last reading ended, so that its part has a hash of its own.
        chunk = self._file.read(min(size, left) if left > 0 else size)
        self._digest.update(chunk)
        self.position += len(chunk)
        if self.position == self._before.length:
            self._beginning = self._digest.digest()
        return chunk

    @property
    def begins_as_before(self) -> bool:
        """Tell whether what was read now begins with what was read the last time; nothing was, nothing is said."""
        return not self._before.length or self._beginning == self._before.sha256

    def extent(self, rows: int) -> Extent:
        """Return what was read, with so many rows that no more bytes change."""
        return Extent(os.fstat(self.fileno()).st_ino, self.position, self._digest.digest(), rows)


class OneReading:
    """Tells rows that are new from those that are known. See `FreshRows`."""

    def __init__(self, counted: Reading, known: KnownRows, *, rows_max: int, appended: bool) -> None:
        """`appended`: the file begins with its extent. Rows beyond `rows_max` make the rest unreadable."""
        self._counted = counted
        self._known = known
        self._rows_max = rows_max
        self._stable = (known.extent.rows or 0) if appended else 0
        self._skipped = self._stable
        self._rows = 0
        self._whole = True
        self._header: bytes | None = None
        self._digest = b""
        self._nth = 0

    def take_header(self, header: bytes | None) -> None:
        """Keep the header of a CSV file. Raises HeaderChangedError where it is not the one of before."""
        before = self._known.header
        if header is not None and before is not None and header != before:
            changed = _difference(before, header)
            raise HeaderChangedError(f"the header has changed: {changed}; start with --accept-header to go on")
        self._header = header

    def watched(self, pieces: Iterator[Piece]) -> Iterator[Piece]:
        """Yield the pieces of the file; from the first that is no row on, more bytes may change what was read."""
        for piece in pieces:
            if type(piece) is Reject:
                self._whole = False
            yield piece

    def is_new(self, row: Row) -> bool:
        """Count a row; return True where it is none that was published."""
        self._rows += 1
        if self._rows > self._rows_max:
            raise UnreadableError(f"a file that is read in place may have {self._rows_max} rows")
        if self._rows <= self._skipped:
            return False
        self._digest = hashlib.sha256(row.body).digest()[:DIGEST_BYTES]
        self._nth, new = self._counted.count(self._digest)
        if self._whole:
            # The last row may go on in what is written next.
            self._stable = self._rows - 1
            self._counted.tail = [self._digest]
        elif len(self._counted.tail) <= TAIL_MAX:
            self._counted.tail.append(self._digest)
        return new

    def keys(self, name: str) -> DeriveKey:
        """Return what gives the key of the row that was counted last, in a file of this name."""
        generation = f"{self._known.generation}:" if self._known.generation else ""
        return lambda _: f"row:{name}:{generation}{self._digest.hex()}:{self._nth}"

    def keep(self, file: ReadFile) -> None:
        """Keep that all rows of this reading are published."""
        self._known.keep(self._counted, file.extent(self._stable), header=self._header)


def _difference(before: bytes, header: bytes) -> str:
    """Return which columns went and which came. The names of columns are no values, and may be logged."""
    old, new = _columns(before), _columns(header)
    gone, come = [name for name in old if name not in new], [name for name in new if name not in old]
    if not gone and not come:
        return "its columns stand in another order, or are written otherwise"
    return f"gone {_shown(gone)}, new {_shown(come)}"


def _columns(header: bytes) -> list[str]:
    try:
        return next(csv.reader([header.decode("utf-8", "replace")]), [])
    except csv.Error:
        return []


def _shown(names: list[str]) -> str:
    shown = ", ".join(ascii(name) for name in names[:_COLUMNS_SHOWN]) or "none"
    return shown + (" ..." if len(names) > _COLUMNS_SHOWN else "")
