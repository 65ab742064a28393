"""Claims: a file moves from inbox/ to work/, and then to done/ or failed/, each time by one atomic rename. Blocking.

A claim is an advisory lock (`flock`) on the open file. It is taken before the first rename and kept until the last. The
kernel releases it when the process ends. So exactly one of several watchers holds a file, and another one can take over
the files of a dead watcher. A claimed file has a note beside it: see `claims`.
"""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple, Self

from file_watcher.spool.claims import ClaimedFile, ClaimNote, Confirmed, Marker, NoteFile, note_name, noted_file
from file_watcher.spool.entry import FileVersion, SpoolEntry, version_of
from file_watcher.spool.files import (
    REJECTS_SUFFIX,
    LockedFile,
    being_written,
    candidates,
    close_to_others,
    exists,
    moved,
    open_locked,
    same_file,
)
from file_watcher.spool.finished import Finished, FinishedFiles, quoted
from file_watcher.spool.folders import OpenFolders
from file_watcher.spool.scanning import CommonOptions, OptionsOf, Scan, ScanLimits, Scanner
from shared.failpoints import failpoint

_COMMON: Final = CommonOptions()


class Moved(NamedTuple):
    """The name of a finished file, and its entry in the list of finished files."""

    name: str
    finished: Finished | None


class SpoolDirectory:
    """The four folders under one root, and the files that move between them."""

    def __init__(
        self,
        root: Path,
        limits: ScanLimits,
        *,
        umask: int = 0o027,
        remembered_max: int = 5_000,
        options_of: OptionsOf = lambda _: _COMMON,
    ) -> None:
        """Create what is missing; `remembered_max`: finished files that are listed for each source.

        Raises:
            FatalError: the folders cannot be created or opened.
        """
        self._folders = OpenFolders(root, umask=umask)
        self._scanner = Scanner(self._folders, limits, options_of)
        self._options_of = options_of
        self.finished = FinishedFiles(self._folders, files_max=remembered_max)
        self._remove_stale_notes()

    @property
    def inbox(self) -> Path:
        """The folder that files are dropped into."""
        return self._folders.root / "inbox"

    def close(self) -> None:
        """Close the folders."""
        self._folders.close()

    def usable(self) -> bool:
        """Return True while files can be moved out of the inbox and into the other folders."""
        return self._folders.usable()

    def scan(self) -> Scan:
        """See `Scanner.scan`."""
        return self._scanner.scan()

    def claim(self, entry: SpoolEntry, at: datetime) -> ClaimedFile | None:
        """Claim the file, or return None: it is gone, another watcher has it, or its producer is still writing.

        `at` becomes the moment of the file, unless it was claimed before.

        Raises:
            NotAFileError: it is no regular file.
            OSError: it cannot be opened or moved.
        """
        return self._claim(entry, self._claim_again if entry.folder == "work" else partial(self._claim_new, at=at))

    def take_back(self, entry: SpoolEntry, finished: Finished) -> ClaimedFile | None:
        """Move a finished file that has changed back into work/, or return None as `claim` does.

        Raises:
            OSError: it cannot be opened or moved.
        """

        def move(locked: LockedFile, entry: SpoolEntry, folder: int) -> ClaimedFile | None:
            with suppress(FileNotFoundError):
                # The rejects are written again from the beginning.
                os.unlink(entry.file + REJECTS_SUFFIX, dir_fd=folder)
            note = ClaimNote(
                confirmed=finished.confirmed, taken_back=finished.taken_back + 1, file_at=finished.claimed_at
            )
            return self._into_work(locked, entry, folder, note)

        return self._claim(entry, move)

    def put_aside(self, entry: SpoolEntry) -> str:
        """Move it to failed/ without opening it, whatever it is; return its name there. Raises OSError."""
        with (
            self._folders.opened(entry.folder, entry.source) as folder,
            self._folders.opened("failed", entry.source, create=True) as target,
        ):
            return next(free for free in candidates(entry.file) if moved(folder, entry.file, target, free))

    def create_rejects(self, claimed: ClaimedFile) -> BinaryIO:
        """Open an empty file for the rejected rows of a claimed file."""
        return self._folders.create("work", claimed.source, claimed.rejects_name)

    def discard_rejects(self, claimed: ClaimedFile) -> None:
        """Delete the rejects of an earlier reading. Raises OSError."""
        with self._folders.opened("work", claimed.source) as folder, suppress(FileNotFoundError):
            os.unlink(claimed.rejects_name, dir_fd=folder)

    def write_reason(self, source: str, name: str, content: bytes) -> None:
        """Write the rejects file of something in failed/ that could not be read at all."""
        with self._folders.create("failed", source, name + REJECTS_SUFFIX) as rejects:
            rejects.write(content)

    def write_note(self, claimed: ClaimedFile, note: ClaimNote) -> None:
        """Write a claim note to the disk. Raises OSError."""
        with self._folders.opened("work", claimed.source) as folder:
            claimed.write_note(folder, note, mode=self._folders.file_mode)

    def finish(self, claimed: ClaimedFile, ended: str, version: FileVersion, confirmed: Confirmed | None) -> Moved:
        """Move a claimed file, after its rejects, to done/ or failed/.

        What was `confirmed` of it while it had this `stamp` is remembered. Raises OSError.
        """
        with (
            self._folders.opened("work", claimed.source) as folder,
            self._folders.opened(ended, claimed.source, create=True) as target,
        ):
            rejected = exists(folder, claimed.rejects_name)
            for name in candidates(claimed.name):
                if exists(target, name):
                    continue
                finished = _finished(claimed, ended, name, version, confirmed) if confirmed else None
                if finished:
                    self.finished.remember(claimed.source, finished)
                # First the rejects: where the process ends here, the file is still in work/ and is read again.
                if rejected and not moved(folder, claimed.rejects_name, target, name + REJECTS_SUFFIX):
                    continue
                failpoint("file-watcher.remembered")
                if moved(folder, claimed.name, target, name):
                    # After the move: a file in work/ without a note counts as one of the code before. Both change this
                    # folder, so a power cut cannot undo the first alone.
                    claimed.remove_note(folder)
                    return Moved(name, finished)
                rejected = False
        raise AssertionError("there is always a free name")

    def version_at(self, entry: SpoolEntry) -> FileVersion | None:
        """Return the stamp of a file that is not open, or None where it is gone. Raises OSError."""
        status = self._folders.status(entry)
        return None if status is None else version_of(status)

    def _claim(
        self, entry: SpoolEntry, take: Callable[[LockedFile, SpoolEntry, int], ClaimedFile | None]
    ) -> ClaimedFile | None:
        with self._folders.opened(entry.folder, entry.source) as folder:
            if entry.folder != "work" and being_written(folder, entry.file):
                return None
            locked = open_locked(folder, entry.file)
            if locked is None:
                return None
            claimed = None
            try:
                claimed = take(locked, entry, folder)
            finally:
                if claimed is None:
                    locked.close()
        return claimed

    def _claim_again(self, locked: LockedFile, entry: SpoolEntry, folder: int) -> ClaimedFile | None:
        name = note_name(entry.file)
        note = NoteFile.open(folder, name)
        if note is None and exists(folder, name):
            return None
        if note and note.value.marker:
            self._remove_marker(entry.source, note.value.marker)
        return ClaimedFile(locked, note, entry.source, entry.file)

    def _claim_new(self, locked: LockedFile, entry: SpoolEntry, folder: int, *, at: datetime) -> ClaimedFile | None:
        close_to_others(locked.file.fileno(), self._folders.umask)
        suffix = self._options_of(entry.source).marker
        if not suffix:
            return self._into_work(locked, entry, folder, ClaimNote(file_at=at))
        try:
            inode = os.stat(entry.file + suffix, dir_fd=folder, follow_symlinks=False).st_ino
        except FileNotFoundError:
            return None
        marker = Marker(entry.file + suffix, inode)
        claimed = self._into_work(locked, entry, folder, ClaimNote(marker=marker, file_at=at))
        if claimed:
            self._remove_marker(entry.source, marker)
        return claimed

    def _into_work(self, locked: LockedFile, entry: SpoolEntry, folder: int, value: ClaimNote) -> ClaimedFile | None:
        """Write the note, then move the file: one in work/ without a note was claimed by the code before."""
        with self._folders.opened("work", entry.source, create=True) as work:
            for name in candidates(entry.file):
                note = self._new_note(work, name)
                if note is None:
                    continue
                try:
                    # What a power cut may take from a new claim is made again: no row of it was published.
                    durable = bool(value.marker or value.confirmed)
                    note.write(value, durable=durable)
                    if durable:
                        os.fsync(work)
                    failpoint("file-watcher.noted")
                    if moved(folder, entry.file, work, name):
                        if same_file(work, name, locked.file.fileno()):
                            return ClaimedFile(locked, note, entry.source, name)
                        # Another file got this name after we locked ours: the next scan takes it, with this note.
                        note.close()
                        return None
                except FileNotFoundError:
                    note.remove(work)
                    note.close()
                    return None
                except BaseException:
                    note.close()
                    raise
                note.remove(work)
                note.close()
        raise AssertionError("there is always a free name")

    def _new_note(self, work: int, name: str) -> NoteFile | None:
        """Return an empty note for a name, or None where the name is not free in work/."""
        if exists(work, name):
            return None
        is_new = not exists(work, note_name(name))
        note = NoteFile.open(work, note_name(name), mode=self._folders.file_mode)
        if note is None:
            return None
        if not exists(work, name):
            # A crash left it: its file is not there any more.
            note.clear()
            return note
        if is_new:
            note.remove(work)
        note.close()
        return None

    def _remove_marker(self, source: str, marker: Marker) -> None:
        with suppress(FileNotFoundError), self._folders.opened("inbox", source) as folder:
            # The producer may have written the next marker.
            if os.stat(marker.name, dir_fd=folder, follow_symlinks=False).st_ino == marker.inode:
                os.unlink(marker.name, dir_fd=folder)

    def _remove_stale_notes(self) -> None:
        """Delete the notes of files that a watcher moved before it died."""
        for _, entry, folder in self._folders.list("work"):
            name = noted_file(entry.name)
            note = None if name is None else NoteFile.open(folder, entry.name)
            if note:
                if not name or not exists(folder, name):
                    note.remove(folder)
                note.close()

    def __enter__(self) -> Self:
        """Use it for a while."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the folders."""
        self.close()


def _finished(claimed: ClaimedFile, ended: str, name: str, version: FileVersion, confirmed: Confirmed) -> Finished:
    return Finished(
        folder=ended,
        name=quoted(name),
        inode=version.inode,
        bytes=version.bytes,
        modified_ns=version.modified_ns,
        at=time.time(),
        confirmed=confirmed,
        taken_back=claimed.note.taken_back if claimed.note else 0,
        file_at=claimed.file_at,
    )
