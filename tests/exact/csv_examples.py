"""Rows of the examples that take CSV files. Three of them need the time of their file, which no event carries yet."""

import random
from collections.abc import Sequence
from datetime import date, timedelta
from decimal import Decimal
from typing import Any, Final

from exact.totals import Example, Totals, amount, chosen

_ACCOUNTS: Final = {"EUR": 2, "JPY": 0, "KWD": 3}
_FIRST_DAY: Final = date(1960, 1, 1)
_ADYEN_COLUMNS: Final = (
    "Merchant Account,Psp Reference,Merchant Reference,Payment Method,Creation Date,TimeZone,Type,"
    "Modification Reference,Gross Currency,Gross Debit (GC),Gross Credit (GC),Exchange Rate,"
    "Net Currency,Net Debit (NC),Net Credit (NC),"
    "Commission (NC),Markup (NC),Scheme Fees (NC),Interchange (NC),Batch Number"
)
_ECON_COLUMNS: Final = (
    "country_id,country_name,year,Inflation (CPI %),GDP (Current USD),GDP per Capita (Current USD),"
    'Unemployment Rate (%),"Interest Rate (Real, %)",GDP Growth (% Annual),'
    "Current Account Balance (% GDP),Public Debt (% of GDP)"
)
_RATES: Final = ("USD", "JPY", "BGN", "GBP")
_COUNTRIES: Final = ("DE", "NA", "BR", "JP", "IN", "KE", "NO", "CL")
_YEARS: Final = 141


def _bookings(chance: random.Random, number: int, totals: Totals) -> Sequence[bytes]:
    """A booking of either sign, with a decimal comma and a text that holds the delimiter."""
    currency, decimals = chosen(chance, _ACCOUNTS)
    (_, value), (_, balance) = amount(chance, decimals), amount(chance, decimals)
    is_debit = chance.random() < 0.5
    totals.add("bookings", currency, amount=-value if is_debit else value, balance=balance)
    cells = (
        f"05320130{number % 100:02}", "02.03.2026", "", "Lastschrift" if is_debit else "Gutschrift",
        f'"Vertrag {number}; Strom"', "Linden GmbH", "-", "", "", _comma(value), currency, "S" if is_debit else "H",
        _comma(balance),
    )  # fmt: skip
    return [";".join(cells).encode()]


def _comma(value: Decimal) -> str:
    return str(value).replace(".", ",")


def _settlement(chance: random.Random, number: int, totals: Totals) -> Sequence[bytes]:
    """A settled line, in a batch of its own; its commission is finer than a cent."""
    (_, gross), (_, net), (_, commission) = amount(chance, 2), amount(chance, 2), amount(chance, 6)
    totals.add("settlement_lines", "USD", by="gross_currency", gross_credit=gross)
    totals.sum("settlement_lines", "EUR", by="net_currency", net_credit=net, commission=commission)
    batch = number + 1
    booked = f"LindenShopNL,PSP{number},order-{number},visa,2026-03-03 02:10:00,CET,Settled,"
    return [f"{booked},USD,,{gross},0.92,EUR,,{net},{commission},,,,{batch}".encode()]


def _rates(chance: random.Random, number: int, totals: Totals) -> Sequence[bytes]:
    """The rates of a day, some of which are missing."""
    cells = [(_FIRST_DAY + timedelta(days=number)).isoformat()]
    for currency in _RATES:
        rate = Decimal(chance.randrange(1, 10**9)).scaleb(-6) if chance.random() < 0.9 else None
        cells.append("N/A" if rate is None else str(rate))
        if rate is not None:
            totals.add("rates", currency, rate=rate)
    return [",".join(cells).encode()]


def _indicators(chance: random.Random, number: int, totals: Totals) -> Sequence[bytes]:
    """The indicators of a country in a year."""
    country, year = _COUNTRIES[number % len(_COUNTRIES)], 1960 + number // len(_COUNTRIES)
    values = [Decimal(chance.randrange(10**10)).scaleb(-8) for _ in range(8)]
    names = ("inflation_cpi", "gdp_usd", "gdp_per_head_usd", "unemployment", "interest_real", "gdp_growth",
             "current_account", "public_debt")  # fmt: skip
    amounts: dict[str, Any] = dict(zip(names, values, strict=True))
    totals.add("indicators", **amounts)
    return [",".join([country, "a country", str(year), *map(str, values)]).encode()]


EXAMPLES: Final = (
    Example(
        "bank_csv", "bank-exact", _bookings,
        b"Konto;Buchungstag;Valuta;Buchungstext;Verwendungszweck;Name;Name;IBAN;BIC;Betrag;W\xc3\xa4hrung;Soll/Haben;"
        b"Saldo nach Buchung",
    ),
    Example("adyen_settlement", "adyen-settlement-exact", _settlement, _ADYEN_COLUMNS.encode()),
    Example("exchange_rates", "reference-rates", _rates, b"Date," + ",".join(_RATES).encode()),
    Example(
        "global_econ", "global-econ", _indicators, _ECON_COLUMNS.encode(), objects_max=len(_COUNTRIES) * _YEARS,
    ),
)  # fmt: skip
