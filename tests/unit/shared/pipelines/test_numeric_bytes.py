"""PostgreSQL's binary numeric: what is encoded is decoded, by a second reading of the format that was written here."""

import struct
from decimal import Decimal, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.pipelines.values.numeric import decode_numeric, encode_amount, encode_decimal

wholes = st.integers(-(10**18), 10**18) | st.integers(-(10**60), 10**60) | st.integers(-3, 3).map(lambda n: n * 10**16)


def decoded(data: bytes) -> tuple[Decimal, int]:
    """Return the number and its shown decimals, by the description of the format: a sum of digits times powers."""
    count, weight, sign, shown = struct.unpack("!HhHH", data[:8])
    digits = struct.unpack(f"!{count}H", data[8:])
    with localcontext(prec=500):
        number = sum(
            (Decimal(digit) * Decimal(10_000) ** (weight - place) for place, digit in enumerate(digits)), Decimal(0)
        )
        return (-number if sign == 0x4000 else number), shown


@given(wholes, st.integers(0, 18))
def test_an_amount_is_encoded_exactly(whole: int, scale: int) -> None:
    data = encode_amount((whole, scale))

    with localcontext(prec=500):
        assert decoded(data) == (Decimal(whole).scaleb(-scale), scale)
        assert decode_numeric(data) == Decimal(whole).scaleb(-scale)


@given(wholes, st.integers(0, 18))
def test_no_digit_is_stored_in_vain(whole: int, scale: int) -> None:
    """PostgreSQL refuses no zeros at the ends, but compares what it stores: one number has one form."""
    count, _, sign, _ = struct.unpack("!HhHH", (data := encode_amount((whole, scale)))[:8])
    digits = struct.unpack(f"!{count}H", data[8:])

    assert all(0 <= digit < 10_000 for digit in digits)
    assert not digits or (digits[0] and digits[-1])
    assert sign == (0x4000 if whole < 0 else 0)


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**40), max_value=10**40))
def test_a_decimal_is_encoded_exactly(number: Decimal) -> None:
    with localcontext(prec=2_000):
        assert decoded(encode_decimal(number))[0] == number


@pytest.mark.parametrize(
    ("amount", "data"),
    [
        ((1099, 2), "0002 0000 0000 0002 000a 26ac"),  # 10 and 9900
        ((-1, 0), "0001 0000 4000 0000 0001"),
        ((0, 2), "0000 0000 0000 0002"),
        ((100_000_000, 0), "0001 0002 0000 0000 0001"),
        ((5, 4), "0001 ffff 0000 0004 0005"),
    ],
)
def test_amounts_are_the_bytes_that_postgresql_sends(amount: tuple[int, int], data: str) -> None:
    assert encode_amount(amount).hex(" ", 2) == data


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1E+50000", "1E-20000"])
def test_what_postgresql_cannot_hold_is_refused(number: str) -> None:
    with pytest.raises(ValueError, match="is "):
        encode_decimal(Decimal(number))


def test_a_negative_zero_is_zero() -> None:
    assert encode_decimal(Decimal("-0.00")) == encode_amount((0, 2))


@pytest.mark.parametrize("data", [b"", b"\0" * 7, bytes.fromhex("00000000c0000000"), bytes.fromhex("0001000000000000")])
def test_bytes_that_are_no_number_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="is "):
        decode_numeric(data)
