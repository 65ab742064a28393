"""Claims: a file moves from inbox/ to work/, and in the end to done/ or failed/, always by one atomic rename. Blocking.

A claim is an advisory lock (`flock`) on the open file, taken before the first rename and kept until the last. The
kernel drops it with its process, so of several watchers exactly one holds a file, and the files of a dead one can be
taken over.

Names are data: every path is one name, opened relative to a folder that is held open, and no link is followed.
"""

import errno
import fcntl
import heapq
import os
import stat
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple, Self

from file_watcher.renaming import REJECTS_SUFFIX, candidates, exists, moved
from shared.contracts.errors import FatalError

_FOLDERS: Final = ("inbox", "work", "done", "failed")
_FOLDER_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Without O_NONBLOCK, opening a pipe that somebody put into the inbox would wait for its writer.
_FILE_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_STILL_WRITTEN: Final = (".tmp", ".part")
_UNSETTLED_MAX: Final = 100_000


class Stamp(NamedTuple):
    """What changes when somebody writes to a file."""

    inode: int
    bytes: int
    modified_ns: int


class Place(NamedTuple):
    """Where a file lies. `source` is the name of its folder; empty: it lies in none."""

    folder: str
    source: str
    file: str


class Found(NamedTuple):
    """A file that waits to be taken."""

    modified_ns: int
    place: Place


class Scan(NamedTuple):
    """What a look at the folders found: files to take, oldest first, and when the next of the others may be settled."""

    found: list[Found]
    settled_in_seconds: float | None


class NotAFileError(Exception):
    """What lies in the inbox is a link, a pipe, a device or a folder."""


class Claimed:
    """A file in work/ that is ours until `close`."""

    def __init__(self, file: BinaryIO, source: str, name: str) -> None:
        """`name` is what the file is called in work/."""
        self.file = file
        self.source = source
        self.name = name

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

    def close(self) -> None:
        """Give up the claim."""
        self.file.close()


class Folders:
    """The four folders under one root."""

    def __init__(self, root: Path, *, settle_seconds: float, found_max: int) -> None:
        """Create what is missing.

        Raises:
            FatalError: the folders cannot be created or opened.
        """
        self._settle_ns = int(settle_seconds * 1e9)
        self._found_max = found_max
        self._unsettled: dict[Place, tuple[int, int]] = {}
        self._root = root
        try:
            for name in _FOLDERS:
                (root / name).mkdir(parents=True, exist_ok=True)
            self._descriptors = {name: os.open(root / name, _FOLDER_FLAGS) for name in _FOLDERS}
        except OSError as error:
            raise FatalError(f"cannot use the folders of ETLPAY_FILES_ROOT: {error.strerror}") from error
        _keep_access(self._descriptors["inbox"])

    @property
    def inbox(self) -> Path:
        """The folder that files are dropped into."""
        return self._root / "inbox"

    def close(self) -> None:
        """Close the folders."""
        for descriptor in self._descriptors.values():
            os.close(descriptor)

    def usable(self) -> bool:
        """Return True while files can be moved out of the inbox and into the other folders."""
        mode = os.R_OK | os.W_OK | os.X_OK
        return all(os.access(".", mode, dir_fd=descriptor) for descriptor in self._descriptors.values())

    def scan(self) -> Scan:
        """Look at inbox/ and work/. What is in work/ and nobody's any more is taken up again.

        Raises:
            OSError: a folder cannot be read.
            FatalError: a folder was removed, or another put in its place.
        """
        self._check_in_place()
        now_ns = time.time_ns()
        waits: list[int] = []
        unsettled: dict[Place, tuple[int, int]] = {}

        def settled() -> Iterator[Found]:
            yield from self._list("work")
            for found in self._list("inbox"):
                wait_ns = self._wait_ns(found, now_ns, unsettled)
                if wait_ns > 0:
                    waits.append(wait_ns)
                else:
                    yield found

        found = heapq.nsmallest(self._found_max, settled())
        self._unsettled = unsettled
        return Scan(found, min(waits) / 1e9 if waits else None)

    def claim(self, place: Place) -> Claimed | None:
        """Take the file, or return None: it is gone, another watcher has it, or its producer is still writing.

        Raises:
            NotAFileError: it is no regular file.
            OSError: it cannot be opened or moved.
        """
        with self._folder(place.folder, place.source) as folder:
            file = _open_locked(folder, place.file)
            if file is None:
                return None
            try:
                if place.folder == "work":
                    return Claimed(file, place.source, place.file)
                if _being_written(file):
                    file.close()
                    return None
                name = self._move(folder, place.file, "work", place.source)
                return Claimed(file, place.source, name)
            except BaseException:
                file.close()
                raise

    def put_aside(self, place: Place) -> str:
        """Move whatever lies there to failed/ without opening it; return its name there. Raises OSError."""
        with self._folder(place.folder, place.source) as folder:
            return self._move(folder, place.file, "failed", place.source)

    def create_rejects(self, claimed: Claimed) -> BinaryIO:
        """Open an empty file for the rejected rows of a claimed file."""
        return self._create("work", claimed.source, claimed.rejects_name)

    def write_reason(self, source: str, name: str, content: bytes) -> None:
        """Write the rejects file of something in failed/ that could not be read at all."""
        with self._create("failed", source, name + REJECTS_SUFFIX) as rejects:
            rejects.write(content)

    def finish(self, claimed: Claimed, ended: str) -> str:
        """Move a claimed file, after its rejects where there are some, to done/ or failed/; return its name there."""
        with self._folder("work", claimed.source) as folder, self._folder(ended, claimed.source, create=True) as target:
            rejected = exists(folder, claimed.rejects_name)
            for name in candidates(claimed.name):
                if exists(target, name):
                    continue
                # First the rejects: should the process end here, the file is still in work/ and is read again.
                if rejected and not moved(folder, claimed.rejects_name, target, name + REJECTS_SUFFIX):
                    continue
                if moved(folder, claimed.name, target, name):
                    return name
                rejected = False
        raise AssertionError("there is always a free name")

    def _check_in_place(self) -> None:
        for name, descriptor in self._descriptors.items():
            ours = os.fstat(descriptor)
            try:
                there = (self._root / name).lstat()
            except FileNotFoundError:
                there = None
            if there is None or (there.st_dev, there.st_ino) != (ours.st_dev, ours.st_ino):
                raise FatalError(f"the folder {name}/ was removed or replaced; a new start makes it again")

    @contextmanager
    def _folder(self, folder: str, source: str, *, create: bool = False) -> Iterator[int]:
        if not source:
            yield self._descriptors[folder]
            return
        if create:
            with suppress(FileExistsError):
                os.mkdir(source, dir_fd=self._descriptors[folder])
        descriptor = os.open(source, _FOLDER_FLAGS, dir_fd=self._descriptors[folder])
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _create(self, folder: str, source: str, name: str) -> BinaryIO:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        with self._folder(folder, source, create=True) as descriptor:
            return os.fdopen(os.open(name, flags, 0o644, dir_fd=descriptor), "wb")

    def _move(self, folder: int, name: str, to: str, source: str) -> str:
        with self._folder(to, source, create=True) as target:
            return next(free for free in candidates(name) if moved(folder, name, target, free))

    def _list(self, folder: str) -> Iterator[Found]:
        """Yield what lies in the folders of the sources, and beside them."""
        for entry in _entries(self._descriptors[folder]):
            if not entry.is_dir(follow_symlinks=False):
                yield from _found(entry, folder, "")
                continue
            try:
                with self._folder(folder, entry.name) as descriptor:
                    for inner in _entries(descriptor):
                        yield from _found(inner, folder, entry.name)
            except (FileNotFoundError, NotADirectoryError):
                continue

    def _wait_ns(self, found: Found, now_ns: int, unsettled: dict[Place, tuple[int, int]]) -> int:
        """Return how long the file must stay as it is before it may be taken."""
        age_ns = now_ns - found.modified_ns
        if age_ns >= self._settle_ns:
            return 0
        if age_ns >= 0:
            return self._settle_ns - age_ns
        # Its clock is ahead of ours, so only watching tells.
        return self._watched_ns(found, unsettled)

    def _watched_ns(self, found: Found, unsettled: dict[Place, tuple[int, int]]) -> int:
        modified_ns, since_ns = self._unsettled.get(found.place, (0, 0))
        if modified_ns != found.modified_ns:
            since_ns = time.monotonic_ns()
        if len(unsettled) < _UNSETTLED_MAX:
            unsettled[found.place] = (found.modified_ns, since_ns)
        return self._settle_ns - (time.monotonic_ns() - since_ns)

    def __enter__(self) -> Self:
        """Use the folders for a while."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close them."""
        self.close()


def _entries(descriptor: int) -> Iterator[os.DirEntry[str]]:
    with os.scandir(descriptor) as entries:
        for entry in entries:
            if not entry.name.startswith(".") and not entry.name.lower().endswith(_STILL_WRITTEN):
                yield entry


def _found(entry: os.DirEntry[str], folder: str, source: str) -> Iterator[Found]:
    with suppress(FileNotFoundError):
        yield Found(entry.stat(follow_symlinks=False).st_mtime_ns, Place(folder, source, entry.name))


def _open_locked(folder: int, name: str) -> BinaryIO | None:
    """Open and lock a regular file, or return None where it is gone or locked.

    Raises:
        NotAFileError: it is something else.
    """
    try:
        descriptor = os.open(name, _FILE_FLAGS, dir_fd=folder)
    except FileNotFoundError:
        return None
    except OSError as error:
        # ELOOP: a link. ENXIO: a socket, or a device without a driver.
        if error.errno in (errno.ELOOP, errno.ENXIO):
            raise NotAFileError from error
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NotAFileError
    file = os.fdopen(descriptor, "rb", buffering=0)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # While we waited for the lock, its holder may have moved the file on.
        if os.stat(name, dir_fd=folder, follow_symlinks=False).st_ino == os.fstat(descriptor).st_ino:
            return file
    except (BlockingIOError, FileNotFoundError):
        pass
    except BaseException:
        file.close()
        raise
    file.close()
    return None


def _being_written(file: BinaryIO) -> bool:
    """Return True where the kernel knows of a writer: a read lease is refused while the file is open for writing.

    It only answers for files of our own user, or to a privileged process; elsewhere the settle time must do.
    """
    try:
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        return error.errno == errno.EAGAIN
    fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False


def stamp_of(status: os.stat_result) -> Stamp:
    """Return the stamp of a file whose status is given."""
    return Stamp(status.st_ino, status.st_size, status.st_mtime_ns)


_ACL_NAME: Final = "system.posix_acl_default"
_ACL_VERSION: Final = 2
_ACL_USER_OBJ, _ACL_USER, _ACL_GROUP_OBJ, _ACL_MASK, _ACL_OTHER = 0x01, 0x02, 0x04, 0x10, 0x20
_ACL_NOBODY: Final = 0xFFFFFFFF


def _keep_access(inbox: int) -> None:
    """Let us move files out of folders that other users will make in the inbox, such as root on a container's host.

    A default access control list, where the inbox is ours and the file system has them.
    """
    status = os.fstat(inbox)
    mode = status.st_mode
    entries = (
        (_ACL_USER_OBJ, mode >> 6 & 7, _ACL_NOBODY),
        (_ACL_USER, 7, os.geteuid()),
        (_ACL_GROUP_OBJ, mode >> 3 & 7, _ACL_NOBODY),
        (_ACL_MASK, 7, _ACL_NOBODY),
        (_ACL_OTHER, mode & 7, _ACL_NOBODY),
    )
    value = struct.pack("<I", _ACL_VERSION) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    if status.st_uid == os.geteuid():
        with suppress(OSError):
            os.setxattr(inbox, _ACL_NAME, value)
