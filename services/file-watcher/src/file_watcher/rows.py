r"""Cutting the content of a file into rows: lines, CSV records, elements of a JSON array, or one object. Pure.

Rows are numbered from 1: lines and CSV records by their (first) line, elements by their place. No row is changed. A row
that cannot be cut becomes a `Reject` and the rows after it go on; where nothing after can be cut, `UnreadableError`.
"""

import csv
import re
from collections import deque
from collections.abc import Iterator
from typing import Final, NamedTuple, Protocol, Self

from shared.contracts.errors import PermanentError
from shared.framing import ArrayFramer, FramingError

BOM: Final = b"\xef\xbb\xbf"

_CHUNK_BYTES: Final = 256 * 1024
_BLANK: Final = b" \t\r\n"
_LINE_END: Final = re.compile(rb"\r?\n\Z")
# A record with line feeds in its quotes is short. Without this an open quote would hold megabytes of tiny lines.
_RECORD_LINES_MAX: Final = 10_000
# Every event carries the header, so a large one would multiply.
_HEADER_BYTES_MAX: Final = 64 * 1024


class UnreadableError(PermanentError):
    """The rest of the file cannot be read. The message says why, without a value."""


class Row(NamedTuple):
    """The bytes of one row as they stand in the file."""

    number: int
    body: bytes


class Reject(NamedTuple):
    """A row that cannot be an event."""

    number: int
    reason: str


class Stream(Protocol):
    """The unpacked content of a file; `io.BufferedReader` is one."""

    def read(self, size: int, /) -> bytes:
        """Return `size` bytes, fewer only at the end."""

    def readline(self, size: int, /) -> bytes:
        """Return up to the next line feed, at most `size` bytes."""


def cut_lines(stream: Stream, row_bytes_max: int) -> Iterator[Row | Reject]:
    r"""Yield each line that is not blank; lines end at `\n` alone, with or without a `\r` before it."""
    for piece in _raw_lines(stream, row_bytes_max):
        if isinstance(piece, Reject):
            yield piece
        elif line := _without_end(piece.body):
            yield Row(piece.number, line)


def cut_array(stream: Stream, row_bytes_max: int) -> Iterator[Row | Reject]:
    """Yield each element of a JSON array. Raises UnreadableError where the array is broken or an element too large."""
    framer = ArrayFramer(row_bytes_max)
    number = 0
    chunk = stream.read(_CHUNK_BYTES).removeprefix(BOM)
    try:
        while chunk:
            for body in framer.feed(chunk):
                number += 1
                yield Row(number, body)
            chunk = stream.read(_CHUNK_BYTES)
        yield from (Row(number + 1, body) for body in framer.finish())
    except FramingError as error:
        raise UnreadableError(f"{error.detail} (element {number + 1})") from error


def cut_object(stream: Stream, row_bytes_max: int) -> Iterator[Row | Reject]:
    """Yield the whole content as one row."""
    content = stream.read(row_bytes_max + 1)
    if len(content) > row_bytes_max:
        raise UnreadableError(f"a single JSON object may have {row_bytes_max} bytes")
    yield Row(1, content.removeprefix(BOM).strip(_BLANK))


class CsvFile:
    """A CSV file (RFC 4180, commas) with a header: reads the header at once, then cuts one record after the other."""

    def __init__(self, stream: Stream, row_bytes_max: int, *, complete: bool) -> None:
        """`complete=False`: somebody may still be writing the last line, so it counts only with its line feed.

        Raises:
            UnreadableError: there is no header, or it cannot name the fields of a row.
        """
        self._lines = _raw_lines(stream, row_bytes_max)
        self._held: deque[Row | Reject] = deque()
        self._row_bytes_max = row_bytes_max
        self._complete = complete
        self.header = b""
        self.columns: list[str] = []
        self._read_header()

    def records(self) -> Iterator[Row | Reject]:
        """Yield each record; a quote that is left open costs its own line only."""
        while (line := self._next()) is not None:
            if isinstance(line, Row):
                record = self._record(line)
                if record is not None:
                    yield record
            else:
                yield line

    def _next(self) -> Row | Reject | None:
        return self._held.popleft() if self._held else next(self._lines, None)

    def _record(self, line: Row) -> Row | Reject | None:
        if not self._complete and not line.body.endswith(b"\n"):
            return None
        if line.body.count(b'"') % 2:
            return self._join(line)
        body = _without_end(line.body)
        return Row(line.number, body) if body else None

    def _join(self, first: Row) -> Row | Reject:
        """Return the record that begins with a line whose quote goes on; if there is none, that line is rejected."""
        parts, size, following = [first.body], len(first.body), list[Row | Reject]()
        while (line := self._next()) is not None:
            following.append(line)
            if isinstance(line, Reject):
                break
            parts.append(line.body)
            size += len(line.body)
            if size > self._row_bytes_max or len(parts) > _RECORD_LINES_MAX:
                break
            if line.body.count(b'"') % 2:
                body = _LINE_END.sub(b"", b"".join(parts))
                if is_record(body, self.columns):
                    return Row(first.number, body)
                break
        self._held.extendleft(reversed(following))
        return Reject(first.number, "a quote is not closed")

    def _read_header(self) -> None:
        for record in self.records():
            if isinstance(record, Reject):
                raise UnreadableError("the header is not valid CSV")
            if len(record.body) > _HEADER_BYTES_MAX:
                raise UnreadableError(f"the header is larger than {_HEADER_BYTES_MAX} bytes")
            self.header, self.columns = record.body, _column_names(record.body)
            return
        raise UnreadableError("there is no header")


class RecordReader:
    """Reads one CSV record after the other. Making a reader for each record took longer than reading it."""

    def __init__(self) -> None:
        """Not for several threads at once."""
        self._waiting: list[str] = []
        self._reader = csv.reader(self, strict=True)

    def __iter__(self) -> Self:
        """Be the lines that the library's reader reads."""
        return self

    def __next__(self) -> str:
        """Give the record that is to be read now, and nothing after it."""
        if not self._waiting:
            raise StopIteration
        return self._waiting.pop()

    def read(self, record: bytes) -> list[str]:
        """Return the fields of one record. Raises csv.Error or UnicodeDecodeError."""
        self._waiting.append(record.decode())
        return next(self._reader, [])


def is_record(body: bytes, columns: list[str]) -> bool:
    """Return True where `body` is one valid CSV record with a field for each column, where these are known."""
    try:
        fields = RecordReader().read(body)
    except (csv.Error, UnicodeDecodeError):
        return False
    return not columns or len(fields) == len(columns)


def _column_names(header: bytes) -> list[str]:
    try:
        names = RecordReader().read(header)
    except (csv.Error, UnicodeDecodeError) as error:
        raise UnreadableError("the header is not valid CSV") from error
    if not all(name.strip() for name in names):
        raise UnreadableError("the header has a column without a name")
    if len(set(names)) < len(names):
        raise UnreadableError("the header names a column twice")
    return names


def _raw_lines(stream: Stream, row_bytes_max: int) -> Iterator[Row | Reject]:
    """Yield each line with its end, as it stands."""
    number = 0
    limit = row_bytes_max + len(b"\r\n")
    while line := stream.readline(limit):
        number += 1
        if number == 1:
            line = line.removeprefix(BOM)
        if len(line) > row_bytes_max and len(_without_end(line)) > row_bytes_max:
            while line and not line.endswith(b"\n"):
                line = stream.readline(limit)
            yield Reject(number, f"is larger than {row_bytes_max} bytes")
        else:
            yield Row(number, line)


def _without_end(line: bytes) -> bytes:
    """Return the line without its end; a blank line becomes empty."""
    line = line.removesuffix(b"\n").removesuffix(b"\r")
    return b"" if line.isspace() else line
