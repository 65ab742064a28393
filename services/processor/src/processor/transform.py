"""Transform: what processing makes of one event. Pure, and the only place that parses a payload.

This version is the identity with checks of validity: a payload that can be read is its own result.
"""

import csv
import re
from collections.abc import Iterator, Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final

import msgspec

from shared.contracts.csv_row import CSV_ROW, Dialect, dialect_of
from shared.contracts.event import Envelope
from shared.contracts.outcome import Problem, RecordStatus
from shared.contracts.payload import malformed_problem, same_value

_JSON: Final = "application/json"
_CSV: Final = "text/csv"
# Many rows have one header; one that is longer than this is read again for each.
_HEADER_CHARS_MAX: Final = 4_096

# An escaped U+0000: an odd number of backslashes, then u0000.
_NUL: Final = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")

# PostgreSQL's numeric holds this many digits after the point. More take an exponent of five digits or a long fraction.
_SCALE_MAX: Final = 16_383
_FIVE_DIGITS: Final = re.compile(rb"-[0-9]{5}")
_SMALL: Final = re.compile(rb"e-[0-9]{5}")
_LONG_DIGITS: Final = 6_000
_LONG: Final = re.compile(rb"(?<![0-9])[0-9]{%d}" % _LONG_DIGITS)

_read_values = msgspec.json.Decoder().decode
_read_exactly = msgspec.json.Decoder(float_hook=Decimal).decode


class Draft(msgspec.Struct, frozen=True, gc=False):
    """A record before it is stored. `result` is JSON; None: equal to the body, or there is none."""

    status: RecordStatus
    result: bytes | None = None
    errors: tuple[Problem, ...] = ()


class UnreadableError(ValueError):
    """The body holds no payload that could be processed; the message says why, without a value."""


_UNCHANGED: Final = Draft(RecordStatus.SUCCESS)


def transform(event: Envelope) -> Draft:
    """Return the record that the event becomes; never raises because of its content."""
    try:
        if event.content_type != _JSON and event.content_type.startswith(_CSV):
            return Draft(RecordStatus.SUCCESS, msgspec.json.encode(_read_row(event.body, event.content_type)))
        _check_object(event.body)
    except UnreadableError as error:
        return failed(str(error))
    return _UNCHANGED


def failed(detail: str) -> Draft:
    """Return the record of an event that could not be processed as a whole."""
    return Draft(RecordStatus.FAILED, errors=(Problem("", detail),))


def same_payload(event: Envelope, content_type: str, body: bytes) -> bool:
    """Return True where two bodies are the same event content: equal bytes, else equal JSON values.

    Numbers compare by value and exactly (1.10 equals 1.1, 0.1 does not equal 0.1000000000000000055); true is not 1.
    """
    if event.body == body:
        return True
    try:
        return same_value(_exact_payload(event.content_type, event.body), _exact_payload(content_type, body))
    except UnreadableError:
        return False


def _check_object(body: bytes) -> None:
    """Raise UnreadableError unless the body is a JSON object that PostgreSQL can hold."""
    if not isinstance(_decode(_read_values, body), dict):
        raise UnreadableError("must be a JSON object")
    if b"\\" in body and _NUL.search(body):
        raise UnreadableError("holds U+0000, which PostgreSQL text cannot")
    if _may_be_long(body) and not _fits_numeric(_decode(_read_exactly, body)):
        raise UnreadableError("holds a number out of range")


def _may_be_long(body: bytes) -> bool:
    """Tell cheaply whether a number in it may have more digits than PostgreSQL can hold."""
    # Most payloads end at the first look, which spares them the second.
    if _FIVE_DIGITS.search(body) and _SMALL.search(body.lower()):
        return True
    return len(body) > _LONG_DIGITS and _LONG.search(body) is not None


def _fits_numeric(payload: Any) -> bool:  # noqa: ANN401 - any JSON value
    """Return False where a number in it has more digits after the point than PostgreSQL can hold."""
    waiting = [payload]
    while waiting:
        match waiting.pop():
            case dict() as members:
                waiting += members.values()
            case list() as elements:
                waiting += elements
            case Decimal() as number if int(number.as_tuple().exponent) < -_SCALE_MAX:
                return False
    return True


def _exact_payload(content_type: str, body: bytes) -> Any:  # noqa: ANN401 - any JSON value
    return _read_row(body, content_type) if content_type.startswith(_CSV) else _decode(_read_exactly, body)


def _decode(read: Any, body: bytes) -> Any:  # noqa: ANN401 - any JSON value
    try:
        return read(body)
    except UnicodeDecodeError as error:
        raise UnreadableError("must be UTF-8") from error
    except RecursionError as error:
        raise UnreadableError("is nested too deeply") from error
    except (msgspec.ValidationError, ArithmeticError) as error:
        raise UnreadableError("holds a number out of range") from error
    except msgspec.DecodeError as error:
        raise UnreadableError(malformed_problem(body, error)) from error


def _read_row(body: bytes, content_type: str) -> dict[str, str]:
    """Return a CSV document of a header and one row as an object of strings: no value is guessed, none is rounded.

    The names are those of the header without the blanks around them.
    """
    dialect = dialect_of(content_type)
    if dialect is None:
        raise UnreadableError(f"must have the content type {CSV_ROW} and no parameters but those known for rows")
    try:
        text = body.decode(dialect.charset)
    except UnicodeDecodeError as error:
        raise UnreadableError(f"must be {dialect.charset.upper()}") from error
    names, row = _cut_row(text, dialect)
    if len(names) != len(row):
        raise UnreadableError("has another number of fields than its header")
    if "\x00" in text:
        raise UnreadableError("holds U+0000, which PostgreSQL text cannot")
    return dict(zip(names, row, strict=True))


def _cut_row(text: str, dialect: Dialect) -> tuple[Sequence[str], list[str]]:
    """Return the names and the fields of a CSV document of a header and one row. Raises UnreadableError."""
    header, ended, row = text.partition("\n")
    try:
        if not ended or not _is_plain(header, dialect):
            fields, cut = _records(text, dialect)
            return _unique(fields), cut
        names = (_short_names if len(header) <= _HEADER_CHARS_MAX else _names)(header, dialect.delimiter)
        if _is_plain(row, dialect):
            return names, row.split(dialect.delimiter)
        (cut,) = _records(row, dialect)
    except UnreadableError:
        raise
    except (csv.Error, ValueError) as error:
        raise UnreadableError("must be a CSV header and one row") from error
    return names, cut


def _is_plain(record: str, dialect: Dialect) -> bool:
    """Return True where a delimiter in the record can only mean one thing."""
    if not record or "\n" in record or "\r" in record:
        return False
    return not dialect.quote or dialect.quote not in record


def _records(text: str, dialect: Dialect) -> Iterator[list[str]]:
    """Return a reader of the records of a text."""
    # A field may be as long as the row; the row is as long as its door let it be.
    csv.field_size_limit(len(text) + 1)
    # Cut at line feeds alone, and each kept: one in quotes belongs to its value.
    return csv.reader(
        (f"{line}\n" for line in text.split("\n")),
        strict=True,
        delimiter=dialect.delimiter,
        quotechar=dialect.quote or None,
        quoting=csv.QUOTE_MINIMAL if dialect.quote else csv.QUOTE_NONE,
    )


def _names(header: str, delimiter: str) -> tuple[str, ...]:
    return _unique(header.split(delimiter))


_short_names = lru_cache(maxsize=256)(_names)


def _unique(header: Sequence[str]) -> tuple[str, ...]:
    """Return the names of a header without the blanks around them, or with them where only these tell two apart."""
    names = tuple(name.strip() for name in header)
    if len(set(names)) < len(names):
        names = tuple(header)
    if len(set(names)) < len(names):
        raise UnreadableError("has a header that names a column twice")
    return names
