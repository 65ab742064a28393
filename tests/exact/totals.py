"""What the views of an example must show: numbers of rows, and sums by currency."""

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Context, Decimal
from typing import Final

import asyncpg

# More digits than a million amounts have together, so no sum is rounded.
_EXACT: Final = Context(prec=100)
_MINOR_MAX: Final = 10**12


@dataclass
class Totals:
    """Numbers of rows by view; sums by view, column, column of the currency, and currency."""

    rows: Counter[str] = field(default_factory=Counter)
    sums: dict[tuple[str, str, str], dict[str, Decimal]] = field(default_factory=dict)

    def add(self, view: str, currency: str = "", *, by: str = "currency", **amounts: Decimal) -> None:
        """Count a row with these amounts, or other exact numbers where there is no currency."""
        self.rows[view] += 1
        self.sum(view, currency, by=by, **amounts)

    def sum(self, view: str, currency: str, *, by: str, **amounts: Decimal) -> None:
        """Add more amounts of a row that was counted, of another currency."""
        for column, amount in amounts.items():
            of_column = self.sums.setdefault((view, column, by if currency else ""), {})
            of_column[currency] = _EXACT.add(of_column.get(currency, Decimal(0)), amount)

    async def differences(self, owner: asyncpg.Connection) -> list[str]:
        """Return what the views show otherwise, to the last digit."""
        found = []
        for view, rows in self.rows.items():
            stored = await owner.fetchval(f"SELECT count(*) FROM data.{view}")  # noqa: S608 - a name of ours
            if stored != rows:
                found.append(f"{view}: {stored} rows instead of {rows}")
        for (view, column, by), wanted in self.sums.items():
            group = f"coalesce({by}, '')" if by else "''"
            query = f"SELECT {group} AS name, sum({column}) AS total FROM data.{view} GROUP BY 1"  # noqa: S608 - ours
            stored_sums = {row["name"]: row["total"] for row in await owner.fetch(query)}
            found += [
                f"{view}.{column} {currency}: {stored_sums.get(currency)} instead of {wanted.get(currency)}"
                for currency in {*stored_sums, *wanted}
                if stored_sums.get(currency) != wanted.get(currency)
            ]
        return found


Make = Callable[[random.Random, int, Totals], Sequence[bytes]]
"""Returns the events about the object with a number, and adds what shall be shown of them."""


@dataclass(frozen=True)
class Example:
    """A shipped example and its events: JSON, or rows of CSV below a header, which only files take.

    `objects_max`: how many objects it can have.
    """

    name: str
    source: str
    make: Make
    header: bytes = b""
    objects_max: int = 10**9


def amount(chance: random.Random, decimals: int, *, step: int = 1) -> tuple[int, Decimal]:
    """Return minor units, a multiple of `step`, and the amount that they are."""
    minor = chance.randrange(_MINOR_MAX // step) * step
    return minor, Decimal(minor).scaleb(-decimals)


def chosen(chance: random.Random, decimals: Mapping[str, int]) -> tuple[str, int]:
    """Return a currency, and the decimals that its minor units stand for."""
    return chance.choice(list(decimals.items()))
