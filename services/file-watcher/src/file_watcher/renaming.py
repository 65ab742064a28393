"""Renaming without ever replacing: names that may be free, and moves that fail where one is not. Blocking."""

import ctypes
import errno
import itertools
import os
import re
from collections.abc import Iterator
from typing import Final

REJECTS_SUFFIX: Final = ".rejects.ndjson"

_EXTENSIONS: Final = re.compile(r"(?:\.(?:json|ndjson|jsonl|csv))?(?:\.(?:gz|zst))?\Z", re.IGNORECASE)
# With room for the name of its rejects, which in work/ is hidden by one more character.
_NAME_BYTES_MAX: Final = 255 - len(f".{REJECTS_SUFFIX}")
_RENAME_NOREPLACE: Final = 1

# The standard library has no rename that refuses to replace.
_libc = ctypes.CDLL(None, use_errno=True)


def candidates(name: str) -> Iterator[str]:
    """Yield `name.csv.gz`, then `name~2.csv.gz`, `name~3.csv.gz` ... for a name that may be taken."""
    extensions = _EXTENSIONS.search(name)
    end = extensions.start() if extensions else len(name)
    yield _fitting(name[:end], name[end:])
    for number in itertools.count(2):
        yield _fitting(name[:end], f"~{number}{name[end:]}")


def _fitting(name: str, suffix: str) -> str:
    """Return `name` and `suffix` together, with the name cut so that a file system takes it."""
    room = _NAME_BYTES_MAX - len(os.fsencode(suffix))
    return os.fsdecode(os.fsencode(name)[:room]) + suffix


def exists(folder: int, name: str) -> bool:
    """Tell whether there is anything of this name."""
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
        # This file system cannot refuse to replace. Two watchers on it could choose one name in the same instant.
        if exists(target, new_name):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        os.rename(name, new_name, src_dir_fd=folder, dst_dir_fd=target)
    elif number:
        raise OSError(number, os.strerror(number))
