"""Opening, locking and renaming files that others wrote: regular files only, no link is followed. Blocking."""

import ctypes
import errno
import fcntl
import itertools
import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import BinaryIO, Final

# Without O_NONBLOCK, opening a pipe in the inbox would wait for its writer.
_FLAGS: Final = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

Flock = Callable[[int, int], None]
"""What `fcntl.flock` does."""


class NotAFileError(Exception):
    """It is a link, a pipe, a device or a folder, and no regular file."""


class LockedFile:
    """An open file with our lock on it."""

    def __init__(self, file: BinaryIO, lock: int | None) -> None:
        """`lock` is the descriptor that holds the lock; None: the file's own."""
        self.file = file
        self._lock = lock

    def close(self) -> None:
        """Close the file and release the lock."""
        self.file.close()
        if self._lock is not None:
            os.close(self._lock)


def open_locked(folder: int, name: str, *, flock: Flock = fcntl.flock) -> LockedFile | None:
    """Open and lock a regular file, or return None where it is gone or locked.

    Raises:
        NotAFileError: it is something else.
        OSError: it cannot be opened, or, on NFS, not written to: a lock there needs a file that is open for writing.
    """
    file = _open_regular(folder, name)
    if file is None:
        return None
    locked = LockedFile(file, None)
    try:
        try:
            flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno != errno.EBADF:
                raise
            locked = _locked_for_writing(folder, name, file, flock)
        # The holder of the lock may have moved the file before it released it.
        if same_file(folder, name, file.fileno()):
            return locked
    except (BlockingIOError, FileNotFoundError):
        pass
    except BaseException:
        locked.close()
        raise
    locked.close()
    return None


def same_file(folder: int, name: str, descriptor: int) -> bool:
    """Return True where `name` is still the file that is open. Raises FileNotFoundError."""
    there, ours = os.stat(name, dir_fd=folder, follow_symlinks=False), os.fstat(descriptor)
    return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)


def being_written(folder: int, name: str) -> bool:
    """Return True where the kernel knows of a writer: it refuses a read lease while a file is open for writing.

    The kernel gives leases on files of our own user only, or to a privileged process. For other files only the settle
    time helps. The process must ignore SIGIO: a writer that opens the file during the lease sends it, and it would end
    the process.

    Raises:
        NotAFileError: it is no regular file.
        OSError: it cannot be opened.
    """
    file = _open_regular(folder, name)
    if file is None:
        return False
    with file:
        try:
            fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        except OSError as error:
            return error.errno == errno.EAGAIN
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False


def _locked_for_writing(folder: int, name: str, file: BinaryIO, flock: Flock) -> LockedFile:
    """Lock through a descriptor that may write, as NFS requires; nothing is written."""
    descriptor = os.open(name, os.O_RDWR | _FLAGS, dir_fd=folder)
    try:
        flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(descriptor)
        raise
    return LockedFile(file, descriptor)


def _open_regular(folder: int, name: str) -> BinaryIO | None:
    try:
        descriptor = os.open(name, os.O_RDONLY | _FLAGS, dir_fd=folder)
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
    return os.fdopen(descriptor, "rb", buffering=0)


def close_to_others(descriptor: int, umask: int) -> None:
    """Take the permissions in `umask` from other users, where the file or folder is ours."""
    mode = os.fstat(descriptor).st_mode & 0o7777
    if mode & umask & 0o007:
        with suppress(PermissionError):
            os.fchmod(descriptor, mode & ~(umask & 0o007))


REJECTS_SUFFIX: Final = ".rejects.ndjson"

_EXTENSIONS: Final = re.compile(r"(?:\.(?:json|ndjson|jsonl|csv))?(?:\.(?:gz|zst))?\Z", re.IGNORECASE)
# The name of its rejects must fit too; in work/ that has a leading dot.
_NAME_BYTES_MAX: Final = 255 - len(f".{REJECTS_SUFFIX}")
_RENAME_NOREPLACE: Final = 1

# The standard library has no rename that refuses to replace.
_libc = ctypes.CDLL(None, use_errno=True)


def candidates(name: str) -> Iterator[str]:
    """Yield `name.csv.gz`, then `name~2.csv.gz`, `name~3.csv.gz` and so on, until one is free."""
    extensions = _EXTENSIONS.search(name)
    end = extensions.start() if extensions else len(name)
    yield _fitting(name[:end], name[end:])
    for number in itertools.count(2):
        yield _fitting(name[:end], f"~{number}{name[end:]}")


def _fitting(name: str, suffix: str) -> str:
    """Return `name` and `suffix`, with `name` cut to what a file system allows."""
    bytes_max = _NAME_BYTES_MAX - len(os.fsencode(suffix))
    return os.fsdecode(os.fsencode(name)[:bytes_max]) + suffix


def exists(folder: int, name: str) -> bool:
    """Return True where anything has this name."""
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def moved(folder: int, name: str, target: int, new_name: str) -> bool:
    """Rename, or return False where the new name is taken."""
    try:
        _rename(folder, name, target, new_name)
    except FileExistsError:
        return False
    return True


def _rename(folder: int, name: str, target: int, new_name: str) -> None:
    """Rename atomically. Raises FileExistsError where the new name is taken."""
    code = _libc.renameat2(folder, os.fsencode(name), target, os.fsencode(new_name), _RENAME_NOREPLACE)
    number = ctypes.get_errno() if code else 0
    if number in (errno.EINVAL, errno.ENOSYS):
        # This file system has no such rename. Two watchers could choose the same name at the same time.
        if exists(target, new_name):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        os.rename(name, new_name, src_dir_fd=folder, dst_dir_fd=target)
    elif number:
        raise OSError(number, os.strerror(number))
