"""Reads the rows of a file: the fields of a CSV record, the payload of a JSON row, and the own id of each. Pure."""

import csv
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final, NoReturn

import msgspec

from shared.contracts.errors import InvalidEventError, Problem
from shared.contracts.event import ID_CHARS_MAX, id_problem
from shared.contracts.payload import malformed_problem
from shared.files.columns import Columns, NoData, RowScreen
from shared.files.file_format import SETTING
from shared.files.quoting import RecordReader, is_well_quoted
from shared.files.rows import UnreadableError

_STRAY_QUOTE: Final = (
    "has a quote within a field that does not begin with one; quote the whole field and double the quotes in it, or, "
    f'where quotes are characters like others, say quote = "" for its source in {SETTING}'
)
_NO_OBJECT: Final = "must be a JSON object"
_HOLDS_NUL: Final = "holds U+0000, which PostgreSQL text cannot"
# As a number: to search it as bytes takes nine times as long.
_BACKSLASH: Final = ord("\\")
# An escaped U+0000: an odd number of backslashes, then u0000.
_NUL: Final = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")

_read_exactly = msgspec.json.Decoder(float_hook=Decimal).decode


class JsonRowReader:
    """Reads rows that are JSON objects."""

    def __init__(self, id_field: str) -> None:
        """`id_field`: the member that holds a row's own id."""
        self._pointer = _pointer(id_field)
        # Only the id becomes a value; the rest is checked to be JSON and skipped.
        own = msgspec.defstruct("OwnId", [("value", str | int | None, None)], rename={"value": id_field}, gc=False)
        self._decode: Callable[[bytes], Any] = msgspec.json.Decoder(own).decode

    def own_id(self, body: bytes) -> str:
        """Return the row's own id; empty: it has none. Raises InvalidEventError."""
        try:
            own = self._decode(body).value
            # The decoder passes over strings that it skips without looking at their encoding.
            if not body.isascii():
                body.decode()
        except UnicodeDecodeError:
            _refuse("", "must be UTF-8")
        except RecursionError:
            _refuse("", "is nested too deeply")
        except msgspec.ValidationError:
            if not body.lstrip().startswith(b"{"):
                _refuse("", _NO_OBJECT)
            _refuse(self._pointer, "must be a string or an integer")
        except msgspec.DecodeError as error:
            _refuse("", malformed_problem(body, error))
        return "" if own is None else _checked_id(own if isinstance(own, str) else _digits(own), self._pointer)

    def payload(self, body: bytes) -> dict[str, Any]:
        """Return the object of a row whose id was read; numbers are int or Decimal. Raises InvalidEventError."""
        try:
            payload = _read_exactly(body)
        except RecursionError:
            _refuse("", "is nested too deeply")
        except (msgspec.ValidationError, ArithmeticError):
            _refuse("", "holds a number out of range")
        except (UnicodeDecodeError, msgspec.DecodeError):
            _refuse("", "must be valid JSON")
        if not isinstance(payload, dict):
            _refuse("", _NO_OBJECT)
        if _BACKSLASH in body and _NUL.search(body):
            _refuse("", _HOLDS_NUL)
        return payload


class CsvRowReader:
    """Reads records of one CSV file. Not for several threads at once."""

    def __init__(self, columns: Columns, screen: RowScreen) -> None:
        """`screen` finds rows that are no data."""
        dialect = columns.dialect
        self._dialect = dialect
        self._charset = dialect.charset
        self._delimiter = dialect.delimiter
        self._reader = RecordReader(dialect)
        # No record without a quote holds a line feed.
        self._quote = dialect.quote.encode() or b"\n"
        self._fields = len(columns.names)
        self._index = columns.id_index
        self._pointer = _pointer("" if columns.id_index is None else columns.names[columns.id_index])
        self._screen = screen
        self._firsts = screen.firsts

    def own_id(self, record: bytes) -> str:
        """Return the row's own id; empty: it has none. Raises as `fields`."""
        fields = self._read(record)
        if len(fields) != self._fields or fields[0] in self._firsts:
            self._check(fields)
        own = fields[self._index] if self._index is not None else ""
        return own and _checked_id(own, self._pointer)

    def fields(self, record: bytes) -> list[str]:
        """Return the fields of a row, one for each column, after the checks of `own_id`.

        Raises:
            InvalidEventError: the row cannot be an event, or not be stored.
            UnreadableError: from this row on nothing can be read.
        """
        fields = self._read(record)
        if len(fields) != self._fields or fields[0] in self._firsts:
            self._check(fields)
        if self._index is not None and (own := fields[self._index]):
            _checked_id(own, self._pointer)
        if b"\x00" in record:
            _refuse("", _HOLDS_NUL)
        return fields

    def _read(self, record: bytes) -> list[str]:
        try:
            # Without quotes and carriage returns a delimiter can only mean one thing.
            if self._quote not in record and b"\r" not in record:
                return record.decode(self._charset).split(self._delimiter)
            fields = self._reader.read(record)
        except UnicodeDecodeError:
            _refuse("", f"must be {self._dialect.charset.upper()}, or what `encoding` says for its source in {SETTING}")
        except csv.Error:
            _refuse("", "is not valid CSV")
        # The reader takes a quote within a field as a character; other programs take it as the begin of a quoted text.
        if self._dialect.quote in "".join(fields) and not is_well_quoted(record, self._dialect):
            _refuse("", _STRAY_QUOTE)
        return fields

    def _check(self, fields: list[str]) -> None:
        """Refuse a row of another number of fields, or that is no data.

        Raises UnreadableError where the rows after it have other columns.
        """
        if len(fields) != self._fields:
            _refuse("", f"has {len(fields)} fields where the header has {self._fields}")
        match self._screen.find(fields):
            case NoData.HEADER_AGAIN:
                _refuse("", "is the header once more, as in files that were put one after the other")
            case NoData.OTHER_HEADER:
                raise UnreadableError("another header begins, as in files that were put one after the other")
            case NoData.TOTAL:
                _refuse("", f'looks like a total; total_line = "accept" for its source in {SETTING} takes such rows')


def reason_of(error: InvalidEventError) -> str:
    """Return why a row was refused, in one line, without its values."""
    return "; ".join(f"{problem.pointer} {problem.detail}".lstrip() for problem in error.problems)


def _pointer(name: str) -> str:
    return "/" + name.replace("~", "~0").replace("/", "~1")


def _digits(own: int) -> str:
    # An id is short; Python refuses to write out integers of some thousand digits.
    return str(own) if abs(own) < 10**ID_CHARS_MAX else ""


def _checked_id(own: str, pointer: str) -> str:
    problem = id_problem(own)
    if problem:
        _refuse(pointer, problem)
    return own


def _refuse(pointer: str, detail: str) -> NoReturn:
    raise InvalidEventError([Problem(pointer, detail)]) from None
