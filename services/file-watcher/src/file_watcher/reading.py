"""Opening the content of a file: its hash, its format, its unpacked bytes within limits. Blocking; for threads."""

import csv
import enum
import hashlib
import io
import re
from collections.abc import Iterator
from typing import BinaryIO, Final, NamedTuple, Protocol

from file_watcher.rows import (
    BOM,
    CsvFile,
    Reject,
    Row,
    UnreadableError,
    cut_array,
    cut_lines,
    cut_object,
)
from file_watcher.unpacking import DAMAGED, Frames, gzip_frames, zstd_frames
from shared.contracts.payload import object_problem

_READ_BYTES: Final = 256 * 1024
_HASH_PART_BYTES: Final = 64 * 1024 * 1024
_NAME: Final = re.compile(r".*\.(?P<format>json|ndjson|jsonl|csv)(?:\.(?P<packing>gz|zst))?", re.IGNORECASE | re.DOTALL)
_BLANK: Final = b" \t\r\n"
_BLANK_BYTES_MAX: Final = 64 * 1024
# Below this the ratio says nothing: a small file of equal rows packs very well.
_RATIO_COUNTS_FROM_BYTES: Final = 64 * 1024 * 1024


class ReadLimits(Protocol):
    """What bounds the reading of a file; `Settings` is one."""

    @property
    def files_row_bytes_max(self) -> int:
        """Largest row."""

    @property
    def files_bytes_max(self) -> int:
        """Largest file."""

    @property
    def files_unpacked_bytes_max(self) -> int:
        """Largest content of a compressed file."""

    @property
    def files_ratio_max(self) -> int:
        """Largest content of a compressed file, in sizes of the file."""


class Format(enum.Enum):
    """How rows stand in a file."""

    JSON = "json"
    LINES = "ndjson"
    CSV = "csv"


class FileKind(NamedTuple):
    """What a file's name says about its content."""

    format: Format
    packing: str


class Content(NamedTuple):
    """The rows of a file; `csv` holds the header where there is one."""

    rows: Iterator[Row | Reject]
    csv: CsvFile | None


def kind_of(name: str) -> FileKind:
    """Return what the name says. Raises UnreadableError."""
    match = _NAME.fullmatch(name)
    if match is None:
        raise UnreadableError("the name must end in .json, .ndjson, .jsonl or .csv, and after it .gz or .zst if packed")
    spelled = match["format"].lower()
    return FileKind(
        Format.LINES if spelled == "jsonl" else Format(spelled),
        (match["packing"] or "").lower(),
    )


class ContentHash:
    """The hash of a file's bytes as they are stored, taken a part at a time so that a long one can be given up."""

    def __init__(self, file: BinaryIO, *, bytes_max: int | None = None) -> None:
        """Begin at the start of the file; `bytes_max`: go no further."""
        self._file = file
        self._bytes_max = bytes_max
        self._digest = hashlib.sha256()
        self.bytes = 0
        file.seek(0)

    def take_part(self) -> bool:
        """Take the next part; return False at the end."""
        for _ in range(_HASH_PART_BYTES // _READ_BYTES):
            room = _READ_BYTES if self._bytes_max is None else min(_READ_BYTES, self._bytes_max - self.bytes)
            chunk = self._file.read(room)
            if not chunk:
                return False
            self._digest.update(chunk)
            self.bytes += len(chunk)
        return True

    def text(self) -> str:
        """Return 32 hexadecimal digits."""
        return self._digest.hexdigest()[:32]


def open_rows(file: BinaryIO, kind: FileKind, limits: ReadLimits, *, complete: bool = True) -> Content:
    """Return the rows of the file, read as they are taken.

    `complete=False`: its owner may be writing. Raises UnreadableError, at once or while rows are taken.
    """
    row_bytes_max = limits.files_row_bytes_max
    # The library's own limit is one for the whole process, and smaller than ours.
    csv.field_size_limit(row_bytes_max)
    match kind.format:
        case Format.CSV:
            table = CsvFile(_unpacked(file, kind, limits), row_bytes_max, complete=complete)
            return Content(table.records(), table)
        case Format.LINES:
            return Content(cut_lines(_unpacked(file, kind, limits), row_bytes_max), None)
        case Format.JSON:
            return Content(_json_rows(file, kind, limits), None)


def _json_rows(file: BinaryIO, kind: FileKind, limits: ReadLimits) -> Iterator[Row | Reject]:
    """Tell an array, one object, and objects on lines of their own apart, and cut accordingly."""
    row_bytes_max = limits.files_row_bytes_max
    match _first_byte(_unpacked(file, kind, limits)):
        case b"[":
            return cut_array(_unpacked(file, kind, limits), row_bytes_max)
        case b"{":
            first = next(cut_lines(_unpacked(file, kind, limits), row_bytes_max), None)
            # Nothing but a whole object on the first line makes the others events: the lines of a broken object that
            # spans many may look like some.
            lines = isinstance(first, Row) and object_problem(first.body) is None
            return (cut_lines if lines else cut_object)(_unpacked(file, kind, limits), row_bytes_max)
        case b"":
            raise UnreadableError("the file is empty")
        case _:
            raise UnreadableError("must be a JSON array, a JSON object, or JSON objects on lines of their own")


def _first_byte(stream: io.BufferedReader) -> bytes:
    head = stream.read(_BLANK_BYTES_MAX).removeprefix(BOM).lstrip(_BLANK)
    return head[:1]


def _unpacked(file: BinaryIO, kind: FileKind, limits: ReadLimits) -> io.BufferedReader:
    """Return the content from its beginning."""
    file.seek(0)
    match kind.packing:
        case "gz":
            return io.BufferedReader(_Unpacked(file, gzip_frames(file), limits), _READ_BYTES)
        case "zst":
            return io.BufferedReader(_Unpacked(file, zstd_frames(file), limits), _READ_BYTES)
        case _:
            return io.BufferedReader(_Plain(file), _READ_BYTES)


class _Plain(io.RawIOBase):
    """Lends a file to a buffer: closing the buffer leaves it open."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override] # what BufferedReader calls it with
        chunk = self._file.read(len(buffer))
        buffer[: len(chunk)] = chunk
        return len(chunk)


class _Unpacked(io.RawIOBase):
    """Unpacked bytes, with limits against bombs; every fault of the packing becomes UnreadableError."""

    def __init__(self, file: BinaryIO, packed: Frames, limits: ReadLimits) -> None:
        self._file = file
        self._packed = packed
        self._limits = limits
        self._count = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override] # what BufferedReader calls it with
        try:
            chunk = self._packed.read(len(buffer))
        except EOFError as error:
            raise UnreadableError("the compressed content is cut off") from error
        except DAMAGED as error:
            raise UnreadableError("the compressed content is damaged") from error
        buffer[: len(chunk)] = chunk
        self._count += len(chunk)
        self._check()
        return len(chunk)

    def _check(self) -> None:
        if self._count > self._limits.files_unpacked_bytes_max:
            raise UnreadableError(f"the content is larger than {self._limits.files_unpacked_bytes_max} bytes")
        if (
            self._count > _RATIO_COUNTS_FROM_BYTES
            and self._count > max(1, self._file.tell()) * self._limits.files_ratio_max
        ):
            raise UnreadableError(f"the content is more than {self._limits.files_ratio_max} times its packed size")
