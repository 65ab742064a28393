"""Transform: makes the record of one event. Pure.

This version is the identity with checks of validity: a payload that can be read is its own result.
"""

import re
from typing import Final

import msgspec

from processor.ledger.rows import Processed, failed
from processor.payload import CSV, READ_ERRORS, UnreadableError, read_row, values_at_most
from shared.contracts.event import Envelope
from shared.contracts.failure import failure_reason
from shared.contracts.media_types import JSON
from shared.contracts.payload import check_utf8, malformed_problem, without_texts
from shared.contracts.result import RecordStatus

# As a number: to search it as bytes takes nine times as long.
_BACKSLASH: Final = ord("\\")
# An escaped U+0000: an odd number of backslashes, then u0000.
_NUL: Final = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")

# PostgreSQL's numeric holds this many digits after the point. More take an exponent of five digits or a long fraction.
_SCALE_MAX: Final = 16_383
_find_five_digits: Final = re.compile(rb"-[0-9]{5}").search
_SMALL: Final = re.compile(rb"e-[0-9]{5}")
_LONG_DIGITS: Final = 6_000
_LONG: Final = re.compile(rb"(?<![0-9])[0-9]{%d}" % _LONG_DIGITS)
# And so many before the point. The parser refuses numbers beyond a float, but it misreads exponents beyond 9,999, so it
# lets pass a number with as many zeros after the point.
_WHOLE_MAX: Final = 131_072
# numeric takes no larger exponent, not even of a zero.
_EXPONENT_MAX: Final = 2**30 - 1
_find_large: Final = re.compile(rb"(?i:0e)\+?[0-9]{10}").search

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


_read_values = msgspec.json.Decoder().decode
_scan = msgspec.json.Decoder(msgspec.Raw).decode
_check_numbers = msgspec.json.Decoder(float_hook=_check_number).decode


def transform(event: Envelope, *, acknowledged: bool = False) -> Processed:
    """Return the event with the record that it becomes; never raises because of its content.

    `acknowledged`: see `Processed`.
    """
    try:
        # Most events are JSON: they need no further look at the content type.
        if event.content_type != JSON:
            if event.content_type.startswith(CSV):
                result = msgspec.json.encode(read_row(event.body, event.content_type))
                return Processed(event, RecordStatus.SUCCESS, result, acknowledged=acknowledged)
            if (reason := failure_reason(event.content_type)) is not None:
                return failed(event, reason, acknowledged=acknowledged)
        _check_object(event.body)
    except UnreadableError as error:
        return failed(event, str(error), acknowledged=acknowledged)
    except READ_ERRORS as error:
        return failed(event, _reason(event.body, error), acknowledged=acknowledged)
    return Processed(event, RecordStatus.SUCCESS, acknowledged=acknowledged)


def _check_object(body: bytes) -> None:
    """Check that the body is a JSON object that PostgreSQL can hold.

    This runs for each event: cheap searches come first, and most payloads need no other.

    Raises:
        UnreadableError: it is not. Otherwise one of READ_ERRORS.
    """
    values = body if len(body) <= _LONG_DIGITS else _check_large(body)
    if not isinstance(_read_values(values), dict):
        raise UnreadableError("must be a JSON object")
    if _BACKSLASH in body and _NUL.search(body):
        raise UnreadableError("holds U+0000, which PostgreSQL text cannot")
    if _find_large(values) or (_find_five_digits(values) and _SMALL.search(values.lower())):
        _check_numbers(values)


def _check_large(body: bytes) -> bytes:
    """Return the body, without its texts where they would take much memory; they were checked then.

    Raises as `_check_object`: it holds more values than can be read, or a longer number than PostgreSQL can hold.
    """
    values = body
    if len(body) > _MANY_BYTES:
        if values_at_most(body) > _VALUES_MAX:
            raise UnreadableError("holds too many values")
        _scan(body)
        check_utf8(body)
        values = without_texts(body)
    if _LONG.search(values):
        _check_numbers(values)
    return values


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
