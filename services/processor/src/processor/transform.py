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
from shared.contracts.failure import failure_reason
from shared.contracts.outcome import Problem, RecordStatus
from shared.contracts.payload import malformed_problem, names_member_twice, same_value

_JSON: Final = "application/json"
_CSV: Final = "text/csv"
# Many rows have one header; one that is longer than this is read again for each.
_HEADER_CHARS_MAX: Final = 4_096

# As a number: looked for as bytes it takes nine times as long.
_BACKSLASH: Final = ord("\\")
# An escaped U+0000: an odd number of backslashes, then u0000.
_NUL: Final = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")

# PostgreSQL's numeric holds this many digits after the point. More take an exponent of five digits or a long fraction.
_SCALE_MAX: Final = 16_383
_find_five_digits: Final = re.compile(rb"-[0-9]{5}").search
_SMALL: Final = re.compile(rb"e-[0-9]{5}")
_LONG_DIGITS: Final = 6_000
_LONG: Final = re.compile(rb"(?<![0-9])[0-9]{%d}" % _LONG_DIGITS)
# And before it so many. The parser refuses what is beyond a float, but reads an exponent beyond 9,999 as another one:
# so it takes a number with as many zeros after the point.
_WHOLE_MAX: Final = 131_072
# It takes no larger exponent, whatever it is of: that of a zero makes it no other number.
_EXPONENT_MAX: Final = 2**30 - 1
_find_large: Final = re.compile(rb"(?i:0e)\+?[0-9]{10}").search

# A body of many values takes up to 70 times its size while it is read: this bounds it at some 40 MB.
_VALUES_MAX: Final = 500_000
_MANY_BYTES: Final = 1024 * 1024
# Two are read at once to be compared, and their numbers take more.
_COMPARED_VALUES_MAX: Final = 100_000
_COMPARED_BYTES_MAX: Final = 4 * 1024 * 1024
# Other blanks and escapes make a body several times as long, and no more: so what is read to be compared is a multiple
# of what was sent, and not whatever is stored.
_ALWAYS_COMPARED_BYTES: Final = 64 * 1024
_TIMES_LONGER_MAX: Final = 16

# What reading a body may end with.
_READ_ERRORS: Final = (UnicodeDecodeError, RecursionError, ArithmeticError, msgspec.DecodeError)


def _check_number(text: str) -> None:
    """Raise ValueError where PostgreSQL's numeric does not take a number that is no integer."""
    mantissa, _, exponent = text.lower().partition("e")
    whole, _, fraction = mantissa.lstrip("-").partition(".")
    power = int(exponent or 0)
    digits = len((whole + fraction).lstrip("0"))
    if (
        power > _EXPONENT_MAX
        or len(fraction) - power > _SCALE_MAX
        or (digits and digits - len(fraction) + power > _WHOLE_MAX)
    ):
        raise ValueError("beyond numeric")


_read_values = msgspec.json.Decoder().decode
_read_exactly = msgspec.json.Decoder(float_hook=Decimal).decode
_check_numbers = msgspec.json.Decoder(float_hook=_check_number).decode


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
        # Most events are JSON, and need not be asked.
        if event.content_type != _JSON:
            if event.content_type.startswith(_CSV):
                return Draft(RecordStatus.SUCCESS, msgspec.json.encode(_read_row(event.body, event.content_type)))
            if (reason := failure_reason(event.content_type)) is not None:
                return failed(reason)
        _check_object(event.body)
    except UnreadableError as error:
        return failed(str(error))
    except _READ_ERRORS as error:
        return failed(_reason(event.body, error))
    return _UNCHANGED


def failed(detail: str) -> Draft:
    """Return the record of an event that could not be processed as a whole."""
    return Draft(RecordStatus.FAILED, errors=(Problem("", detail),))


def may_be_same(one_bytes: int, other_bytes: int) -> bool:
    """Return False where bodies of these sizes are too large, or too far apart, to be the same in other bytes."""
    shorter, longer = sorted((one_bytes, other_bytes))
    return longer <= min(max(_ALWAYS_COMPARED_BYTES, _TIMES_LONGER_MAX * shorter), _COMPARED_BYTES_MAX)


def same_payload(event: Envelope, content_type: str, body: bytes) -> bool:
    """Return True where two bodies are the same event content: equal bytes, else equal JSON values.

    Numbers compare by value and exactly (1.10 equals 1.1, 0.1 does not equal 0.1000000000000000055); true is not 1. A
    body that names a member twice has no value that all readers agree on, so it equals its own bytes only; and so does
    one that is very large.
    """
    if event.body == body:
        return True
    if not may_be_same(len(event.body), len(body)):
        return False
    try:
        one, other = _exact_payload(event.content_type, event.body), _exact_payload(content_type, body)
    except (UnreadableError, *_READ_ERRORS):
        return False
    return (
        same_value(one, other)
        and not _names_twice(one, event.content_type, event.body)
        and not _names_twice(other, content_type, body)
    )


def _check_object(body: bytes) -> None:
    """Return where the body is a JSON object that PostgreSQL can hold.

    Each event comes by here: the looks are the cheapest that tell, and most payloads need no second one.

    Raises:
        UnreadableError: it is not. So do those of _READ_ERRORS.
    """
    if len(body) > _LONG_DIGITS:
        _check_large(body)
    if not isinstance(_read_values(body), dict):
        raise UnreadableError("must be a JSON object")
    if _BACKSLASH in body and _NUL.search(body):
        raise UnreadableError("holds U+0000, which PostgreSQL text cannot")
    if _find_large(body) or (_find_five_digits(body) and _SMALL.search(body.lower())):
        _check_numbers(body)


def _check_large(body: bytes) -> None:
    """Raise UnreadableError where a body holds more than can be read, or a longer number than PostgreSQL can hold."""
    if len(body) > _MANY_BYTES and _values_at_most(body) > _VALUES_MAX:
        raise UnreadableError("holds too many values")
    if _LONG.search(body):
        _check_numbers(body)


def _values_at_most(body: bytes) -> int:
    return body.count(b",") + body.count(b"[") + body.count(b"{")


def _exact_payload(content_type: str, body: bytes) -> Any:  # noqa: ANN401 - any JSON value
    if content_type.startswith(_CSV):
        return _read_row(body, content_type)
    if _values_at_most(body) > _COMPARED_VALUES_MAX:
        raise UnreadableError("holds too many values")
    return _read_exactly(body)


def _names_twice(payload: Any, content_type: str, body: bytes) -> bool:  # noqa: ANN401 - any JSON value
    return not content_type.startswith(_CSV) and names_member_twice(body, payload)


def _reason(body: bytes, error: Exception) -> str:
    """Return what is wrong with a body that could not be read, which ended with `error`."""
    match error:
        case UnicodeDecodeError():
            return "must be UTF-8"
        case RecursionError():
            return "is nested too deeply"
        case msgspec.ValidationError() | ArithmeticError():
            return "holds a number out of range"
        case msgspec.DecodeError():
            return malformed_problem(body, error)
        case _:
            return "must be valid JSON"


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
