"""The rules over many rows of a table that look at one column. Pure.

A rule sees the rows of a file in order, in batches: the numbers of the rows, and the values column by column. It keeps
what it needs and no rows.
"""

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Protocol, TypeAlias

from shared.pipelines.checking.violations import FirstPlaces, Level, Showing, Violation
from shared.pipelines.model import Rows
from shared.pipelines.program import Value
from shared.pipelines.values.texts import text_of

Columns: TypeAlias = Sequence[Sequence[Value]]
"""The values of a batch of rows: for each column of the table, its value in each row."""


class Rule(Protocol):
    """A rule over the rows of one table of one file."""

    def add(self, places: Sequence[int], columns: Columns) -> None:
        """Take the next rows; `places` are their numbers in the file."""

    def violations(self) -> Iterator[Violation]:
        """Yield what was found, after the last row."""


class ColumnAt:
    """A column of a table: its name, and its position in rows."""

    def __init__(self, name: str, position: int) -> None:
        self.name = name
        self.position = position


class Listed:
    """Finds values that a list does not have. A row without a value is not looked at."""

    def __init__(self, column: ColumnAt, listed: frozenset[str], level: Level, showing: Showing) -> None:
        self._column = column
        self._listed = listed
        self._level = level
        self._found = FirstPlaces(showing)

    def add(self, places: Sequence[int], columns: Columns) -> None:
        """Look at the values as text."""
        listed = self._listed
        for place, value in zip(places, columns[self._column.position], strict=True):
            if value not in listed and value is not None and (text := text_of(value)) not in listed:
                self._found.add(place, text)

    def violations(self) -> Iterator[Violation]:
        """Yield the rows, if any."""
        if self._found.count:
            yield self._found.violation("listed", self._column.name, self._level)


class Filled:
    """Finds a column that is emptier than it may be."""

    def __init__(self, column: ColumnAt, share: Decimal | int, level: Level, showing: Showing) -> None:
        """`share`: of the rows, above 0 and at most 1."""
        self._column = column
        self._share = share
        self._level = level
        self._rows = 0
        self._empty = FirstPlaces(showing)

    def add(self, places: Sequence[int], columns: Columns) -> None:
        """Count the rows that have no value."""
        values = columns[self._column.position]
        self._rows += len(values)
        for place in [place for place, value in zip(places, values, strict=True) if value is None]:
            self._empty.add(place)

    def violations(self) -> Iterator[Violation]:
        """Yield the empty rows where there are too many."""
        filled = self._rows - self._empty.count
        if filled < self._share * self._rows:
            detail = f"{filled} of {self._rows} rows have a value"
            yield self._empty.violation("filled", self._column.name, self._level, detail)


class RowCount:
    """Finds a file, or a table, of too few or too many rows."""

    def __init__(self, name: str, rows: Rows, level: Level) -> None:
        """`name`: of the table; empty where rows of the file are counted."""
        self._name = name
        self._rows = rows
        self._level = level
        self._count = 0

    def add(self, places: Sequence[int], columns: Columns) -> None:  # noqa: ARG002 - a rule like the others
        """Count rows."""
        self._count += len(places)

    def count(self, rows: int) -> None:
        """Count rows of the file, whether a table has them or not."""
        self._count += rows

    def violations(self) -> Iterator[Violation]:
        """Yield the number of rows where it is none of those that it may be."""
        least, most = self._rows.min, self._rows.max
        if least is not None and self._count < least:
            yield Violation("rows", self._name, self._level, self._count, detail=f"fewer than {least}")
        if most is not None and self._count > most:
            yield Violation("rows", self._name, self._level, self._count, detail=f"more than {most}")
