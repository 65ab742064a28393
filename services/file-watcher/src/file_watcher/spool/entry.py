"""Where a file of the spool is, and which version of it was read."""

import os
from typing import NamedTuple


class SpoolEntry(NamedTuple):
    """Where a file is. `source` is the name of its folder; empty: it is in none."""

    folder: str
    source: str
    file: str

    @property
    def shown(self) -> dict[str, str]:
        """The entry as the fields of a log line."""
        return {name: printable(value) for name, value in self._asdict().items()}


class FileVersion(NamedTuple):
    """What changes when a process writes to a file."""

    inode: int
    bytes: int
    modified_ns: int


def version_of(status: os.stat_result) -> FileVersion:
    """Return the version of the file with this status."""
    return FileVersion(status.st_ino, status.st_size, status.st_mtime_ns)


def printable(name: str) -> str:
    """Return a file's name, which may be any bytes, as printable text."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape", "surrogatepass").decode()
        for character in name
    )
