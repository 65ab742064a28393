"""The four folders under one root, held open, and their permissions. Blocking.

A path is always one name, relative to an open folder, and no link is followed. So a name cannot lead elsewhere.
"""

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

import structlog

from file_watcher.spool.entry import SpoolEntry
from file_watcher.spool.files import close_to_others
from shared.contracts.errors import FatalError

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

FOLDERS: Final = ("inbox", "work", "done", "failed")

_FOLDER_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OTHERS_LIST: Final = 0o004
_OTHERS_WRITE: Final = 0o002
_OTHERS: Final = 0o007


class OpenFolders:
    """The four folders, and those of the sources in them."""

    def __init__(self, root: Path, *, umask: int) -> None:
        """Create what is missing, and take from other users the permissions in `umask`.

        Raises:
            FatalError: the folders cannot be created or opened.
        """
        self.root = root
        self.umask = umask
        try:
            root.mkdir(mode=self._folder_mode, parents=True, exist_ok=True)
            self._descriptors = {name: self._open(name) for name in FOLDERS}
        except OSError as error:
            raise FatalError(f"cannot use the folders of ETLPAY_FILES_ROOT: {error.strerror}") from error
        for name in ("work", "done", "failed"):
            close_to_others(self._descriptors[name], umask)
        _close_inbox(self._descriptors["inbox"], umask)
        _keep_access(self._descriptors["inbox"])

    def close(self) -> None:
        """Close the folders."""
        for descriptor in self._descriptors.values():
            os.close(descriptor)

    def usable(self) -> bool:
        """Return True while files can be moved out of the inbox and into the other folders."""
        mode = os.R_OK | os.W_OK | os.X_OK
        return all(os.access(".", mode, dir_fd=descriptor) for descriptor in self._descriptors.values())

    def check_in_place(self) -> None:
        """Raise FatalError where a folder was removed, or another put in its place."""
        for name, descriptor in self._descriptors.items():
            ours = os.fstat(descriptor)
            try:
                there = (self.root / name).lstat()
            except FileNotFoundError:
                there = None
            if there is None or (there.st_dev, there.st_ino) != (ours.st_dev, ours.st_ino):
                raise FatalError(f"the folder {name}/ was removed or replaced; a new start makes it again")

    @contextmanager
    def opened(self, folder: str, source: str, *, create: bool = False) -> Iterator[int]:
        """Give the open folder of a source; `create`: make it where it is missing. Raises OSError."""
        if not source:
            yield self._descriptors[folder]
            return
        if create:
            self._make(source, self._descriptors[folder])
        descriptor = os.open(source, _FOLDER_FLAGS, dir_fd=self._descriptors[folder])
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def create(self, folder: str, source: str, name: str) -> BinaryIO:
        """Open an empty file. Raises OSError."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        with self.opened(folder, source, create=True) as descriptor:
            return os.fdopen(os.open(name, flags, self.file_mode, dir_fd=descriptor), "wb")

    def list(self, folder: str) -> Iterator[tuple[str, os.DirEntry[str], int]]:
        """Yield what is in the folders of the sources, and beside them: source, entry and the open folder.

        A hidden folder belongs to no source.
        """
        with os.scandir(self._descriptors[folder]) as entries:
            for entry in entries:
                if not entry.is_dir(follow_symlinks=False):
                    yield "", entry, self._descriptors[folder]
                elif not entry.name.startswith("."):
                    yield from self._list_source(folder, entry.name)

    def status(self, entry: SpoolEntry) -> os.stat_result | None:
        """Return the status of a file, or None where it is gone. Raises OSError."""
        path = os.path.join(entry.source, entry.file)  # noqa: PTH118 - names are not always text that a Path keeps
        try:
            return os.stat(path, dir_fd=self._descriptors[entry.folder], follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return None

    @property
    def file_mode(self) -> int:
        """The permissions of the files that we make."""
        return 0o666 & ~self.umask

    @property
    def _folder_mode(self) -> int:
        return 0o777 & ~self.umask

    def _open(self, name: str) -> int:
        folder = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._make(name, folder)
            return os.open(name, _FOLDER_FLAGS, dir_fd=folder)
        finally:
            os.close(folder)

    def _make(self, name: str, folder: int) -> None:
        try:
            os.mkdir(name, self._folder_mode, dir_fd=folder)
        except FileExistsError:
            return
        # The umask of the process may have taken more than ours does.
        os.chmod(name, self._folder_mode, dir_fd=folder)
        os.fsync(folder)

    def _list_source(self, folder: str, source: str) -> Iterator[tuple[str, os.DirEntry[str], int]]:
        with (
            suppress(FileNotFoundError, NotADirectoryError),
            self.opened(folder, source) as descriptor,
            os.scandir(descriptor) as entries,
        ):
            for entry in entries:
                yield source, entry, descriptor


def _close_inbox(inbox: int, umask: int) -> None:
    """Close the inbox to other users, unless they drop files and have no other access."""
    mode = os.fstat(inbox).st_mode
    if not mode & umask & _OTHERS:
        return
    if mode & _OTHERS_WRITE or _others_have_folders(inbox):
        # They set the permissions of their own folders. They need not list all sources.
        close_to_others(inbox, umask & _OTHERS_LIST)
        log.warning("other users drop files into the inbox, so it stays open to them; give them a group instead")
    else:
        close_to_others(inbox, umask)


def _others_have_folders(inbox: int) -> bool:
    known = (0, os.geteuid())
    with os.scandir(inbox) as entries:
        folders = (entry.stat(follow_symlinks=False) for entry in entries if entry.is_dir(follow_symlinks=False))
        return any(folder.st_uid not in known or folder.st_mode & _OTHERS_WRITE for folder in folders)


_ACL_NAME: Final = "system.posix_acl_default"
_ACL_VERSION: Final = 2
_ACL_USER_OBJ, _ACL_USER, _ACL_GROUP_OBJ, _ACL_MASK, _ACL_OTHER = 0x01, 0x02, 0x04, 0x10, 0x20
_ACL_NOBODY: Final = 0xFFFFFFFF


def _keep_access(inbox: int) -> None:
    """Let us move files out of folders that other users make in the inbox, such as root on a container's host.

    Sets a default access control list, where the inbox is ours and the file system has such lists.
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
