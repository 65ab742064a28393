"""Unpacking gzip and zstd, as a stream and in bounded memory. Blocking; for threads."""

import zlib
from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

import zstandard
from isal import isal_zlib

_READ_BYTES: Final = 256 * 1024
# 8 MiB: what every zstd reader must be able to hold, and enough for all levels but the "ultra" ones.
_ZSTD_WINDOW_BYTES_MAX: Final = 8 * 1024 * 1024
# A block of 128 KiB can hide in four bytes, so a step of this size unpacks to 4 MiB at most.
_ZSTD_STEP_BYTES: Final = 128
# gzip packs a thousandfold at most: 4 MiB.
_GZIP_STEP_BYTES: Final = 4 * 1024
_GZIP_BITS: Final = 31  # 15 for the largest window, 16 for the header of gzip
DAMAGED: Final[tuple[type[Exception], ...]] = (
    isal_zlib.IsalError,  # type: ignore[assignment] # its stub names no class
    zlib.error,
    zstandard.ZstdError,
)
"""What the libraries raise where the packed bytes are not what they should be."""


class File(Protocol):
    """What is used of a file; an open one is it."""

    def seek(self, offset: int, /) -> int:
        """Go to a place."""

    def tell(self) -> int:
        """Return the place."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes; none at the end."""


class _Frame(Protocol):
    """Unpacks one frame; `zlib` and `zstandard` have the same words for it."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, /) -> bytes: ...


class Frames:
    """Unpacks frames one after the other, in small steps.

    Unlike the libraries' own files it gives what could be unpacked before it tells that a frame is cut off.
    """

    def __init__(self, file: File, open_frame: Callable[[], _Frame], *, step_bytes: int, padding: bytes) -> None:
        """`padding` may stand between and after frames; what one step unpacks to is in memory at once."""
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
    # Some writers fill the last block with zeros.
    return Frames(file, partial(isal_zlib.decompressobj, _GZIP_BITS), step_bytes=_GZIP_STEP_BYTES, padding=b"\0")


def zstd_frames(file: File) -> Frames:
    """Return a reader of the frames of a zstd file."""
    unpacker = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES_MAX)
    return Frames(file, unpacker.decompressobj, step_bytes=_ZSTD_STEP_BYTES, padding=b"")
