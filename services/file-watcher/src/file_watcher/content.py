"""The content of a file up to a point: unpacked, hashed, and read again exactly so far. Blocking; for threads."""

import hashlib
from typing import Final

from file_watcher.notes import Extent
from file_watcher.reading import ReadLimits, open_content
from file_watcher.rows import UnreadableError
from file_watcher.unpacking import File

_READ_BYTES: Final = 256 * 1024
_PART_BYTES: Final = 64 * 1024 * 1024
DIGEST_CHARS: Final = 32


class ContentFile:
    """The unpacked content of a file as a file of its own, which can be begun again.

    `extent`: it ends there, as it did when that was measured, whatever the file has grown by since.
    """

    def __init__(self, file: File, packing: str, limits: ReadLimits, extent: Extent | None = None) -> None:
        """`packing` is that of the file: `gz`, `zst` or none."""
        if extent and extent.packed:
            # Before there were notes it was the packed file that was hashed: so that ends, and is unpacked.
            file = ContentFile(file, "", limits, Extent(bytes=extent.bytes, digest="", file_bytes=extent.bytes))
            extent = None
        self._file = file
        self._packing = packing
        self._limits = limits
        self._extent = extent
        self.seek(0)

    def seek(self, offset: int, /) -> int:
        """Begin again; there is no other place to go to. Raises ValueError."""
        if offset:
            raise ValueError("a content can only be begun again")
        self._content = open_content(self._file, self._packing, self._limits)
        self._position = 0
        return 0

    def tell(self) -> int:
        """Return how many bytes were read."""
        return self._position

    def read(self, size: int, /) -> bytes:
        """Return some bytes, at most `size`; none at the end.

        Raises:
            UnreadableError: the rest cannot be unpacked.
        """
        if self._extent:
            size = min(size, self._extent.bytes - self._position)
            if not size and self._extent.fault:
                raise UnreadableError(self._extent.fault)
        chunk = self._content.read(size) if size else b""
        self._position += len(chunk)
        return chunk


class ContentHash:
    """The hash of a file's content, taken a part at a time so that a long one can be given up."""

    def __init__(self, content: ContentFile, *, bytes_max: int | None = None) -> None:
        """Begin where `content` is; `bytes_max`: go no further."""
        self._content = content
        self._bytes_max = bytes_max
        self._digest = hashlib.sha256()
        self.bytes = 0
        self.fault = ""

    def take_part(self) -> bool:
        """Take the next part; return False at the end, or where nothing more can be unpacked: see `fault`."""
        end = self.bytes + _PART_BYTES
        while self.bytes < end:
            room = _READ_BYTES if self._bytes_max is None else min(_READ_BYTES, self._bytes_max - self.bytes)
            try:
                chunk = self._content.read(room)
            except UnreadableError as error:
                self.fault = str(error)
                return False
            if not chunk:
                return False
            self._digest.update(chunk)
            self.bytes += len(chunk)
        return True

    def text(self) -> str:
        """Return 32 hexadecimal digits."""
        return self._digest.hexdigest()[:DIGEST_CHARS]


def row_digest(body: bytes) -> str:
    """Return the hash by which a row is told from one that was longer later."""
    return hashlib.sha256(body).hexdigest()[:DIGEST_CHARS]
