"""A file in work/ that is ours, and the note on it. Blocking."""

import os
from typing import BinaryIO

from file_watcher.folders import Place, Stamp, stamp_of
from file_watcher.locking import LockedFile
from file_watcher.notes import ClaimNote, NoteFile, note_name
from file_watcher.renaming import REJECTS_SUFFIX


class Claimed:
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
    def place(self) -> Place:
        """Where the file lies until it is finished."""
        return Place("work", self.source, self.name)

    @property
    def rejects_name(self) -> str:
        """The name of the rejects while they are being written; hidden, so never taken for a file."""
        return f".{self.name}{REJECTS_SUFFIX}"

    def stamp(self) -> Stamp:
        """Return the file's present stamp."""
        return stamp_of(os.fstat(self.file.fileno()))

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
