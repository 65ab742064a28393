"""Cuts a stream of bytes into items: the lines of NDJSON, the elements of a JSON array. No item is changed.

Both framers accept chunks of any size and hold one item at most. Feed them, take the complete items, then `finish`.
"""

import re
from collections.abc import Callable, Iterator
from typing import Final, Protocol

from shared.contracts.errors import EtlPayError

_BLANK: Final = b" \t\r\n"
_BLANKS: Final = re.compile(rb"[ \t\r\n]*+")
# Everything up to the next bracket that is not inside a string. Possessive, so a long string cannot make it backtrack.
_TO_BRACKET: Final = re.compile(rb'(?:[^"{}\[\]]++|"(?:[^"\\]++|\\.)*+")*+([{}\[\]])', re.DOTALL)
_STRING: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_SCALAR: Final = re.compile(rb"[^\s,\[\]{}\"]++(?=[\s,\[\]{}\"])")

# One search finds an element with so many levels, in a third of the time of a search for each bracket.
_SHALLOW_LEVELS: Final = 8


def _nested(levels: int) -> bytes:
    """Return the pattern of brackets that hold strings, anything else, and brackets that are nested less deeply."""
    string, other = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', rb'[^"{}\[\]]*+'
    held = string + b"|" + _nested(levels - 1) if levels > 1 else string
    return rb"[{\[]%b(?:(?:%b)%b)*+[}\]]" % (other, held, other)


_SHALLOW: Final = re.compile(_nested(_SHALLOW_LEVELS), re.DOTALL)

_Step = tuple[int, bytes | None] | None


class FramingError(EtlPayError):
    """The stream cannot be cut any further. `position` is the number of items before that."""

    def __init__(self, detail: str, position: int) -> None:
        """`detail` says what is wrong with the item at `position` (from 0)."""
        super().__init__(detail)
        self.detail = detail
        self.position = position


class ItemTooLargeError(FramingError):
    """One item is larger than the limit; nothing after it was read."""


class Framer(Protocol):
    """Cuts items out of chunks."""

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Yield the items that the chunk completes, in order. Raises FramingError."""

    def finish(self) -> Iterator[bytes]:
        """Yield the item that only the end completes, if any. Raises FramingError where one is cut off."""


class LineFramer:
    r"""Cuts at `\n` alone and drops one `\r` before it; blank lines are no items. Nothing else ends a line."""

    def __init__(self, item_bytes_max: int) -> None:
        """Lines longer than `item_bytes_max` raise ItemTooLargeError."""
        self._item_bytes_max = item_bytes_max
        self._rest = b""
        self._position = 0
        self.line = 0
        """The number of the line yielded last, from 1; blank lines count."""

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Yield each line that the chunk completes."""
        *lines, rest = (self._rest + chunk).split(b"\n")
        self._rest = rest
        for line in lines:
            if item := self._item(line):
                yield item
        self._check(rest)

    def finish(self) -> Iterator[bytes]:
        """Yield the last line where no line feed ends it."""
        rest, self._rest = self._rest, b""
        if rest and (item := self._item(rest)):
            yield item

    def _item(self, line: bytes) -> bytes:
        """Return the item that a line is, or nothing where it is blank."""
        self._check(line)
        self.line += 1
        line = line.removesuffix(b"\r")
        if not line.strip(_BLANK):
            return b""
        self._position += 1
        return line

    def _check(self, line: bytes) -> None:
        if len(line) > self._item_bytes_max:
            raise ItemTooLargeError(f"is larger than {self._item_bytes_max} bytes", self._position)


class ArrayFramer:
    """Cuts a JSON array into its elements, each with its own bytes and without the blanks around it.

    It finds where elements end. Whoever reads an element checks that it is valid JSON.
    """

    def __init__(self, item_bytes_max: int) -> None:
        """Elements longer than `item_bytes_max` raise ItemTooLargeError."""
        self._item_bytes_max = item_bytes_max
        self._buffer = b""
        self._scanned = 0
        self._depth = 0
        self._position = 0
        self._expect: Callable[[int], _Step] = self._opening

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Yield each element that the chunk completes."""
        self._buffer += chunk
        start = self._skip_blank(0)
        while start < len(self._buffer) and (step := self._expect(start)) is not None:
            end, item = step
            start = self._skip_blank(end)
            if item is not None:
                self._check(len(item))
                self._position += 1
                yield item
        self._buffer = self._buffer[start:]
        self._check(len(self._buffer))

    def finish(self) -> Iterator[bytes]:
        """Yield nothing; raise FramingError unless the array has ended."""
        if self._expect != self._nothing:
            raise FramingError("the JSON array is cut off", self._position)
        yield from ()

    # Each step looks at the byte at `start`, which is not blank, and returns (where to go on, an element or None), or
    # None when it needs more bytes. It sets the step that comes after it.

    def _opening(self, start: int) -> _Step:
        if self._buffer[start] != ord("["):
            raise FramingError("must be a JSON array", self._position)
        self._expect = self._first
        return start + 1, None

    def _first(self, start: int) -> _Step:
        if self._buffer[start] == ord("]"):
            self._expect = self._nothing
            return start + 1, None
        return self._element(start)

    def _element(self, start: int) -> _Step:
        self._expect = self._element
        opening = self._buffer[start]
        if opening in b"{[":
            end = self._bracketed_end(start)
        elif opening in b",]}":
            raise FramingError("an element is missing", self._position)
        else:
            match = (_STRING if opening == ord('"') else _SCALAR).match(self._buffer, start)
            end = match.end() if match else None
        if end is None:
            return None
        self._expect = self._separator
        return end, self._buffer[start:end]

    def _separator(self, start: int) -> _Step:
        match self._buffer[start : start + 1]:
            case b",":
                self._expect = self._element
            case b"]":
                self._expect = self._nothing
            case _:
                raise FramingError("a comma or the end of the array is missing", self._position)
        return start + 1, None

    def _nothing(self, start: int) -> _Step:  # noqa: ARG002 - a step like the others
        raise FramingError("something follows the JSON array", self._position)

    def _skip_blank(self, start: int) -> int:
        match = _BLANKS.match(self._buffer, start)
        return match.end() if match else start

    def _bracketed_end(self, start: int) -> int | None:
        """Return where the element that opens at `start` ends, or None; remember how far the scan came."""
        if not self._scanned and (whole := _SHALLOW.match(self._buffer, start)):
            return whole.end()
        depth, scanned = self._depth, start + self._scanned
        while match := _TO_BRACKET.match(self._buffer, scanned):
            scanned = match.end()
            depth += 1 if match[1] in b"{[" else -1
            if depth == 0:
                self._depth = self._scanned = 0
                return scanned
        self._depth, self._scanned = depth, scanned - start
        return None

    def _check(self, size: int) -> None:
        if size > self._item_bytes_max:
            raise ItemTooLargeError(f"is larger than {self._item_bytes_max} bytes", self._position)
