"""Cutting the lines of a CSV file into records (RFC 4180), and reading their fields. Pure."""

import csv
import enum
import re
from collections import deque
from collections.abc import Iterator
from functools import lru_cache
from typing import Final, Self

from file_watcher.formats.file_format import SETTING
from file_watcher.formats.rows import Line, Piece, Reject, Row, Skipped, too_large
from shared.contracts.csv_row import Dialect

NO_LINE_END: Final = (
    f'has no line end, so it may be cut off; last_row = "accept" for its source in {SETTING} takes such rows'
)
_OPEN_AT_END: Final = "a quote is opened here and the file ends before it is closed, so it may be cut off"
_NOT_CLOSED: Final = "a quote is not closed"

# A record with line feeds in its quotes is short. Without this an open quote would hold megabytes of tiny lines.
_RECORD_LINES_MAX: Final = 10_000


class RecordReader:
    """Reads one CSV record after the other. Making a reader for each record took longer than reading it."""

    def __init__(self, dialect: Dialect) -> None:
        """Not for several threads at once."""
        self._charset = dialect.charset
        self._waiting: list[str] = []
        self._reader = csv.reader(
            self,
            strict=True,
            delimiter=dialect.delimiter,
            quotechar=dialect.quote or None,
            quoting=csv.QUOTE_MINIMAL if dialect.quote else csv.QUOTE_NONE,
        )

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
        self._waiting.append(record.decode(self._charset))
        return next(self._reader, [])


class Quotes(enum.Enum):
    """How the quotes of a line leave the record that it belongs to."""

    CLOSED = enum.auto()
    OPEN = enum.auto()
    WRONG = enum.auto()


class QuoteRules:
    """Where a quoted field begins and ends: at a delimiter or at the record's, and nowhere else."""

    def __init__(self, delimiter: str, quote: str) -> None:
        """Of one way to write records; `quote` is not empty."""
        mark, cut = re.escape(quote.encode()), re.escape(delimiter.encode())
        inside = rb"(?:[^%b]++|%b%b)*+" % (mark, mark, mark)
        field = rb"(?:%b%b%b|[^%b%b\r\n]*+)" % (mark, inside, mark, mark, cut)
        rest = rb"(?:%b%b)*+(?:(?P<open>%b%b)\Z|%b\r?\n?\Z)" % (field, cut, mark, inside, field)
        self._whole = re.compile(rest)
        self._goes_on = re.compile(rb"%b(?:(?P<still>\Z)|%b(?:\r?\n?\Z|%b%b))" % (inside, mark, cut, rest))

    def begin(self, line: bytes) -> Quotes:
        """Return how the first line of a record leaves it."""
        match = self._whole.match(line)
        if match is None:
            return Quotes.WRONG
        return Quotes.CLOSED if match["open"] is None else Quotes.OPEN

    def go_on(self, line: bytes) -> Quotes:
        """Return how a line that begins within quotes leaves the record."""
        match = self._goes_on.match(line)
        if match is None:
            return Quotes.WRONG
        return Quotes.CLOSED if match["open"] is None and match["still"] is None else Quotes.OPEN


@lru_cache(maxsize=64)
def quote_rules(delimiter: str, quote: str) -> QuoteRules:
    """Return the rules of one way to write records; compiling them takes longer than reading a small file."""
    return QuoteRules(delimiter, quote)


def is_well_quoted(record: bytes, dialect: Dialect) -> bool:
    """Return True where each quote begins a field, ends one, or is doubled within one."""
    return not dialect.quote or quote_rules(dialect.delimiter, dialect.quote).begin(record) is Quotes.CLOSED


class RecordCutter:
    """Cuts one record after the other out of lines, in constant memory."""

    def __init__(
        self, lines: Iterator[Line], dialect: Dialect, row_bytes_max: int, *, complete: bool, last_row_counts: bool
    ) -> None:
        """`complete=False`: somebody may still be writing, so what may grow is no record yet, and no reject.

        `last_row_counts`: also a last record without its line end is one.
        """
        self._lines = lines
        self._held: deque[Line] = deque()
        self._dialect = dialect
        self._row_bytes_max = row_bytes_max
        self._complete = complete
        self._last_row_counts = last_row_counts
        self._blank = b" \t\r\n\v\f" + dialect.delimiter.encode()
        # No line holds two line feeds: without a quote nothing is one.
        self._quote = dialect.quote.encode() or b"\n\n"
        self._skipped = 0

    def records(self) -> Iterator[Piece]:
        """Yield each record; last how many rows held only delimiters, blanks, or nothing, if any."""
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
        """Tell whether each field is empty; programs that quote every field do so with empty ones too."""
        fields = line.rstrip(b"\r\n").split(self._dialect.delimiter.encode())
        return all(not field.strip() or field == self._quote + self._quote for field in fields)

    def _ended(self, number: int, record: bytes) -> Row | Reject | None:
        """Return a record that goes up to the end of its last line."""
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

        Where the quote can be none that a later line closes it costs its own line only. Where the file ends before it
        is closed, all lines from there on may be its text, and none of them counts.
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
