"""Claimed files and the note on each: which part of its content is being read, and which was confirmed. Blocking.

The note lies beside the file in work/, hidden, and is on the disk before the first row is published under what it says.
So the keys of rows outlive their watcher: whoever reads the file next gives each row the key that it had.
"""

import errno
import fcntl
import os
from contextlib import suppress
from typing import BinaryIO, Final, Self

import msgspec

from file_watcher.spool.entry import FileVersion, SpoolEntry, version_of
from file_watcher.spool.files import REJECTS_SUFFIX, LockedFile, same_file

_FLAGS: Final = os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
# A note has a line for each time that its file had grown or was changed; the last one counts.
_READ_BYTES_MAX: Final = 64 * 1024
_UNFINISHED: Final = ".new"


class Extent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The first `bytes` bytes of a file's unpacked content; their hash names the rows that have no id of their own.

    `digest` is 32 hexadecimal digits. `file_bytes` is the size that the file had, `fault` why the content cannot be
    read any further. `packed`: the hash is that of the file as it is stored, and the keys are those of producers'
    name space, as before there were notes; `bytes` counts accordingly.
    """

    bytes: int
    digest: str
    file_bytes: int
    fault: str = ""
    packed: bool = False


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
    """The file whose presence in the inbox said that another one is whole; it goes when that one was claimed."""

    name: str
    inode: int


class ClaimNote(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is known of a claimed file. Nothing: it was claimed, and no row of it was published.

    `reading` is what is being read, `confirmed` what was read before the file grew, `taken_back` how often it came back
    out of done/ or failed/.
    """

    reading: Extent | None = None
    confirmed: Confirmed | None = None
    taken_back: int = 0
    marker: Marker | None = None


_decode = msgspec.json.Decoder(ClaimNote).decode


def note_name(name: str) -> str:
    """Return the name of the note on a file."""
    return f".{name}.claim"


def noted_file(name: str) -> str | None:
    """Return the name of the file that a note of this name is on; empty: it was never put in place; None: no note."""
    if name.startswith(".") and name.endswith(f".claim{_UNFINISHED}"):
        return ""
    return name[1:].removesuffix(".claim") if name.startswith(".") and name.endswith(".claim") else None


class NoteFile:
    """A note that is open and locked: as long as it is, no other watcher uses it, whether its file is there or not."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        """`name` is that of the note."""
        self._file = file
        self.name = name
        self.value = _last(file)

    @classmethod
    def open(cls, folder: int, name: str, *, mode: int | None = None) -> Self | None:
        """Open the note called `name`; `mode`: make it where it is missing. None: it is missing, or another's."""
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
        """Make a note that is never there without `value`. Raises OSError."""
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

    def write(self, value: ClaimNote) -> None:
        """Write it to the disk. What was there before stays readable until the new is. Raises OSError."""
        # The line feed before it ends a line that a crash has torn.
        self._file.write(b"\n%b\n" % msgspec.json.encode(value))
        os.fsync(self._file.fileno())
        self.value = value

    def clear(self) -> None:
        """Forget what was written about a file that is not there any more. Raises OSError."""
        os.ftruncate(self._file.fileno(), 0)
        self.value = ClaimNote()

    def remove(self, folder: int) -> None:
        """Delete it."""
        with suppress(FileNotFoundError):
            os.unlink(self.name, dir_fd=folder)

    def close(self) -> None:
        """Let others have it."""
        self._file.close()


def _last(file: BinaryIO) -> ClaimNote:
    """Return the last line that is whole."""
    file.seek(max(0, file.seek(0, os.SEEK_END) - _READ_BYTES_MAX))
    for line in reversed(file.read(_READ_BYTES_MAX).split(b"\n")):
        if line:
            with suppress(msgspec.DecodeError):
                return _decode(line)
    return ClaimNote()


class ClaimedFile:
    """A file in work/ that is ours until `close`."""

    def __init__(self, locked: LockedFile, note: NoteFile | None, source: str, name: str) -> None:
        """`name` is what the file is called in work/. Without a note it was claimed by code that wrote none."""
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
        """What is known of it, or None: it was claimed by the code before there were notes."""
        return self._note.value if self._note else None

    @property
    def entry(self) -> SpoolEntry:
        """Where the file lies until it is finished."""
        return SpoolEntry("work", self.source, self.name)

    @property
    def rejects_name(self) -> str:
        """The name of the rejects while they are being written; hidden, so never taken for a file."""
        return f".{self.name}{REJECTS_SUFFIX}"

    def version(self) -> FileVersion:
        """Return the file's present stamp."""
        return version_of(os.fstat(self.file.fileno()))

    def write_note(self, folder: int, value: ClaimNote, *, mode: int) -> None:
        """Have the note, and the file's place in `folder`, on the disk. Raises OSError."""
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
        """Give up the claim."""
        if self._note:
            self._note.close()
        self._locked.close()
