"""What the columns of a table hold in a file: how many rows have a value, how many different ones. Pure."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from shared.pipelines.checking.rules import Columns
from shared.pipelines.checking.violations import Showing
from shared.pipelines.model import Column, Table
from shared.pipelines.program import Value
from shared.pipelines.values.texts import text_of

DISTINCT_MAX: Final = 1_000
"""Different values that are counted; of more it is only known that there are more."""

MEASURED: Final = frozenset({"decimal", "money"})
"""Types whose different values are not counted."""

_SHARE_DECIMALS: Final = 4
_LONG: Final = frozenset({"text", "json"})
_RANGED: Final = frozenset({"integer", "decimal", "timestamp", "date"})


class ColumnProfile(msgspec.Struct, frozen=True, omit_defaults=True):
    """A column: the share of rows that have a value (0 to 1), and the number of different values.

    `distinct` is None where there are more than a thousand, and of decimals and money. `min` and `max` stand where
    values are shown.
    """

    type: str
    filled: float
    distinct: int | None = None
    min: str | None = None
    max: str | None = None


class _Seen:
    """What was seen of one column."""

    def __init__(self, column: Column) -> None:
        self.type = column.type
        self.filled = 0
        self.distinct: set[Any] | None = None if column.type in MEASURED else set()
        self.least: Any = None
        self.most: Any = None

    def add(self, values: Sequence[Value], *, ranged: bool) -> None:
        # To count what equals None would ask each number whether it does.
        self.filled += len(values) - len([None for value in values if value is None])
        if self.distinct is not None:
            # A text may be as long as its row; equal ones have equal hashes, and a thousand others do not.
            self.distinct.update(map(hash, values) if self.type in _LONG else values)
            if len(self.distinct) > DISTINCT_MAX + 1:
                self.distinct = None
        if ranged and self.type in _RANGED:
            known: list[Any] = [value for value in values if value is not None]
            if known:
                least, most = min(known), max(known)
                self.least = least if self.least is None or least < self.least else self.least
                self.most = most if self.most is None or most > self.most else self.most

    def profile(self, rows: int) -> ColumnProfile:
        # A share of rows is told as full only where it is.
        share = round(self.filled / rows, _SHARE_DECIMALS) if rows else 0.0
        if self.filled < rows:
            share = min(share, 1 - 10**-_SHARE_DECIMALS)
        distinct = None if self.distinct is None else len(self.distinct - {hash(None) if self.type in _LONG else None})
        return ColumnProfile(
            self.type,
            share,
            None if distinct is not None and distinct > DISTINCT_MAX else distinct,
            None if self.least is None else text_of(self.least),
            None if self.most is None else text_of(self.most),
        )


class Profile:
    """Profiles the columns of a table."""

    def __init__(self, table: Table, showing: Showing) -> None:
        self._seen = {name: _Seen(column) for name, column in table.columns.items()}
        self._shows_values = showing.values
        self._rows = 0

    def add(self, columns: Columns) -> None:
        """Take the next rows."""
        self._rows += len(columns[0]) if columns else 0
        for seen, values in zip(self._seen.values(), columns, strict=True):
            seen.add(values, ranged=self._shows_values)

    def profiles(self) -> dict[str, ColumnProfile]:
        """Return the profile of each column, by name."""
        return {name: seen.profile(self._rows) for name, seen in self._seen.items()}
