"""The content of a file: unpacked within limits, hashed, and read up to the same byte again. Blocking."""

import hashlib
import io
import zlib
from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

import msgspec
import zstandard
from isal import isal_zlib

from shared.files.limits import ReadLimits
from shared.files.rows import UnreadableError

_READ_BYTES: Final = 256 * 1024
_PART_BYTES: Final = 64 * 1024 * 1024
DIGEST_CHARS: Final = 32
# 8 MiB: what every zstd reader must support, and enough for all levels except "ultra".
_ZSTD_WINDOW_BYTES_MAX: Final = 8 * 1024 * 1024
# Four bytes can hold a block of 128 KiB, so a step of this size unpacks to 4 MiB at most.
_ZSTD_STEP_BYTES: Final = 128
# gzip packs a thousandfold at most: 4 MiB.
_GZIP_STEP_BYTES: Final = 4 * 1024
_GZIP_BITS: Final = 31  # 15 for the largest window, 16 for the header of gzip
DAMAGED: Final[tuple[type[Exception], ...]] = (
    isal_zlib.IsalError,  # type: ignore[assignment] # its stub names no class
    zlib.error,
    zstandard.ZstdError,
)
"""What the libraries raise where the packed bytes are invalid."""
# Below this the ratio is not checked: a small file of equal rows packs very well.
_RATIO_COUNTS_FROM_BYTES: Final = 64 * 1024 * 1024


class File(Protocol):
    """The methods of an open file that are used here."""

    def seek(self, offset: int, /) -> int:
        """Set the position."""

    def tell(self) -> int:
        """Return the position."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes; none at the end."""


class Extent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The first `bytes` bytes of a file's unpacked content; their hash is part of the keys of rows without an id.

    `digest` is 32 hexadecimal digits. `file_bytes` is the size that the file had, `fault` why the content cannot be
    read any further. `packed`: the hash is that of the file as it is stored, and the keys are those of producers'
    name space, as before there were notes; `bytes` counts accordingly.
    """

    bytes: int
    digest: str
    file_bytes: int
    fault: str = ""
    packed: bool = False


class Readable(Protocol):
    """A source of bytes."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes; none at the end."""


class _Frame(Protocol):
    """Unpacks one frame; `zlib` and `zstandard` have the same interface."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, /) -> bytes: ...


class Frames:
    """Unpacks frames one after the other, in small steps.

    Unlike the libraries' own files it returns all that can be unpacked before it reports that a frame is cut off.
    """

    def __init__(self, file: File, open_frame: Callable[[], _Frame], *, step_bytes: int, padding: bytes) -> None:
        """`padding` is skipped between and after frames; what one step unpacks to is in memory at once."""
        self._file = file
        self._open_frame = open_frame
        self._step_bytes = step_bytes
        self._padding = padding
        self._frame: _Frame | None = None
        self._packed = b""
        self._unpacked = memoryview(b"")

    def read(self, size: int) -> bytes:
        """Return at most `size` bytes; none at the end. Raises EOFError where the last frame is cut off."""
        while not self._unpacked:
            if not self._packed and not self._fill():
                return b""
            self._step()
        chunk, self._unpacked = self._unpacked[:size], self._unpacked[size:]
        return bytes(chunk)

    def _fill(self) -> bool:
        self._packed = self._file.read(_READ_BYTES)
        if not self._packed and self._frame:
            raise EOFError
        return bool(self._packed)

    def _step(self) -> None:
        if self._frame is None:
            self._packed = self._packed.lstrip(self._padding) if self._padding else self._packed
            if not self._packed:
                return
            self._frame = self._open_frame()
        step, self._packed = self._packed[: self._step_bytes], self._packed[self._step_bytes :]
        self._unpacked = memoryview(self._frame.decompress(step))
        if self._frame.eof:
            self._packed = self._frame.unused_data + self._packed
            self._frame = None


def gzip_frames(file: File) -> Frames:
    """Return a reader of the members of a gzip file."""
    # Some programs fill the last block with zeros.
    return Frames(file, partial(isal_zlib.decompressobj, _GZIP_BITS), step_bytes=_GZIP_STEP_BYTES, padding=b"\0")


def zstd_frames(file: File) -> Frames:
    """Return a reader of the frames of a zstd file."""
    unpacker = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES_MAX)
    return Frames(file, unpacker.decompressobj, step_bytes=_ZSTD_STEP_BYTES, padding=b"")


def open_content(file: File, packing: str, limits: ReadLimits) -> Readable:
    """Return the unpacked content from its beginning. A read may return fewer bytes than were asked for.

    Reading raises UnreadableError where the rest cannot be unpacked, after all that can be.
    """
    file.seek(0)
    match packing:
        case "gz":
            return _Unpacked(file, gzip_frames(file), limits)
        case "zst":
            return _Unpacked(file, zstd_frames(file), limits)
        case _:
            return file


def open_stream(file: File, packing: str, limits: ReadLimits) -> io.BufferedReader:
    """Return the unpacked content from its beginning, buffered. See `open_content`."""
    return io.BufferedReader(_Unbuffered(open_content(file, packing, limits)), _READ_BYTES)


class _Unbuffered(io.RawIOBase):
    """A content for a buffer; closing the buffer leaves the file open."""

    def __init__(self, content: Readable) -> None:
        self._content = content

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override] # what BufferedReader calls it with
        chunk = self._content.read(len(buffer))
        buffer[: len(chunk)] = chunk
        return len(chunk)


class _Unpacked:
    """Unpacked bytes, with limits against bombs; every fault of the packing becomes UnreadableError."""

    def __init__(self, file: File, packed: Frames, limits: ReadLimits) -> None:
        self._file = file
        self._packed = packed
        self._limits = limits
        self._count = 0

    def read(self, size: int, /) -> bytes:
        try:
            chunk = self._packed.read(size)
        except EOFError as error:
            raise UnreadableError("the compressed content is cut off") from error
        except DAMAGED as error:
            raise UnreadableError("the compressed content is damaged") from error
        self._count += len(chunk)
        self._check()
        return chunk

    def _check(self) -> None:
        if self._count > self._limits.files_unpacked_bytes_max:
            raise UnreadableError(f"the content is larger than {self._limits.files_unpacked_bytes_max} bytes")
        if (
            self._count > _RATIO_COUNTS_FROM_BYTES
            and self._count > max(1, self._file.tell()) * self._limits.files_ratio_max
        ):
            raise UnreadableError(f"the content is more than {self._limits.files_ratio_max} times its packed size")


class ContentFile:
    """The unpacked content of a file, as a file that can be read from its beginning again.

    With an `extent` it ends where the extent ends, also where the file has grown since.
    """

    def __init__(self, file: File, packing: str, limits: ReadLimits, extent: Extent | None = None) -> None:
        """`packing` is that of the file: `gz`, `zst` or none."""
        if extent and extent.packed:
            # Before there were notes the packed file was hashed: so that ends there, and is unpacked.
            file = ContentFile(file, "", limits, Extent(bytes=extent.bytes, digest="", file_bytes=extent.bytes))
            extent = None
        self._file = file
        self._packing = packing
        self._limits = limits
        self._extent = extent
        self.seek(0)

    def seek(self, offset: int, /) -> int:
        """Begin again; only offset 0 is possible. Raises ValueError."""
        if offset:
            raise ValueError("only offset 0 is possible")
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
    """The hash of a file's content, computed in parts so that it can be stopped between two."""

    def __init__(self, content: ContentFile, *, bytes_max: int | None = None) -> None:
        """Begin at the position of `content`; end after `bytes_max` bytes."""
        self._content = content
        self._bytes_max = bytes_max
        self._digest = hashlib.sha256()
        self.bytes = 0
        self.fault = ""

    def hash_part(self) -> bool:
        """Hash the next part; return False at the end, or where nothing more can be unpacked: see `fault`."""
        end = self.bytes + _PART_BYTES
        while self.bytes < end:
            size = _READ_BYTES if self._bytes_max is None else min(_READ_BYTES, self._bytes_max - self.bytes)
            try:
                chunk = self._content.read(size)
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
