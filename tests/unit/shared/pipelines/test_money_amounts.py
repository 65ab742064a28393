"""Amounts are exact: they are what `decimal` makes of them, at the scale of their currency."""

from decimal import Decimal, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.pipelines.codegen.runtime import whole_of_json
from shared.pipelines.values.money import (
    ExponentsError,
    conversions,
    currencies,
    scales,
    spellings,
    whole_of_minor,
    whole_of_text,
    wire_exponents,
)

EXPONENTS = {0: 29, 2: 237, 3: 7, 4: 2}
scale_numbers = st.integers(0, 6)
decimal_texts = st.from_regex(r"-?[0-9]{1,25}(\.[0-9]{1,12})?", fullmatch=True)


def expected_whole(text: str, scale: int) -> int | str:
    with localcontext(prec=100):
        whole = Decimal(text).scaleb(scale)
        return int(whole) if whole == whole.to_integral_value() else "precision"


@given(decimal_texts, scale_numbers)
def test_a_text_becomes_the_whole_number_that_decimal_makes_of_it(text: str, scale: int) -> None:
    assert whole_of_text(text, scale) == expected_whole(text, scale)


@given(decimal_texts, scale_numbers)
def test_a_json_number_becomes_the_whole_number_that_its_text_becomes(text: str, scale: int) -> None:
    assert whole_of_json(Decimal(text), scale) == whole_of_text(text, scale)


@given(st.text(st.sampled_from("-+.,0123456789eE ٣_²"), max_size=8), scale_numbers)
def test_only_plain_numbers_are_amounts(text: str, scale: int) -> None:
    head, point, tail = text.removeprefix("-").partition(".")
    is_plain = all(digit in "0123456789" for digit in head + tail) and bool(head) and bool(tail or not point)

    assert (whole_of_text(text, scale) == "type") == (not is_plain)


@given(st.integers(-(10**20), 10**20), st.sampled_from(("EUR", "JPY", "KWD", "UGX", "MGA", "CLP", "CLF")))
@pytest.mark.parametrize("profile", ["iso", "stripe", "adyen", "hundredths"])
def test_minor_units_keep_their_worth(profile: str, minor: int, currency: str) -> None:
    conversion = conversions(profile, {}, None)[currency]

    whole = whole_of_minor(minor, conversion)

    with localcontext(prec=100):
        worth = Decimal(minor).scaleb(-wire_exponents(profile, {})[currency])
        if whole is None:
            assert worth != round(worth, conversion.scale)
        else:
            assert Decimal(whole).scaleb(-conversion.scale) == worth


def test_more_digits_than_any_amount_has_are_not_computed() -> None:
    assert whole_of_text("1" + "0" * 100_000, 2) == "max"
    assert whole_of_text("0" * 100_000 + "1.00", 2) == 100
    assert whole_of_text("1." + "0" * 100_000, 2) == 100
    assert whole_of_json(Decimal("1E+999999"), 2) == "max"
    assert whole_of_json(Decimal("1E-999999"), 2) == "precision"


def test_zeros_beyond_the_scale_are_no_more_precise() -> None:
    assert whole_of_text("500.00", 0) == 500
    assert whole_of_text("1.10", 0) == "precision"


def test_withdrawn_currencies_are_known_for_ever() -> None:
    table = currencies()

    assert {"HRK", "BGN", "DEM", "LTL", "ZWL", "VEF", "ANG", "SLL"} <= table.withdrawn
    assert {code: table.exponents[code] for code in ("HRK", "BGN", "ITL", "BYR")} == {
        "HRK": 2,
        "BGN": 2,
        "ITL": 0,
        "BYR": 0,
    }
    assert not table.withdrawn & {"EUR", "USD", "XCG", "ZWG", "SLE"}


def test_the_table_has_as_many_currencies_of_each_exponent_as_were_counted() -> None:
    found = list(currencies().exponents.values())

    assert {exponent: found.count(exponent) for exponent in sorted(set(found))} == EXPONENTS


def test_what_is_no_currency_is_not_in_the_table() -> None:
    assert not {"X" * 3, "XTS", "XAU", "XDR", "BTC", ""} & set(currencies().exponents)


def test_a_currency_is_read_in_capitals_or_in_small_letters() -> None:
    known = spellings(frozenset({"BRL"}))

    assert known == {"BRL": "BRL", "brl": "BRL"}


@pytest.mark.parametrize(
    ("profile", "differing"),
    [
        ("iso", {}),
        ("stripe", {"ISK": 2, "MGA": 0, "UGX": 2}),
        ("adyen", {"CLP": 2, "CVE": 0, "IDR": 0, "ISK": 2}),
    ],
)
def test_a_profile_differs_from_iso_only_where_its_provider_does(profile: str, differing: dict[str, int]) -> None:
    iso = wire_exponents("iso", {})

    found = wire_exponents(profile, {})

    assert {code: exponent for code, exponent in found.items() if exponent != iso[code]} == differing


def test_currencies_that_stripe_lists_as_without_decimals_have_none() -> None:
    listed = "BIF CLP DJF GNF JPY KMF KRW MGA PYG RWF VND VUV XAF XOF XPF".split()  # noqa: SIM905 - as the page lists them

    assert {wire_exponents("stripe", {})[code] for code in listed} == {0}


def test_the_minor_units_of_a_file_differ_from_iso_where_it_says_so() -> None:
    found = wire_exponents("own.toml", {"own.toml": b"COP = 0\n"})

    assert (found["COP"], found["EUR"]) == (0, 2)


@pytest.mark.parametrize("content", [b"EUR = -1", b"EUR = 2.0", b"EUR = true", b"QQQ = 2", b"\xff", b"EUR"])
def test_a_file_of_minor_units_that_is_none_is_refused(content: bytes) -> None:
    with pytest.raises(ExponentsError):
        wire_exponents("own.toml", {"own.toml": content})


def test_an_unknown_profile_is_refused() -> None:
    with pytest.raises(ExponentsError, match="stripe"):
        wire_exponents("paypal", {})


def test_digits_take_the_place_of_the_scale() -> None:
    assert scales(6)["JPY"] == 6
    assert conversions("iso", {}, 6)["EUR"] == (10_000, 1, 6)
