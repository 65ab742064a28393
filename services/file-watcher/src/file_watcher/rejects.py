"""The rejects file: one line of JSON for each rejected row, with its number and the reason, without its values."""

import os
from collections.abc import Callable, Iterable
from typing import BinaryIO

import msgspec

from shared.files.rows import Reject


class RejectsFile:
    """Appends rejects; the file is created with the first one."""

    def __init__(self, create: Callable[[], BinaryIO]) -> None:
        """`create` opens the empty file."""
        self._create = create
        self._file: BinaryIO | None = None
        self.count = 0

    def write(self, rejects: Iterable[Reject]) -> None:
        """Append rejects. Raises OSError."""
        lines = encode_rejects(rejects)
        if not lines:
            return
        if self._file is None:
            self._file = self._create()
        self._file.write(lines)
        self.count += lines.count(b"\n")

    def close(self, *, durable: bool) -> None:
        """Close the file; `durable`: after it is on the disk."""
        if self._file is None:
            return
        self._file.flush()
        if durable:
            os.fsync(self._file.fileno())
        self._file.close()


def encode_rejects(rejects: Iterable[Reject]) -> bytes:
    """Return the lines of the rejects."""
    return b"".join(msgspec.json.encode({"line": reject.number, "reason": reject.reason}) + b"\n" for reject in rejects)
