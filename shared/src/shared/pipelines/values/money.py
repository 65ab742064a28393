"""Amounts of money, exactly: currencies, the minor units of providers, and texts. Pure.

Two exponents are told apart. The *scale* is how many decimals a stored amount has: ISO 4217's, or a column's `digits`.
The *wire exponent* is how many decimals a provider's minor units stand for; it is the provider's own.
"""

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files as resources
from typing import Final, NamedTuple

WHOLE_LIMIT: Final = 10**18
"""The whole number of an amount is below this, and above its negative."""

ISO: Final = "iso"
HUNDREDTHS: Final = "hundredths"
DIGITS_MAX: Final = 18
"""Decimals that an amount may have."""


class ExponentsError(ValueError):
    """A profile of minor units is unknown, or its file is none; the message says which."""


class Currencies(NamedTuple):
    """The table of currencies. `dated` is its version. `profiles` hold only what differs from ISO 4217."""

    dated: str
    exponents: Mapping[str, int]
    withdrawn: frozenset[str]
    profiles: Mapping[str, Mapping[str, int]]


class Conversion(NamedTuple):
    """How minor units of a currency become a stored whole number: times `factor`, or divided by `divisor`."""

    factor: int
    divisor: int
    scale: int


@cache
def currencies() -> Currencies:
    """Return the table of currencies that belongs to this release."""
    table = tomllib.loads(resources("shared.pipelines.values").joinpath("currencies.toml").read_text(encoding="utf-8"))
    known = table["currencies"]
    return Currencies(
        dated=table["dated"],
        exponents={code: entry["exponent"] for code, entry in known.items()},
        withdrawn=frozenset(code for code, entry in known.items() if "until" in entry),
        profiles=table["profiles"],
    )


def spellings(codes: Mapping[str, int] | frozenset[str]) -> dict[str, str]:
    """Return the code that each text stands for: the code itself, in upper or in lower case."""
    return {text: code for code in codes for text in (code, code.lower())}


def wire_exponents(profile: str, files: Mapping[str, bytes]) -> dict[str, int]:
    """Return the decimals that minor units stand for, by currency.

    `profile` is `iso`, `hundredths`, a provider's, or the name of one of `files`: a TOML table of what differs from
    ISO 4217, as `UGX = 2`. Raises ExponentsError.
    """
    table = currencies()
    if profile == ISO:
        return dict(table.exponents)
    if profile == HUNDREDTHS:
        return dict.fromkeys(table.exponents, 2)
    if profile in table.profiles:
        return {**table.exponents, **table.profiles[profile]}
    if profile in files:
        return {**table.exponents, **_read_exponents(files[profile])}
    names = ", ".join((ISO, HUNDREDTHS, *table.profiles))
    raise ExponentsError(f"is no profile of minor units; there are {names}, or a file beside this one")


def conversions(profile: str, files: Mapping[str, bytes], digits: int | None) -> dict[str, Conversion]:
    """Return how the minor units of each currency are stored; `digits`: other decimals than ISO's. Raises as above."""
    return {
        code: _conversion(wire, currencies().exponents.get(code, wire) if digits is None else digits)
        for code, wire in wire_exponents(profile, files).items()
    }


def scales(digits: int | None) -> dict[str, int]:
    """Return how many decimals a stored amount of each currency has."""
    known = currencies().exponents
    return dict(known) if digits is None else dict.fromkeys(known, digits)


def whole_of_minor(minor: int, conversion: Conversion) -> int | None:
    """Return a number of minor units as it is stored, or None where the scale cannot hold it."""
    if conversion.divisor == 1:
        return minor * conversion.factor
    whole, rest = divmod(minor, conversion.divisor)
    return None if rest else whole


def whole_of_text(text: str, scale: int) -> int | str:
    """Return the whole number of a text such as `-1099.50`, or the code of what is wrong: type, precision or max.

    Zeros beyond the scale are no more precise than it, so they are taken.
    """
    head, point, tail = text.partition(".")
    if head[:1] == "-":
        whole = _unsigned(head[1:], point, tail, scale)
        return whole if isinstance(whole, str) else -whole
    digits = head + tail
    missing = scale - len(tail)
    if missing >= 0 and head and (tail or not point) and len(digits) < _DIGITS_AT_ONCE:
        # Most amounts: no more decimals than the currency has.
        return int(digits) * _POWERS[missing] if digits.isdigit() and digits.isascii() else "type"
    return _unsigned(head, point, tail, scale)


def _unsigned(head: str, point: str, tail: str, scale: int) -> int | str:
    digits = head + tail
    if not head or not (tail or not point) or not (digits.isascii() and digits.isdigit()):
        return "type"
    kept = tail.rstrip("0")
    if len(kept) > scale:
        return "precision"
    digits = (head + kept).lstrip("0")
    if len(digits) >= _DIGITS_AT_ONCE:
        return "max"
    return int(digits or "0") * _POWERS[scale - len(kept)]


_DIGITS_AT_ONCE: Final = 40
_POWERS: Final[tuple[int, ...]] = tuple(10**power for power in range(DIGITS_MAX + 1))


def _conversion(wire: int, scale: int) -> Conversion:
    return Conversion(10 ** max(0, scale - wire), 10 ** max(0, wire - scale), scale)


def _read_exponents(content: bytes) -> dict[str, int]:
    try:
        table = tomllib.loads(content.decode())
    except ValueError as error:
        raise ExponentsError("cannot be read: it is no TOML") from error
    for code, exponent in table.items():
        if type(exponent) is not int or not 0 <= exponent <= DIGITS_MAX:
            raise ExponentsError(f"must give each currency a number of decimals, as `UGX = 2`; {code[:20]} has none")
        if code not in currencies().exponents:
            raise ExponentsError(f"names {code[:20]}, which is no currency of ISO 4217")
    return table
