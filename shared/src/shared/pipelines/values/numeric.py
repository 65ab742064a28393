"""Exact numbers as the binary form of PostgreSQL's type `numeric`, and back. Pure.

Four 16-bit integers come first: the count of digits, the weight of the first digit, the sign, and the number of
decimals that are shown. Then come the digits, each of the base 10,000.
"""

import struct
from decimal import Decimal
from typing import Final

from shared.pipelines.program import Amount

_BASE: Final = 10_000
_BASE_DECIMALS: Final = 4
_POSITIVE: Final = 0x0000
_NEGATIVE: Final = 0x4000
_HEADER: Final = struct.Struct("!HhHH")
_DIGITS_MAX: Final = 40_000
_DECIMALS_MAX: Final = 16_383
# Most amounts have up to three digits of the base 10,000, and two decimals.
_ONE: Final = struct.Struct("!HhHHH").pack
_TWO: Final = struct.Struct("!HhHHHH").pack
_THREE: Final = struct.Struct("!HhHHHHH").pack
_SEVERAL: Final = tuple(struct.Struct(f"!HhHH{count}H").pack for count in range(12))
_PADDING: Final = (1, 1_000, 100, 10)


def encode_amount(amount: Amount) -> bytes:
    """Return an amount as PostgreSQL's binary numeric. The scale is that of the amount. Raises ValueError."""
    whole, scale = amount
    sign = _POSITIVE
    if whole < 0:
        whole, sign = -whole, _NEGATIVE
    fraction_digits = (scale + 3) >> 2
    whole *= _PADDING[scale & 3]
    high, low = divmod(whole, _BASE)
    if not high:
        return _ONE(1, -fraction_digits, sign, scale, low) if low else _HEADER.pack(0, 0, _POSITIVE, scale)
    high, middle = divmod(high, _BASE)
    if low and not high:
        return _TWO(2, 1 - fraction_digits, sign, scale, middle, low)
    if low and high < _BASE:
        return _THREE(3, 2 - fraction_digits, sign, scale, high, middle, low)
    return _encode(whole, sign, fraction_digits, scale)


def encode_decimal(number: Decimal) -> bytes:
    """Return a number as PostgreSQL's binary numeric, with the decimals that it is written with.

    Raises ValueError: it is infinite, is no number, or is beyond what PostgreSQL can hold.
    """
    sign, digits, exponent = number.as_tuple()
    if isinstance(exponent, str):
        raise ValueError("is no finite number")  # noqa: TRY004 - the value is wrong, not its type
    if not -_DECIMALS_MAX <= exponent <= _DIGITS_MAX:
        raise ValueError("is beyond what PostgreSQL can hold")
    whole = int("".join(map(str, digits)))
    if exponent > 0:
        whole, exponent = whole * 10**exponent, 0
    return encode_amount((-whole if sign else whole, -exponent))


def encode_number(number: Amount | Decimal | int | bytes) -> bytes:
    """Return a number as PostgreSQL's binary numeric; bytes are encoded already.

    Raises ValueError, and TypeError: anything else, such as a float, is no exact number.
    """
    if isinstance(number, tuple):
        return encode_amount(number)
    if isinstance(number, bytes):
        return number
    if isinstance(number, Decimal):
        return encode_decimal(number)
    if isinstance(number, int):
        return encode_amount((number, 0))
    raise TypeError("is no exact number")


def decode_numeric(data: bytes) -> Decimal:
    """Return the number that PostgreSQL's binary numeric states, with its decimals. Raises ValueError."""
    if len(data) < _HEADER.size:
        raise ValueError("is cut off")
    count, weight, sign, scale = _HEADER.unpack_from(data)
    if sign not in (_POSITIVE, _NEGATIVE) or len(data) != _HEADER.size + 2 * count:
        raise ValueError("is no finite numeric")
    whole = 0
    for digit in struct.unpack_from(f"!{count}H", data, _HEADER.size):
        whole = whole * _BASE + digit
    exponent = _BASE_DECIMALS * (weight - count + 1) + scale
    whole = whole * 10**exponent if exponent >= 0 else whole // 10**-exponent
    return Decimal((int(sign == _NEGATIVE), tuple(map(int, str(whole))), -scale))


def _encode(whole: int, sign: int, fraction_digits: int, scale: int) -> bytes:
    if scale > _DECIMALS_MAX:
        raise ValueError("is beyond what PostgreSQL can hold")
    digits: list[int] = []
    while whole:
        whole, digit = divmod(whole, _BASE)
        digits.append(digit)
    count = len(digits)
    if count > _DIGITS_MAX:
        raise ValueError("is beyond what PostgreSQL can hold")
    weight = count - 1 - fraction_digits
    while not digits[-count]:
        count -= 1
    digits.reverse()
    pack = _SEVERAL[count] if count < len(_SEVERAL) else struct.Struct(f"!HhHH{count}H").pack
    return pack(count, weight, sign, scale, *digits[:count])
