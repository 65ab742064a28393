"""Opens a file by the format in its name, and finds out how a JSON file is written. Blocking; for threads."""

import csv
import enum
import io
import re
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Final, NamedTuple

from shared.contracts.payload import begins_a_document, object_problem
from shared.files.content import File, open_stream
from shared.files.csv_file import CsvFile
from shared.files.file_format import UNSAID, FileFormat
from shared.files.limits import ReadLimits
from shared.files.rows import (
    ChunkReader,
    EmptyFileError,
    Piece,
    Stream,
    UnreadableError,
    cut_array,
    cut_lines,
    cut_object,
    without_end,
    without_marks,
)

_NAME: Final = re.compile(r".*\.(?P<format>json|ndjson|jsonl|csv)(?:\.(?P<packing>gz|zst))?", re.IGNORECASE | re.DOTALL)
_BLANK: Final = b" \t\r\n"
# So much is read to see whether a JSON file has one document or one on each line.
_SAMPLE_LINES_MAX: Final = 100
_SAMPLE_BYTES_MAX: Final = 256 * 1024
_HEAD_BYTES: Final = 4 * 1024
_UTF16_MARKS: Final = (b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")
# In UTF-16 every second byte of ASCII text is zero; in other encodings none is.
_UTF16_ZEROS_MIN: Final = 0.3


class Format(enum.Enum):
    """How rows are written in a file."""

    JSON = "json"
    LINES = "ndjson"
    CSV = "csv"


class FileKind(NamedTuple):
    """What a file's name says about its content."""

    format: Format
    packing: str

    @property
    def numbered_by_line(self) -> bool:
        """Return True where a row's number is that of its first line; an element's number is its position."""
        return self.format is not Format.JSON


class Content(NamedTuple):
    """The rows of a file; `csv` holds the header where there is one."""

    chunks: ChunkReader
    csv: CsvFile | None


def kind_of(name: str) -> FileKind:
    """Return the kind that the name gives. Raises UnreadableError."""
    match = _NAME.fullmatch(name)
    if match is None:
        raise UnreadableError("the name must end in .json, .ndjson, .jsonl or .csv, and after it .gz or .zst if packed")
    spelled = match["format"].lower()
    return FileKind(
        Format.LINES if spelled == "jsonl" else Format(spelled),
        (match["packing"] or "").lower(),
    )


def open_rows(
    file: File, kind: FileKind, limits: ReadLimits, *, complete: bool = True, form: FileFormat = UNSAID
) -> Content:
    """Return the rows of the file, which are read later. `form`: how its source writes files.

    `complete=False`: its owner may still write to it. Raises UnreadableError, also while rows are read; EmptyFileError
    where the file holds only blanks.
    """
    row_bytes_max = limits.files_row_bytes_max
    # The library's own limit is one for the whole process, and smaller than ours.
    csv.field_size_limit(row_bytes_max)
    stream = open_stream(file, kind.packing, limits)
    _refuse_utf16(stream.peek()[:_HEAD_BYTES])
    match kind.format:
        case Format.CSV:
            table = CsvFile(stream, row_bytes_max, complete=complete, form=form, id_field=limits.files_id_field)
            return Content(ChunkReader(table.records(), header=table.header), table)
        case Format.LINES:
            return Content(ChunkReader(_not_empty(cut_lines(stream, row_bytes_max))), None)
        case Format.JSON:
            cut = _json_cutter(open_stream(file, kind.packing, limits), row_bytes_max)
            return Content(ChunkReader(cut(open_stream(file, kind.packing, limits), row_bytes_max)), None)


def _refuse_utf16(head: bytes) -> None:
    """Raise UnreadableError where a file is in UTF-16, with a byte order mark or without."""
    even, odd = sorted((head[::2].count(0), head[1::2].count(0)))
    if head.startswith(_UTF16_MARKS) or (not even and odd > _UTF16_ZEROS_MIN * len(head) / 2):
        raise UnreadableError("the file is in UTF-16, and must be in UTF-8: convert it, or export it as UTF-8")


def _not_empty(rows: Iterator[Piece]) -> Iterator[Piece]:
    first = next(rows, None)
    if first is None:
        raise EmptyFileError
    return chain((first,), rows)


def _json_cutter(stream: io.BufferedReader, row_bytes_max: int) -> Callable[[Stream, int], Iterator[Piece]]:
    """Return the cutter for an array, one object, or one object on each line."""
    lines = _first_lines(stream, row_bytes_max)
    if _are_json_lines(lines):
        return cut_lines
    match lines[0].lstrip(_BLANK)[:1]:
        case b"[":
            return cut_array
        case b"{":
            return cut_object
        case _:
            raise UnreadableError("must be a JSON array, a JSON object, or JSON objects on lines of their own")


def _first_lines(stream: io.BufferedReader, row_bytes_max: int) -> list[bytes]:
    """Return the first lines that are not blank, at least one; the last may be cut. Raises EmptyFileError."""
    lines: list[bytes] = []
    size = 0
    marked = True
    while len(lines) < _SAMPLE_LINES_MAX and size < _SAMPLE_BYTES_MAX and (line := stream.readline(row_bytes_max + 2)):
        line = without_marks(line) if marked else line
        marked = False
        if line.strip(_BLANK):
            lines.append(line)
            size += len(line)
    if not lines:
        raise EmptyFileError
    return lines


def _are_json_lines(lines: list[bytes]) -> bool:
    """Return True where the first line is a whole object; where it is not, where most are and it is no part of one.

    The lines of a broken object that spans many may look like some.
    """
    if object_problem(without_end(lines[0])) is None:
        return True
    if lines[0].rstrip(_BLANK).endswith((b"{", b"[")) or begins_a_document(b"".join(lines)):
        return False
    whole = sum(object_problem(without_end(line)) is None for line in lines)
    return 2 * whole > len(lines)
