"""The list of finished files: one line each, in a file for each source in the hidden folder work/.finished/. Blocking.

Several watchers may write. A crash can cut off the last line only, and such a line is ignored.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, suppress
from datetime import UTC, datetime
from typing import BinaryIO, Final
from urllib.parse import quote, unquote_to_bytes

import msgspec

from file_watcher.spool.claims import Confirmed
from file_watcher.spool.entry import FileVersion, SpoolEntry
from file_watcher.spool.files import same_file
from file_watcher.spool.folders import OpenFolders
from shared.files.content import Extent

FOLDER: Final = ".finished"

_FLAGS: Final = os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
# About the length of a line; a long name makes it three times as long.
_LINE_BYTES: Final = 400


class Finished(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A file that was moved to done/ or failed/: where it is, its version, and what was confirmed of it.

    `at` is seconds since the epoch. `name` is quoted as in a URL, because a name may be any bytes. `file_at`: see
    `ClaimNote`.
    """

    folder: str
    name: str
    inode: int
    bytes: int
    modified_ns: int
    at: float
    confirmed: Confirmed
    taken_back: int = 0
    file_at: datetime | None = None

    @property
    def version(self) -> FileVersion:
        """The version of the file when it was moved."""
        return FileVersion(self.inode, self.bytes, self.modified_ns)

    @property
    def claimed_at(self) -> datetime:
        """When it was claimed; where code that kept no moment finished it, when that was."""
        return self.file_at or datetime.fromtimestamp(self.at, UTC)

    def entry(self, source: str) -> SpoolEntry:
        """Return where the file was moved to."""
        return SpoolEntry(self.folder, source, os.fsdecode(unquote_to_bytes(self.name)))


def quoted(name: str) -> str:
    """Return a file's name as ASCII text."""
    return quote(os.fsencode(name), safe=" ")


_decode = msgspec.json.Decoder(Finished).decode


class FinishedFiles:
    """What is remembered of each source; the newest `entries_max`, about."""

    def __init__(self, folders: OpenFolders, *, files_max: int) -> None:
        """The list is in work/: a start reads it, and need not read all of done/."""
        self._folders = folders
        self._entries_max = files_max
        self._unsynced: set[str] = set()

    def sync(self) -> None:
        """Write what was added to the disk. Raises OSError."""
        if not self._unsynced:
            return
        with self._opened() as folder:
            while self._unsynced:
                descriptor = os.open(self._unsynced.pop(), _FLAGS, dir_fd=folder)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)

    def remember(self, source: str, finished: Finished) -> None:
        """Add a file, or replace the one of the same name. It is on the disk after `sync`. Raises OSError."""
        self._unsynced.add(source)
        with self._opened() as folder:
            _append(folder, source, finished, files_max=self._entries_max, mode=self._folders.file_mode)

    def since(self, at: float) -> list[tuple[str, Finished]]:
        """Return the source and the last line of each file that was finished after `at`. Raises OSError."""
        found: list[tuple[str, Finished]] = []
        with self._opened() as folder:
            for source in os.listdir(folder):  # noqa: PTH208 - an open folder has no path
                last = {(finished.folder, finished.name): finished for finished in _entries(folder, source)}
                found += [(source, finished) for finished in last.values() if finished.at > at]
        return found

    def with_content(self, source: str, extent: Extent) -> Finished | None:
        """Return the last file of the source that had exactly this content. Raises OSError."""
        with self._opened() as folder:
            found = _find(folder, source, b'"digest":"%b"' % extent.digest.encode())
        known = found and found.confirmed.extent
        return found if known and (known.bytes, known.digest) == (extent.bytes, extent.digest) else None

    def with_inode(self, source: str, inode: int) -> Finished | None:
        """Return the finished file with this inode, wherever it is now. Raises OSError."""
        with self._opened() as folder:
            return _find(folder, source, b'"inode":%d,' % inode)

    def _opened(self) -> AbstractContextManager[int]:
        return self._folders.opened("work", FOLDER, create=True)


def _append(folder: int, source: str, finished: Finished, *, files_max: int, mode: int) -> None:
    line = msgspec.json.encode(finished)
    while True:
        with os.fdopen(os.open(source, _FLAGS | os.O_CREAT, mode, dir_fd=folder), "r+b", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            # Another watcher may have replaced it by a shorter one while we waited.
            if not _is_current(folder, source, file):
                continue
            # The line feed before it ends a line that a crash cut off.
            file.write(b"\n%b\n" % line)
            if os.fstat(file.fileno()).st_size > files_max * _LINE_BYTES:
                _shorten(folder, source, file, files_max // 2, mode)
            return


def _entries(folder: int, source: str) -> Iterator[Finished]:
    """Yield the finished files of a source, oldest first."""
    for line in _read(folder, source).split(b"\n"):
        if line:
            with suppress(msgspec.DecodeError):
                yield _decode(line)


def _find(folder: int, source: str, needle: bytes) -> Finished | None:
    """Return the last line that holds `needle`. A search costs less than decoding, or keeping all in memory."""
    content = _read(folder, source)
    at = content.rfind(needle)
    if at < 0:
        return None
    line = content[content.rfind(b"\n", 0, at) + 1 :].split(b"\n", 1)[0]
    with suppress(msgspec.DecodeError):
        return _decode(line)
    return None


def _read(folder: int, source: str) -> bytes:
    try:
        descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    except FileNotFoundError:
        return b""
    with os.fdopen(descriptor, "rb") as file:
        return file.read()


def _shorten(folder: int, source: str, file: BinaryIO, keep: int, mode: int) -> None:
    """Replace the file by one with the newest lines."""
    file.seek(0)
    lines = [line for line in file.read().split(b"\n") if line][-keep:]
    temporary = f".{os.fstat(file.fileno()).st_ino}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(temporary, flags, mode, dir_fd=folder), "wb") as shorter:
        shorter.write(b"\n".join(lines) + b"\n")
        shorter.flush()
        os.fsync(shorter.fileno())
    os.rename(temporary, source, src_dir_fd=folder, dst_dir_fd=folder)


def _is_current(folder: int, source: str, file: BinaryIO) -> bool:
    try:
        return same_file(folder, source, file.fileno())
    except FileNotFoundError:
        return False
