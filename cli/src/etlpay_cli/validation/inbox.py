"""Puts a valid file into the inbox of a source: complete from the moment at which it can be seen there."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

_READ_BYTES: Final = 256 * 1024


class InboxError(Exception):
    """A file was not put into the inbox; the message is one sentence."""


def put_into_inbox(path: Path, inbox: Path, source: str, sha256: str) -> Path:
    """Copy a file into the folder of its source, and return where it is. Raises InboxError.

    It is written beside the inbox and renamed. `sha256`: of what was validated; another content is not put there.
    """
    if path.name.startswith("."):
        raise InboxError(f"{path.name}: is hidden, so nobody would read it in the inbox")
    folder = inbox / source
    unfinished = inbox.parent / f".{secrets.token_hex(8)}-{path.name}"[:200]
    try:
        folder.mkdir(exist_ok=True)
        if _copy(path, unfinished) != sha256:
            raise InboxError(f"{path.name}: changed after it was validated")
        _place(unfinished, folder / path.name)
    except FileExistsError:
        raise InboxError(f"{path.name}: the inbox of {source} holds a file of this name") from None
    except OSError as error:
        raise InboxError(f"{path.name}: {error.strerror or 'cannot be copied'}") from None
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink()
    return folder / path.name


def _place(unfinished: Path, to: Path) -> None:
    """Give a file its name. A link fails where that is taken; a rename would replace a file that nobody has read."""
    try:
        os.link(unfinished, to)
    except FileExistsError:
        raise
    except OSError:
        # A file system without links.
        if to.exists():
            raise FileExistsError from None
        unfinished.rename(to)


def _copy(path: Path, to: Path) -> str:
    """Copy a file to the disk, and return its SHA-256."""
    digest = hashlib.sha256()
    with path.open("rb") as source, to.open("xb") as target:
        while chunk := source.read(_READ_BYTES):
            digest.update(chunk)
            target.write(chunk)
        target.flush()
        os.fsync(target.fileno())
    return digest.hexdigest()
