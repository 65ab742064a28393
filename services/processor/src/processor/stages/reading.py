"""Reads the bodies of events: which payloads PostgreSQL can hold, and what is wrong with the others. Pure."""

import math
import re
from decimal import Decimal
from typing import Any, Final

import msgspec

from processor.payload import values_at_most
from shared.contracts.csv_reading import UnreadableError
from shared.contracts.payload import check_utf8, malformed_problem, without_texts

# The codes of what keeps an event from being read, with or without a pipeline. There are no others.
UNREADABLE: Final = "unreadable"
NOT_OBJECT: Final = "not_object"

NO_OBJECT: Final = "must be a JSON object"
HOLDS_NUL: Final = "holds U+0000, which PostgreSQL text cannot"

# As a number: to search it as bytes takes nine times as long.
BACKSLASH: Final = ord("\\")
# An escaped U+0000: an odd number of backslashes, then u0000.
find_nul: Final = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000").search

# PostgreSQL's numeric holds this many digits after the point. More take an exponent of five digits or a long fraction.
_SCALE_MAX: Final = 16_383
find_five_digits: Final = re.compile(rb"-[0-9]{5}").search
SMALL: Final = re.compile(rb"e-[0-9]{5}")
LONG_DIGITS: Final = 6_000
_LONG: Final = re.compile(rb"(?<![0-9])[0-9]{%d}" % LONG_DIGITS)
# And so many before the point. The parser refuses numbers beyond a float, but it misreads exponents beyond 9,999, so it
# lets pass a number with as many zeros after the point.
_WHOLE_MAX: Final = 131_072
# numeric takes no larger exponent, not even of a zero.
_EXPONENT_MAX: Final = 2**30 - 1
find_large: Final = re.compile(rb"(?i:0e)\+?[0-9]{10}").search
# A number with fewer digits, before the point and after it, is within all of these.
_FEW_DIGITS: Final = 300

# A body of many values takes up to 70 times its size while it is read: this bounds it at some 40 MB.
_VALUES_MAX: Final = 500_000
_MANY_BYTES: Final = 1024 * 1024


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


def _exact_number(text: str) -> Decimal:
    """Return a number that is no integer, exactly. Raises ValueError, or ArithmeticError: PostgreSQL cannot hold it."""
    number = Decimal(text)
    if len(text) > _FEW_DIGITS or not -_FEW_DIGITS < number.adjusted() < _FEW_DIGITS:
        _check_number(text)
        if math.isinf(float(text)):
            raise ValueError("beyond a float")
    return number


_scan = msgspec.json.Decoder(msgspec.Raw).decode
check_numbers = msgspec.json.Decoder(float_hook=_check_number).decode
"""Reads JSON; raises `msgspec.ValidationError` where it holds a number that PostgreSQL's numeric does not take."""
_read_exactly = msgspec.json.Decoder(float_hook=_exact_number).decode


def read_object(body: bytes) -> dict[str, Any]:
    """Return the JSON object that a body holds, with exact numbers.

    It refuses what `transform` refuses where no pipeline reads the body. Raises UnreadableError, or one of READ_ERRORS.
    """
    if len(body) > LONG_DIGITS:
        check_large(body)
    payload = _read_exactly(body)
    if not isinstance(payload, dict):
        raise UnreadableError(NO_OBJECT)
    if BACKSLASH in body and find_nul(body):
        raise UnreadableError(HOLDS_NUL)
    return payload


def unreadable_reason(body: bytes, error: Exception) -> str:
    """Return what is wrong with a body that could not be read, which ended with `error`."""
    match error:
        case UnreadableError():
            return str(error)
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


def code_of(reason: str) -> str:
    """Return the code of a reason that `unreadable_reason` gives."""
    return NOT_OBJECT if reason == NO_OBJECT else UNREADABLE


def check_large(body: bytes) -> bytes:
    """Return the body, without its texts where they would take much memory; they were checked then.

    Raises UnreadableError, or one of READ_ERRORS: it holds more values than can be read, or a longer number than
    PostgreSQL can hold.
    """
    values = body
    if len(body) > _MANY_BYTES:
        if values_at_most(body) > _VALUES_MAX:
            raise UnreadableError("holds too many values")
        _scan(body)
        check_utf8(body)
        values = without_texts(body)
    if _LONG.search(values):
        check_numbers(values)
    return values
