"""The rules over the rows of groups: rows that go back, numbers that are missing. Pure.

Each keeps something for every group, so the groups are limited. Rows of further groups are not looked at, and reported.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final, Generic, TypeVar

from shared.pipelines.checking.rules import ColumnAt, Columns
from shared.pipelines.checking.violations import FirstPlaces, Level, Showing, Violation
from shared.pipelines.model import Complete, FileCheck
from shared.pipelines.program import Value
from shared.pipelines.values.texts import text_of

GROUPS_MAX: Final = 100_000
"""Groups that a rule keeps something for."""

_MARKS_BYTES_MAX: Final = 64 * 1024 * 1024
_KEY_CHARS_MAX: Final = 16 * 1024 * 1024
_NAME_CHARS_MAX: Final = 200
_MISSING_MAX: Final = 10

_Kept = TypeVar("_Kept")
Key = tuple[Value, ...]


class Groups(Generic[_Kept]):
    """What is kept for each group, up to a number of them."""

    def __init__(self, by: Sequence[ColumnAt], showing: Showing, *, groups_max: int = GROUPS_MAX) -> None:
        """`by`: the columns whose values make a group; none: all rows are one."""
        self.by = by
        self.kept: dict[Key, _Kept] = {}
        self._groups_max = groups_max
        self._chars_left = _KEY_CHARS_MAX
        self._left_out = FirstPlaces(showing)

    def keys(self, places: Sequence[int], columns: Columns) -> Iterator[Key]:
        """Yield the key of each row."""
        if not self.by:
            return iter([()] * len(places))
        return zip(*(columns[column.position] for column in self.by), strict=True)

    def take(self, place: int, key: Key, kept: _Kept) -> _Kept | None:
        """Return what is kept for a new group from now on, or None where there are too many groups."""
        self._chars_left -= sum(len(value) for value in key if isinstance(value, str | bytes))
        if len(self.kept) >= self._groups_max or self._chars_left < 0:
            self._left_out.add(place)
            return None
        self.kept[key] = kept
        return kept

    def name(self, key: Key) -> str:
        """Return a group as text."""
        named = zip(self.by, key, strict=True)
        text = ", ".join(f"{column.name}={'' if value is None else text_of(value)}" for column, value in named)
        return text[:_NAME_CHARS_MAX]

    def left_out(self, rule: str, column: str) -> Iterator[Violation]:
        """Yield the rows that were not looked at, if any: nobody knows whether the rule holds."""
        if self._left_out.count:
            detail = f"has more groups than the {len(self.kept)} that can be kept; these rows were not looked at"
            yield self._left_out.violation(rule, column, "error", detail)


class Ascending:
    """Finds rows whose value is below that of the row before it in their group."""

    def __init__(self, column: ColumnAt, by: Sequence[ColumnAt], level: Level, showing: Showing) -> None:
        """`column` has an order."""
        self._column = column
        self._level = level
        self._groups: Groups[list[Any]] = Groups(by, showing)
        self._back = FirstPlaces(showing)

    def add(self, places: Sequence[int], columns: Columns) -> None:
        """Compare each value with the last one of its group; rows without a value are passed over."""
        last = self._groups.kept
        values = columns[self._column.position]
        for place, key, value in zip(places, self._groups.keys(places, columns), values, strict=True):
            if value is None:
                continue
            before = last.get(key)
            if before is None:
                self._groups.take(place, key, [value])
                continue
            if value < before[0]:
                self._back.add(place, text_of(value) if self._back.wants_value else None)
            before[0] = value

    def violations(self) -> Iterator[Violation]:
        """Yield the rows that go back, if any."""
        name = _by_name(self._column.name, self._groups.by)
        if self._back.count:
            yield self._back.violation("ascending", name, self._level)
        yield from self._groups.left_out("ascending", name)


class Numbers:
    """Finds groups that lack numbers of a range."""

    def __init__(
        self,
        complete: Complete,
        check: FileCheck,
        column: ColumnAt,
        by: Sequence[ColumnAt],
        showing: Showing,
    ) -> None:
        """`check` has the rule `complete`; its share is of the numbers."""
        self._from = complete.from_
        self._width = complete.to - complete.from_ + 1
        self._column = column
        self._share = check.share
        self._level = check.level
        self._showing = showing
        self._bytes = (self._width + 7) // 8
        groups_max = max(1, min(GROUPS_MAX, _MARKS_BYTES_MAX // self._bytes))
        self._groups: Groups[tuple[int, bytearray]] = Groups(by, showing, groups_max=groups_max)
        if not by:
            self._groups.kept[()] = (0, bytearray(self._bytes))

    def add(self, places: Sequence[int], columns: Columns) -> None:
        """Mark the numbers that each group has."""
        known, first, width = self._groups.kept, self._from, self._width
        values: Sequence[Any] = columns[self._column.position]
        for place, key, value in zip(places, self._groups.keys(places, columns), values, strict=True):
            found = known.get(key)
            if found is None:
                found = self._groups.take(place, key, (place, bytearray(self._bytes)))
            if found is not None and value is not None and 0 <= value - first < width:
                number = value - first
                found[1][number >> 3] |= 1 << (number & 7)

    def violations(self) -> Iterator[Violation]:
        """Yield the groups with too many holes, if any."""
        name = _by_name(self._column.name, self._groups.by)
        holed = FirstPlaces(self._showing)
        texts: list[str] = []
        for key, (place, marks) in self._groups.kept.items():
            count = int.from_bytes(marks, "little").bit_count()
            if count < self._share * self._width:
                if len(texts) < self._showing.places_max:
                    texts.append(self._text(key, count, marks))
                holed.add(place)
        if holed.count:
            places = tuple(place for place in holed.places if place)
            yield Violation("complete", name, self._level, holed.count, places, groups=tuple(texts))
        yield from self._groups.left_out("complete", name)

    def _text(self, key: Key, count: int, marks: bytearray) -> str:
        """Return a group's count and the first numbers that it lacks; its name where values are shown."""
        lacking: list[str] = []
        for number in range(self._width):
            if not marks[number >> 3] >> (number & 7) & 1:
                lacking.append(str(self._from + number))
                if len(lacking) > _MISSING_MAX:
                    lacking[-1] = "…"
                    break
        name = f"{self._groups.name(key)}: " if self._showing.values and self._groups.by else ""
        return f"{name}{count} of {self._width}, without {', '.join(lacking)}"


def _by_name(column: str, by: Sequence[ColumnAt]) -> str:
    return f"{column} by {', '.join(each.name for each in by)}" if by else column
