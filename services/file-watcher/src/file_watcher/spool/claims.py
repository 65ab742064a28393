"""Claimed files, and the claim note on each: which part of its content is being read or was confirmed. Blocking.

The note is a hidden file beside the file in work/. It is on the disk before the first row is published. So the keys of
rows survive the watcher: the next one gives each row the same key.
"""

import errno
import fcntl
import os
from contextlib import suppress
from datetime import UTC, datetime
from typing import BinaryIO, Final, Self

import msgspec

from file_watcher.spool.entry import FileVersion, SpoolEntry, version_of
from file_watcher.spool.files import REJECTS_SUFFIX, LockedFile, same_file
from shared.files.content import Extent

_FLAGS: Final = os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
# A note gets a line each time that its file has grown or was changed. The last one counts.
_READ_BYTES_MAX: Final = 64 * 1024
_UNFINISHED: Final = ".new"


class Confirmed(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An extent whose rows are all confirmed or rejected: number and digest of the last row, and how many events.

    `rows` is the last line of the last row, or the number of the last element. `tail` is empty where nothing of the
    last row was taken.
    """

    extent: Extent
    rows: int
    events: int
    tail: str = ""


class Marker(msgspec.Struct, frozen=True):
    """The file that marks another one as complete; it is removed when that one is claimed."""

    name: str
    inode: int


class ClaimNote(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is known of a claimed file. An empty note: no row of it was published.

    `reading` is what is being read, `confirmed` what was confirmed before the file grew, `taken_back` how often it was
    taken back out of done/ or failed/. `file_at` is when it was claimed; None: code that kept no moment has claimed it.
    """

    reading: Extent | None = None
    confirmed: Confirmed | None = None
    taken_back: int = 0
    marker: Marker | None = None
    file_at: datetime | None = None


_decode = msgspec.json.Decoder(ClaimNote).decode


def note_name(name: str) -> str:
    """Return the name of the note on a file."""
    return f".{name}.claim"


def noted_file(name: str) -> str | None:
    """Return the name of the file that a note of this name is for; empty: it was never completed; None: no note."""
    if name.startswith(".") and name.endswith(f".claim{_UNFINISHED}"):
        return ""
    return name[1:].removesuffix(".claim") if name.startswith(".") and name.endswith(".claim") else None


class NoteFile:
    """An open and locked note. No other watcher uses it, whether its file exists or not."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        """`name` is that of the note."""
        self._file = file
        self.name = name
        self.value = _last(file)

    @classmethod
    def open(cls, folder: int, name: str, *, mode: int | None = None) -> Self | None:
        """Open the note called `name`; `mode`: create a missing one. Return None where it is missing or locked."""
        try:
            descriptor = os.open(name, _FLAGS | (0 if mode is None else os.O_CREAT), mode or 0, dir_fd=folder)
        except FileNotFoundError:
            return None
        file = os.fdopen(descriptor, "r+b", buffering=0)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if same_file(folder, name, descriptor):
                return cls(file, name)
        except (BlockingIOError, FileNotFoundError):
            pass
        except BaseException:
            file.close()
            raise
        file.close()
        return None

    @classmethod
    def create(cls, folder: int, name: str, value: ClaimNote, *, mode: int) -> Self:
        """Create a note that never exists without `value`. Raises OSError."""
        note = cls.open(folder, name + _UNFINISHED, mode=mode)
        if note is None:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        try:
            note.clear()
            note.write(value)
            os.rename(note.name, name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            note.close()
            raise
        note.name = name
        return note

    def write(self, value: ClaimNote, *, durable: bool = True) -> None:
        """Write it, where `durable` to the disk; until then the value before stays readable. Raises OSError."""
        # The line feed before it ends a line that a crash cut off.
        self._file.write(b"\n%b\n" % msgspec.json.encode(value))
        if durable:
            os.fsync(self._file.fileno())
        self.value = value

    @property
    def written_at(self) -> datetime:
        """When it was written last, by the clock of the file system."""
        return datetime.fromtimestamp(os.fstat(self._file.fileno()).st_mtime, UTC)

    def clear(self) -> None:
        """Remove the values of an earlier file. Raises OSError."""
        os.ftruncate(self._file.fileno(), 0)
        self.value = ClaimNote()

    def remove(self, folder: int) -> None:
        """Delete it."""
        with suppress(FileNotFoundError):
            os.unlink(self.name, dir_fd=folder)

    def close(self) -> None:
        """Close and unlock it."""
        self._file.close()


def _last(file: BinaryIO) -> ClaimNote:
    """Return the last complete line."""
    file.seek(max(0, file.seek(0, os.SEEK_END) - _READ_BYTES_MAX))
    for line in reversed(file.read(_READ_BYTES_MAX).split(b"\n")):
        if line:
            with suppress(msgspec.DecodeError):
                return _decode(line)
    return ClaimNote()


class ClaimedFile:
    """A file in work/ with our lock on it, until `close`."""

    def __init__(self, locked: LockedFile, note: NoteFile | None, source: str, name: str) -> None:
        """`name` is its name in work/. Without a note it was claimed by code that wrote none."""
        self._locked = locked
        self._note = note
        self.source = source
        self.name = name

    @property
    def file(self) -> BinaryIO:
        """The open file."""
        return self._locked.file

    @property
    def note(self) -> ClaimNote | None:
        """The note's value; None: code that wrote no notes has claimed the file."""
        return self._note.value if self._note else None

    @property
    def file_at(self) -> datetime:
        """When it was claimed. Code that kept no moment: when the note was written; without one, when it was moved."""
        if self._note is None:
            return datetime.fromtimestamp(os.fstat(self.file.fileno()).st_ctime, UTC)
        return self._note.value.file_at or self._note.written_at

    @property
    def entry(self) -> SpoolEntry:
        """Where the file is until it is finished."""
        return SpoolEntry("work", self.source, self.name)

    @property
    def rejects_name(self) -> str:
        """The name of its rejects in work/; hidden, so no scan takes them for a file."""
        return f".{self.name}{REJECTS_SUFFIX}"

    def version(self) -> FileVersion:
        """Return the file's present stamp."""
        return version_of(os.fstat(self.file.fileno()))

    def write_note(self, folder: int, value: ClaimNote, *, mode: int) -> None:
        """Write the note and the file's entry in `folder` to the disk. Raises OSError."""
        if self._note:
            self._note.write(value)
        else:
            self._note = NoteFile.create(folder, note_name(self.name), value, mode=mode)
        os.fsync(folder)

    def remove_note(self, folder: int) -> None:
        """Delete the note, where there is one."""
        if self._note:
            self._note.remove(folder)

    def close(self) -> None:
        """Release the claim."""
        if self._note:
            self._note.close()
        self._locked.close()
