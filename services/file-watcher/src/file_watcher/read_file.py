"""A file that is read in place: what is read of it is hashed, so that a file that has grown can be told from another.

Blocking.
"""

import hashlib
import os
import stat
from pathlib import Path
from typing import BinaryIO, Final

from file_watcher.known_rows import NOTHING, Checkpoint

_PART_BYTES: Final = 256 * 1024


class ReadFile:
    """A file that hashes what is read of it, from its beginning on."""

    def __init__(self, file: BinaryIO, before: Checkpoint) -> None:
        """`before` is what was read of it the last time."""
        self._file = file
        self._before = before
        self.seek(0)

    def seek(self, offset: int, /) -> int:
        """Begin again; only offset 0 is possible."""
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
        """True where what was read begins with what was read the last time, or nothing was read then."""
        return not self._before.length or self._beginning == self._before.sha256

    def checkpoint(self, rows: int) -> Checkpoint:
        """Return what was read; more bytes cannot change its first `rows` rows."""
        return Checkpoint(os.fstat(self.fileno()).st_ino, self.position, self._digest.digest(), rows)


def begins_with(file: BinaryIO, before: Checkpoint, *, same_inode: bool) -> bool:
    """Return True where a file begins with what was read before, and something was. Raises OSError."""
    status = os.fstat(file.fileno())
    if not before.length or status.st_size < before.length or (same_inode and status.st_ino != before.inode):
        return False
    begin = ReadFile(file, before)
    while begin.position < before.length and begin.read(_PART_BYTES):
        pass
    return begin.begins_as_before


def seen_of(file: BinaryIO, *, bytes_max: int) -> Checkpoint:
    """Return what is in a file now; of a larger one about `bytes_max` bytes. Raises OSError."""
    content = ReadFile(file, NOTHING)
    bytes_max = min(bytes_max, os.fstat(file.fileno()).st_size)
    while content.position < bytes_max and content.read(_PART_BYTES):
        pass
    return content.checkpoint(0)


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file, or one that a link leads to. Raises OSError: it is none, or cannot be opened."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    file = os.fdopen(descriptor, "rb", buffering=0)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return file
    file.close()
    raise OSError("it is no regular file")
