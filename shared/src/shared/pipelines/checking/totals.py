"""Control totals over the rows of a file: sums by group, and what must hold for each. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from shared.pipelines.arithmetic import Comparison, Term, read_comparison, read_sum
from shared.pipelines.checking.groups import Groups
from shared.pipelines.checking.rules import ColumnAt, Columns
from shared.pipelines.checking.violations import FirstPlaces, Level, Showing, Violation
from shared.pipelines.codegen.checks import comparison_holds
from shared.pipelines.codegen.runtime import exact
from shared.pipelines.linting.sums import ROWS
from shared.pipelines.program import Amount, Value
from shared.pipelines.values.texts import amount_text


class Totals(msgspec.Struct, frozen=True, omit_defaults=True):
    """The totals of a file: how many groups there are, and for how many of them something does not hold.

    `sums`: where values are shown, the sums of the first groups.
    """

    name: str
    groups: int
    broken: int
    sums: tuple[dict[str, str], ...] = ()


class _Sum(NamedTuple):
    """One sum over rows: its name, and its terms as sign, position of the column, or number."""

    name: str
    columns: tuple[tuple[int, int], ...]
    number: Amount


class _Group:
    """What a group adds up to so far."""

    __slots__ = ("first", "rows", "scales", "wholes")

    def __init__(self, first: int, sums: int) -> None:
        self.first = first
        self.rows = 0
        self.wholes = [0] * sums
        self.scales = [0] * sums

    def add(self, number: int, amount: Amount, sign: int) -> None:
        """Add an amount to a sum, exactly."""
        whole, scale = amount
        own = self.scales[number]
        if scale > own:
            self.wholes[number] *= 10 ** (scale - own)
            self.scales[number] = scale
        elif scale < own:
            whole *= 10 ** (own - scale)
        self.wholes[number] += sign * whole


class TotalsOf:
    """Adds up the rows of a table by group. An empty amount counts as nothing."""

    def __init__(  # noqa: PLR0913 - each is a part of the rule
        self,
        rule: str,
        name: str,
        *,
        by: Sequence[ColumnAt],
        sums: Mapping[str, str],
        must: Sequence[str],
        positions: Mapping[str, int],
        level: Level,
        showing: Showing,
    ) -> None:
        """`rule`: `sum` or `total`; `positions`: of the table's columns."""
        self._rule = rule
        self._name = name
        self._sums = [_sum_of(each, text, positions) for each, text in sums.items()]
        self._must = [read_comparison(text) for text in must]
        self._level = level
        self._showing = showing
        self._groups: Groups[_Group] = Groups(by, showing)
        if not by:
            self._groups.kept[()] = _Group(0, len(self._sums))

    def add(self, places: Sequence[int], columns: Columns) -> None:
        """Add up the rows."""
        groups = self._groups
        kept: list[_Group | None] = []
        for place, key in zip(places, groups.keys(places, columns), strict=True):
            group = groups.kept.get(key) or groups.take(place, key, _Group(place, len(self._sums)))
            if group is not None:
                group.rows += 1
            kept.append(group)
        for number, each in enumerate(self._sums):
            for sign, position in each.columns:
                _add_column(kept, number, columns[position], sign)

    def violations(self) -> Iterator[Violation]:
        """Yield what does not hold, with the groups for which it does not."""
        for comparison in self._must:
            found = FirstPlaces(self._showing)
            texts: list[str] = []
            for key, group in self._broken(comparison):
                if self._showing.values and len(texts) < self._showing.places_max:
                    texts.append(self._text(key, group))
                found.add(group.first)
            if found.count:
                column = ": ".join(part for part in (self._name, comparison.text) if part)
                places = tuple(place for place in found.places if place)
                yield Violation(self._rule, column, self._level, found.count, places, groups=tuple(texts))
        yield from self._groups.left_out(self._rule, self._name)

    def totals(self) -> Totals:
        """Return the counts, and the sums where values are shown."""
        broken = {id(group) for comparison in self._must for _, group in self._broken(comparison)}
        shown: list[dict[str, str]] = []
        if self._showing.values:
            for key, group in list(self._groups.kept.items())[: self._showing.places_max]:
                shown.append({"group": self._groups.name(key), ROWS: str(group.rows)} | self._amounts(group))
        return Totals(self._name, len(self._groups.kept), len(broken), tuple(shown))

    def _broken(self, comparison: Comparison) -> Iterator[tuple[tuple[Value, ...], _Group]]:
        numbers = {each.name: number for number, each in enumerate(self._sums)}

        def operand(group: _Group, term: Term) -> Amount | None:
            if term.number is not None:
                return exact(term.number)
            return (group.rows, 0) if term.column == ROWS else self._total(group, numbers[term.column])

        for key, group in self._groups.kept.items():
            if not comparison_holds(comparison, lambda term, group=group: operand(group, term)):  # type: ignore[misc] # a default of a lambda
                yield key, group

    def _total(self, group: _Group, number: int) -> Amount:
        whole, scale = self._sums[number].number
        total = _Group(0, 1)
        total.add(0, (group.wholes[number], group.scales[number]), 1)
        total.add(0, (whole * group.rows, scale), 1)
        return total.wholes[0], total.scales[0]

    def _amounts(self, group: _Group) -> dict[str, str]:
        return {each.name: amount_text(*self._total(group, number)) for number, each in enumerate(self._sums)}

    def _text(self, key: tuple[Value, ...], group: _Group) -> str:
        sums = ", ".join(f"{name} {amount}" for name, amount in self._amounts(group).items())
        return ": ".join(part for part in (self._groups.name(key), sums) if part)


def _sum_of(name: str, text: str, positions: Mapping[str, int]) -> _Sum:
    terms = read_sum(text)
    columns = tuple((term.sign, positions[term.column]) for term in terms if term.column)
    number = _Group(0, 1)
    for term in terms:
        if term.number is not None and (amount := exact(term.number)) is not None:
            number.add(0, amount, term.sign)
    return _Sum(name, columns, (number.wholes[0], number.scales[0]))


def _add_column(groups: Sequence[_Group | None], number: int, values: Sequence[Value], sign: int) -> None:
    for group, value in zip(groups, values, strict=True):
        if group is not None and (amount := exact(value)) is not None:
            group.add(number, amount, sign)
