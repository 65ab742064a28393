r"""Cutting the content of a file into rows: lines, elements of a JSON array, or one object. Pure.

Rows are numbered from 1: lines by their number, elements by their place. No row is changed. A row that cannot be cut
becomes a `Reject` and the rows after it go on; where nothing after can be cut, `UnreadableError`. The records of a CSV
file are cut by `records`.
"""

from collections.abc import Iterator
from typing import Final, Protocol

import msgspec

from shared.contracts.errors import PermanentError
from shared.contracts.payload import MORE_THAN_ONE, holds_more_than_one
from shared.framing import ArrayFramer, FramingError

BOM: Final = b"\xef\xbb\xbf"

_CHUNK_BYTES: Final = 256 * 1024
_BLANK: Final = b" \t\r\n"


class UnreadableError(PermanentError):
    """The rest of the file cannot be read. The message says why, without a value."""


class EmptyFileError(UnreadableError):
    """The file holds nothing but blanks, whatever its format."""

    def __init__(self) -> None:
        """Say so."""
        super().__init__("the file is empty")


class Row(msgspec.Struct, frozen=True, gc=False):
    """The bytes of one row as they stand in the file."""

    number: int
    body: bytes


class Reject(msgspec.Struct, frozen=True, gc=False):
    """A row that cannot be an event."""

    number: int
    reason: str


class Skipped(msgspec.Struct, frozen=True, gc=False):
    """So many rows that held nothing."""

    count: int


Piece = Row | Reject | Skipped
"""What a file is cut into."""

Line = tuple[int, bytes | None]
"""A line of a file with its number and its end; None in place of one that is too large."""


class Stream(Protocol):
    """The unpacked content of a file; `io.BufferedReader` is one."""

    def read(self, size: int, /) -> bytes:
        """Return `size` bytes, fewer only at the end."""

    def readline(self, size: int, /) -> bytes:
        """Return up to the next line feed, at most `size` bytes."""


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
    """Yield each line with its end, as it stands; the first without its byte order marks."""
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
    """Return the beginning of a file without its byte order marks; programs that append to one another's write two."""
    while content.startswith(BOM):
        content = content.removeprefix(BOM)
    return content
