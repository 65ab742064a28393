"""Quotes in CSV records (RFC 4180), and reading the fields of a record. Pure."""

import csv
import enum
import re
from functools import lru_cache
from typing import Self

from shared.contracts.csv_row import Dialect


class RecordReader:
    """Reads CSV records. A new library reader for each record would take longer than reading it."""

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
        """Iterate over the lines for the library's reader."""
        return self

    def __next__(self) -> str:
        """Return the record that `read` was called with, and end."""
        if not self._waiting:
            raise StopIteration
        return self._waiting.pop()

    def read(self, record: bytes) -> list[str]:
        """Return the fields of one record. Raises csv.Error or UnicodeDecodeError."""
        self._waiting.append(record.decode(self._charset))
        return next(self._reader, [])


class Quotes(enum.Enum):
    """The state of a record's quotes after a line."""

    CLOSED = enum.auto()
    OPEN = enum.auto()
    WRONG = enum.auto()


class QuoteRules:
    """A quoted field begins and ends at a delimiter, or at the begin or end of the record."""

    def __init__(self, delimiter: str, quote: str) -> None:
        """`quote` is not empty."""
        mark, cut = re.escape(quote.encode()), re.escape(delimiter.encode())
        inside = rb"(?:[^%b]++|%b%b)*+" % (mark, mark, mark)
        field = rb"(?:%b%b%b|[^%b%b\r\n]*+)" % (mark, inside, mark, mark, cut)
        rest = rb"(?:%b%b)*+(?:(?P<open>%b%b)\Z|%b\r?\n?\Z)" % (field, cut, mark, inside, field)
        self._whole = re.compile(rest)
        self._goes_on = re.compile(rb"%b(?:(?P<still>\Z)|%b(?:\r?\n?\Z|%b%b))" % (inside, mark, cut, rest))

    def begin(self, line: bytes) -> Quotes:
        """Return the state after the first line of a record."""
        match = self._whole.match(line)
        if match is None:
            return Quotes.WRONG
        return Quotes.CLOSED if match["open"] is None else Quotes.OPEN

    def go_on(self, line: bytes) -> Quotes:
        """Return the state after a line that begins within quotes."""
        match = self._goes_on.match(line)
        if match is None:
            return Quotes.WRONG
        return Quotes.CLOSED if match["open"] is None and match["still"] is None else Quotes.OPEN


@lru_cache(maxsize=64)
def quote_rules(delimiter: str, quote: str) -> QuoteRules:
    """Return the cached rules; compiling them takes longer than reading a small file."""
    return QuoteRules(delimiter, quote)


def is_well_quoted(record: bytes, dialect: Dialect) -> bool:
    """Return True where each quote begins a field, ends one, or is doubled within one."""
    return not dialect.quote or quote_rules(dialect.delimiter, dialect.quote).begin(record) is Quotes.CLOSED
