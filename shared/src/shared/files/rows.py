r"""Cutting a file's content into rows: lines, elements of a JSON array, one object, or CSV records (RFC 4180). Pure.

Rows are numbered from 1: lines by their number, elements by their position. No row is changed. A row that cannot be cut
becomes a `Reject`, and the rows after it are read. Where nothing after it can be cut, `UnreadableError` is raised.
"""

from collections import deque
from collections.abc import Iterator
from typing import Final, NamedTuple, Protocol

import msgspec

from shared.contracts.csv_row import Dialect
from shared.contracts.errors import PermanentError
from shared.contracts.payload import MORE_THAN_ONE, holds_more_than_one
from shared.files.file_format import SETTING
from shared.files.quoting import Quotes, quote_rules
from shared.framing import ArrayFramer, FramingError

BOM: Final = b"\xef\xbb\xbf"

_CHUNK_BYTES: Final = 256 * 1024
_BLANK: Final = b" \t\r\n"
NO_LINE_END: Final = (
    f'has no line end, so it may be cut off; last_row = "accept" for its source in {SETTING} takes such rows'
)
_OPEN_AT_END: Final = "a quote is opened here and the file ends before it is closed, so it may be cut off"
_NOT_CLOSED: Final = "a quote is not closed"
# About what the attributes of an event take in a message.
_ATTRIBUTES_BYTES: Final = 200
# Without this limit an open quote would keep megabytes of short lines in memory.
_RECORD_LINES_MAX: Final = 10_000


class UnreadableError(PermanentError):
    """The rest of the file cannot be read. The message gives the reason, without values."""


class EmptyFileError(UnreadableError):
    """The file holds only blanks."""

    def __init__(self) -> None:
        """The reason is always the same."""
        super().__init__("the file is empty")


class Row(msgspec.Struct, frozen=True, gc=False):
    """The bytes of one row as they are in the file.

    `key` is the derived idempotency key, where it is not made of the file's content and the row's number.
    """

    number: int
    body: bytes
    key: str = ""


class Reject(msgspec.Struct, frozen=True, gc=False):
    """A row that cannot be an event."""

    number: int
    reason: str


class Skipped(msgspec.Struct, frozen=True, gc=False):
    """The number of rows that held nothing."""

    count: int


Piece = Row | Reject | Skipped
"""One part of what a file is cut into."""


class Chunk(NamedTuple):
    """Consecutive pieces of a file. `ended`: there are no more; `fault`: because the rest cannot be read."""

    pieces: list[Piece]
    ended: bool
    fault: Reject | None = None


Line = tuple[int, bytes | None]
"""A line of a file with its number and its line end; None for a line that is too large."""


class Stream(Protocol):
    """The unpacked content of a file; `io.BufferedReader` is one."""

    def read(self, size: int, /) -> bytes:
        """Return `size` bytes, fewer only at the end."""

    def readline(self, size: int, /) -> bytes:
        """Return up to the next line feed, at most `size` bytes."""


class ChunkReader:
    """Reads the pieces of a file in chunks of bounded size."""

    def __init__(self, pieces: Iterator[Piece], *, header: bytes = b"") -> None:
        """`header`: each event repeats it."""
        self.pieces = pieces
        self._extra_bytes = len(header) + _ATTRIBUTES_BYTES
        self._number = 0

    def next_chunk(self, pieces_max: int, bytes_max: int) -> Chunk:
        """Return the next chunk; its last row may exceed `bytes_max`. Raises OSError."""
        pieces: list[Piece] = []
        size = 0
        fault = None
        try:
            for piece in self.pieces:
                pieces.append(piece)
                if type(piece) is Row:
                    size += len(piece.body) + self._extra_bytes
                if len(pieces) >= pieces_max or size >= bytes_max:
                    self._count(pieces)
                    return Chunk(pieces, ended=False)
        except UnreadableError as error:
            self._count(pieces)
            fault = unreadable(self._number + 1, error)
        return Chunk(pieces, ended=True, fault=fault)

    def _count(self, pieces: list[Piece]) -> None:
        """Keep the number of the last row. `Skipped` has no number; it is the last piece of a file."""
        self._number = next(
            (piece.number for piece in reversed(pieces) if not isinstance(piece, Skipped)), self._number
        )


def unreadable(number: int, error: UnreadableError) -> Reject:
    """Return the reject of the row at which reading ended."""
    return Reject(number, f"from here on nothing could be read: {error}")


def cut_lines(stream: Stream, row_bytes_max: int) -> Iterator[Piece]:
    r"""Yield each line that is not blank; lines end at `\n` alone, with or without a `\r` before it."""
    for number, line in numbered_lines(stream, row_bytes_max):
        if line is None:
            yield too_large(number, row_bytes_max)
        elif body := without_end(line):
            yield Row(number, body)


def cut_array(stream: Stream, row_bytes_max: int) -> Iterator[Piece]:
    """Yield each element of a JSON array. Raises UnreadableError where the array is broken or an element too large."""
    framer = ArrayFramer(row_bytes_max)
    number = 0
    chunk = without_marks(stream.read(_CHUNK_BYTES))
    try:
        while chunk:
            for body in framer.feed(chunk):
                number += 1
                yield Row(number, body)
            chunk = stream.read(_CHUNK_BYTES)
        yield from (Row(number + 1, body) for body in framer.finish())
    except FramingError as error:
        raise UnreadableError(f"{error.detail} (element {number + 1})") from error


def cut_object(stream: Stream, row_bytes_max: int) -> Iterator[Piece]:
    """Yield the whole content as one row."""
    content = stream.read(row_bytes_max + 1)
    body = without_marks(content).strip(_BLANK)
    if len(content) > row_bytes_max:
        if holds_more_than_one(body):
            raise UnreadableError(MORE_THAN_ONE)
        raise UnreadableError(f"a single JSON object may have {row_bytes_max} bytes")
    yield Row(1, body)


def numbered_lines(stream: Stream, row_bytes_max: int) -> Iterator[Line]:
    """Yield each line with its line end; the first without byte order marks."""
    number = 0
    limit = row_bytes_max + len(b"\r\n")
    readline = stream.readline
    while line := readline(limit):
        number += 1
        if number == 1:
            line = without_marks(line)
        if len(line) > row_bytes_max and len(without_end(line)) > row_bytes_max:
            while line and not line.endswith(b"\n"):
                line = readline(limit)
            yield number, None
        else:
            yield number, line


def too_large(number: int, row_bytes_max: int) -> Reject:
    """Return the reject of a row over the limit."""
    return Reject(number, f"is larger than {row_bytes_max} bytes")


def without_end(line: bytes) -> bytes:
    """Return the line without its end; a blank line becomes empty."""
    line = line.removesuffix(b"\n").removesuffix(b"\r")
    return b"" if line.isspace() else line


def without_marks(content: bytes) -> bytes:
    """Return the beginning of a file without byte order marks; files that were joined may have two."""
    while content.startswith(BOM):
        content = content.removeprefix(BOM)
    return content


class RecordCutter:
    """Cuts one record after the other out of lines, in constant memory."""

    def __init__(
        self, lines: Iterator[Line], dialect: Dialect, row_bytes_max: int, *, complete: bool, last_row_counts: bool
    ) -> None:
        """`complete=False`: the file may still be written, so a record that may grow is neither a row nor a reject yet.

        `last_row_counts`: also a last record without its line end is a row.
        """
        self._lines = lines
        self._held: deque[Line] = deque()
        self._dialect = dialect
        self._row_bytes_max = row_bytes_max
        self._complete = complete
        self._last_row_counts = last_row_counts
        self._blank = b" \t\r\n\v\f" + dialect.delimiter.encode()
        # No line holds two line feeds: where quotes are off, none is found.
        self._quote = dialect.quote.encode() or b"\n\n"
        self._skipped = 0

    def records(self) -> Iterator[Piece]:
        """Yield each record; at the end the number of rows that held only delimiters or blanks, if any."""
        held, lines, quote = self._held, self._lines, self._quote
        hollow = self._blank + quote
        while (numbered := held.popleft() if held else next(lines, None)) is not None:
            number, line = numbered
            if line is None:
                yield too_large(number, self._row_bytes_max)
                continue
            if line.count(quote) % 2:
                piece = self._join(number, line)
            elif not line.strip(hollow) and self._holds_nothing(line):
                self._skipped += 1
                continue
            elif line.endswith(b"\n"):
                yield Row(number, line[:-1].removesuffix(b"\r"))
                continue
            else:
                piece = self._last(number, line)
            if piece is not None:
                yield piece
        if self._skipped:
            yield Skipped(self._skipped)

    def _holds_nothing(self, line: bytes) -> bool:
        """Return True where each field is empty; some programs quote empty fields too."""
        fields = line.rstrip(b"\r\n").split(self._dialect.delimiter.encode())
        return all(not field.strip() or field == self._quote + self._quote for field in fields)

    def _ended(self, number: int, record: bytes) -> Row | Reject | None:
        """Return a record that ends with its last line."""
        if record.endswith(b"\n"):
            return Row(number, record[:-1].removesuffix(b"\r"))
        return self._last(number, record)

    def _last(self, number: int, record: bytes) -> Row | Reject | None:
        """Return the file's last record, which has no line end: `25` may be the beginning of `25000`."""
        if not self._complete:
            return None
        return Row(number, record) if self._last_row_counts else Reject(number, NO_LINE_END)

    def _join(self, number: int, line: bytes) -> Row | Reject | None:
        """Return the record that begins with a line whose quotes do not come in pairs.

        Where no later line can close the quote, only its own line is rejected. Where the file ends before the quote is
        closed, all lines after it may be its text, so none of them is a row.
        """
        rules = quote_rules(self._dialect.delimiter, self._dialect.quote)
        if rules.begin(line) is not Quotes.OPEN:
            return self._ended(number, line)
        parts, size, following = [line], len(line), list[Line]()
        while (numbered := self._next()) is not None:
            following.append(numbered)
            line = numbered[1] or b""
            parts.append(line)
            size += len(line)
            quotes = rules.go_on(line)
            if size > self._row_bytes_max or len(parts) > _RECORD_LINES_MAX or quotes is Quotes.WRONG or not line:
                self._held.extendleft(reversed(following))
                return Reject(number, _NOT_CLOSED)
            if quotes is Quotes.CLOSED:
                return self._ended(number, b"".join(parts))
        return Reject(number, _OPEN_AT_END) if self._complete else None

    def _next(self) -> Line | None:
        return self._held.popleft() if self._held else next(self._lines, None)
