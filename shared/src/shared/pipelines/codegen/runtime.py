"""What the generated code calls: conversions that are too long to be written into it. Pure.

A conversion that can fail in several ways returns the code of the problem, a text, instead of a value.
"""

import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Final
from uuid import UUID

import msgspec

from shared.pipelines.program import Amount, Value
from shared.pipelines.values.masking import is_index
from shared.pipelines.values.money import whole_of_text

DECIMAL_DIGITS_MAX: Final = 1_000
"""Digits of a decimal before the point, and after it."""

_FEW_DIGITS: Final = DECIMAL_DIGITS_MAX // 2
INTEGER_MIN: Final = -(2**63)
INTEGER_MAX: Final = 2**63 - 1
_DIGITS_AT_ONCE: Final = 20
_TEXT_CHARS_MAX: Final = 4_000
_BITS_MAX: Final = 4_000
_AMOUNT_DIGITS_MAX: Final = 40
_OUT_OF_RANGE: Final = 10**40
_JSON_DIGITS_MAX: Final = 131_072
_JSON_DECIMALS_MAX: Final = 16_383
_INTEGER: Final = re.compile(r"-?[0-9]+", re.ASCII)
_DECIMAL: Final = re.compile(r"-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,4})?", re.ASCII)
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", re.ASCII)
_ENCODER: Final = msgspec.json.Encoder(decimal_format="number")
_NUL: Final = b"\\u0000"

Element = tuple[int, str | None, object]


def elements(value: object) -> Iterable[Element]:
    """Return the index, key and value of each element of an array, or member of an object; of others nothing."""
    if type(value) is list:
        return ((index, None, each) for index, each in enumerate(value))
    if type(value) is dict:
        return ((index, key, each) for index, (key, each) in enumerate(value.items()))
    return ()


def columns(header: Sequence[str], row: Sequence[str]) -> Iterable[Element]:
    """Return the number, name and text of each column of a CSV row."""
    return ((index, name, cell) for index, (name, cell) in enumerate(zip(header, row, strict=True)))


def member(array: list[object], step: str) -> object:
    """Return the element of an array that a step of a pointer names, or None."""
    return array[int(step)] if is_index(step, len(array)) else None


def moment_text(moment: datetime | None) -> str | None:
    """Return a moment as RFC 3339."""
    return None if moment is None else moment.isoformat().replace("+00:00", "Z")


def integer_of_text(text: str) -> int | None:
    """Return a whole number, or None where the text is none. One of thousands of digits is out of every range."""
    if len(text) < _DIGITS_AT_ONCE and text.isdigit() and text.isascii():
        return int(text)
    if _INTEGER.fullmatch(text) is None:
        return None
    if len(text) > _TEXT_CHARS_MAX:
        return -_OUT_OF_RANGE if text[0] == "-" else _OUT_OF_RANGE
    return int(text)


def decimal_of_json(value: object) -> Decimal | str:
    """Return a JSON number, or a text that holds one, exactly; or the code of what is wrong."""
    if type(value) is int:
        if value.bit_length() > _BITS_MAX:
            return "min" if value < 0 else "max"
        return _kept(Decimal(value))
    if type(value) is Decimal:
        return _kept(value)
    return decimal_of_text(value) if type(value) is str else "type"


def decimal_of_text(text: str) -> Decimal | str:
    """Return the number of a text, such as `2.1E+12`, exactly; or the code of what is wrong."""
    if _DECIMAL.fullmatch(text) is None:
        return "type"
    number = Decimal(text)
    # Neither its digits nor its exponent can be too many: nearly all numbers, and no tuple of digits is made.
    if len(text) <= _FEW_DIGITS and number and -_FEW_DIGITS <= number.adjusted() < _FEW_DIGITS:
        return number
    return _kept(number)


def _kept(number: Decimal) -> Decimal | str:
    exponent = number.as_tuple().exponent
    if isinstance(exponent, str):
        return "type"
    if exponent < -DECIMAL_DIGITS_MAX:
        return "precision"
    if not number:
        return Decimal(0) if exponent > 0 else number.copy_abs()
    if number.adjusted() >= DECIMAL_DIGITS_MAX:
        return "min" if number < 0 else "max"
    return number


def whole_of_json(value: object, scale: int) -> int | str:
    """Return the whole number of an amount in major units, or the code: type, precision or max."""
    if type(value) is str:
        return whole_of_text(value, scale)
    if type(value) is int:
        whole: int = value * 10**scale
        return whole
    if type(value) is not Decimal or not value.is_finite():
        return "type"
    return _whole_of_decimal(value, scale) if value else 0


def _whole_of_decimal(number: Decimal, scale: int) -> int | str:
    if number.adjusted() >= _AMOUNT_DIGITS_MAX:
        return "max"
    sign, digits, exponent = number.as_tuple()
    if not isinstance(exponent, int) or exponent < -DECIMAL_DIGITS_MAX:
        return "precision"
    coefficient = int("".join(map(str, digits))) * (-1 if sign else 1)
    shift = exponent + scale
    if shift >= 0:
        return coefficient * int(10**shift)
    return "precision" if coefficient % 10**-shift else coefficient // int(10**-shift)


def divided(minor: int, divisor: int) -> int | None:
    """Return minor units at a coarser scale, or None where it cannot hold them."""
    whole, rest = divmod(minor, divisor)
    return None if rest else whole


def negated(number: Decimal) -> Decimal:
    """Return the negative of a number with all of its digits; zero has no sign."""
    return number.copy_negate() if number else number


def with_point(text: str) -> str:
    """Return a number with a decimal comma as one with a point; one with a point is no number then."""
    return "" if "." in text else text.replace(",", ".", 1)


def uuid_of_text(text: str) -> UUID | None:
    """Return the UUID of 36 characters, or None."""
    return UUID(text) if _UUID.fullmatch(text) else None


def json_of_value(value: object) -> bytes | None:
    """Return a JSON value as text, or None where it holds U+0000, or is nested too deeply, for PostgreSQL."""
    try:
        encoded = _ENCODER.encode(value)
    except RecursionError:
        return None
    return None if _NUL in encoded and _holds_nul(value) else encoded


def json_of_text(text: str) -> object:
    """Return the JSON value of a text, or Ellipsis where it is none, or has numbers beyond those of PostgreSQL."""
    try:
        return _DECODER.decode(text)
    except (msgspec.DecodeError, RecursionError, ValueError, ArithmeticError):
        return ...


def _storable_number(text: str) -> Decimal:
    number = Decimal(text)
    exponent = number.as_tuple().exponent
    if not isinstance(exponent, int) or exponent < -_JSON_DECIMALS_MAX or number.adjusted() >= _JSON_DIGITS_MAX:
        raise ValueError("is beyond what PostgreSQL can hold")
    return number


_DECODER: Final = msgspec.json.Decoder(float_hook=_storable_number)


def _holds_nul(value: object) -> bool:
    pending = [value]
    while pending:
        each = pending.pop()
        if isinstance(each, str) and "\x00" in each:
            return True
        if isinstance(each, dict):
            pending += [*each, *each.values()]
        elif isinstance(each, list):
            pending += each
    return False


def exact(value: Value) -> Amount | None:
    """Return a number as a whole number and its decimals, or None where there is none."""
    if value is None or type(value) is tuple:
        return value
    if type(value) is int:
        return (value, 0)
    if type(value) is not Decimal:
        return None
    sign, digits, exponent = value.as_tuple()
    whole = int("".join(map(str, digits))) * (-1 if sign else 1)
    places = exponent if isinstance(exponent, int) else 0
    return (whole * 10**places, 0) if places > 0 else (whole, -places)


def is_less(left: Amount, right: Amount) -> bool:
    """Tell whether an exact number is less than another, whatever their decimals."""
    return bool(left[0] * 10 ** right[1] < right[0] * 10 ** left[1])
