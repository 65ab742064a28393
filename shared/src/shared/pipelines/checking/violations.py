"""What a check of a file reports, and the first places at which it found something. Pure."""

from typing import Final, Literal

import msgspec

Level = Literal["error", "warning", "note"]

LEVELS: Final[tuple[Level, ...]] = ("error", "warning", "note")
"""The levels, the worst first."""


_VALUE_CHARS_MAX: Final = 100


class Violation(msgspec.Struct, frozen=True, omit_defaults=True):
    """Something that does not hold for a file. It holds no value of the file but those in `values` and `groups`.

    `rule`: the key of a file check, `total`, or the code of a problem of a row. `column`: the column, or the columns or
    arithmetic. `rows`: how many rows, or groups, it was found at; `places`: the numbers of the first ones, of groups
    the row at which they begin. `first`: at each of the places, the row that has the same key. `groups`: what was found
    in each group.
    """

    rule: str
    column: str
    level: Level
    rows: int
    places: tuple[int, ...] = ()
    first: tuple[int, ...] = ()
    groups: tuple[str, ...] = ()
    values: tuple[str, ...] = ()
    detail: str = ""


class Showing(msgspec.Struct, frozen=True):
    """How much a report shows: how many places of each problem, and whether values."""

    places_max: int = 20
    values: bool = False


class FirstPlaces:
    """Counts places, and keeps the first ones with their values."""

    def __init__(self, showing: Showing) -> None:
        self._showing = showing
        self.count = 0
        self.places: list[int] = []
        self.values: list[str] = []

    @property
    def wants_value(self) -> bool:
        """The value at the next place is shown."""
        return self._showing.values and len(self.places) < self._showing.places_max

    def add(self, place: int, value: str | None = None) -> None:
        """Count a place."""
        if value is not None and self.wants_value:
            self.values.append(value[:_VALUE_CHARS_MAX])
        if len(self.places) < self._showing.places_max:
            self.places.append(place)
        self.count += 1

    def violation(self, rule: str, column: str, level: Level, detail: str = "") -> Violation:
        """Return what was found."""
        values = tuple(dict.fromkeys(self.values))
        return Violation(rule, column, level, self.count, tuple(self.places), values=values, detail=detail)
