"""A decimal of a text is the one of the same JSON number, however short the way to it is."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.pipelines.codegen.runtime import decimal_of_json, decimal_of_text


@pytest.mark.parametrize(
    "text",
    [
        *(
            "0",
            "-0",
            "0.0",
            "-0.00",
            "0E+9",
            "0E-999",
            "1",
            "-1.50",
            "1E+499",
            "1E+500",
            "1E+999",
            "1E+1000",
            "-1E+1000",
        ),
        *(
            "1E-500",
            "1E-501",
            "1E-1000",
            "1E-1001",
            "9" * 500,
            "9" * 501,
            "9" * 1000,
            "9" * 1001,
            "0." + "0" * 497 + "1",
        ),
        *("0." + "3" * 998, "0." + "3" * 1000, "0." + "3" * 1001, "1." + "3" * 400 + "E-700", "1" * 499 + "E500"),
    ],
)
def test_at_the_limits_of_digits_both_ways_agree(text: str) -> None:
    assert repr(decimal_of_text(text)) == repr(decimal_of_json(Decimal(text)))


@given(st.from_regex(r"-?[0-9]{1,40}(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,4})?", fullmatch=True).filter(str.isascii))
def test_both_ways_agree(text: str) -> None:
    assert repr(decimal_of_text(text)) == repr(decimal_of_json(Decimal(text)))
