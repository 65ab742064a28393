"""An event as the places of a pipeline see it, read anew each time: slow, plain, without generated code."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from shared.pipelines.arithmetic import Comparison, Term
from shared.pipelines.model import Condition, Pipeline, Present, Table
from shared.pipelines.places import Origin, pointer_of, read_place
from shared.pipelines.program import Attributes
from support.interpreted_values import PLAIN, Raw

Told = tuple[str, str, str]
"""Pointer, code and cause."""


@dataclass
class Element:
    """Where a row comes from: the keys or indexes at each `*`, and the steps to the current element."""

    keys: tuple[str | int, ...] = ()
    indexes: tuple[int, ...] = ()
    steps: tuple[str | int, ...] = ()


@dataclass
class Interpreted:
    """What the interpreter made of an event."""

    rows: list[tuple[int, int, tuple[object, ...]]] = field(default_factory=list)
    problems: list[Told] = field(default_factory=list)
    notes: list[Told] = field(default_factory=list)
    gone: set[int] = field(default_factory=set)
    matched: bool = False


class EventReader:
    """Reads places of one event, and tells which conditions and comparisons hold. A CSV row has a header."""

    def __init__(
        self,
        pipeline: Pipeline,
        about: Attributes,
        payload: object = None,
        header: tuple[str, ...] | None = None,
        fields: tuple[str, ...] = (),
    ) -> None:
        self.pipeline = pipeline
        self.about = about
        self.header = header
        self.root = payload if header is None else tuple(zip(header, fields, strict=True))
        self.made = Interpreted()
        self.broken: set[str] = set()

    @property
    def is_csv(self) -> bool:
        """The event is a row of a CSV file."""
        return self.header is not None

    def _elements(self, table: Table) -> Iterator[Element]:
        steps = read_place(table.at).steps if table.at else ()
        yield from self._walk(table, steps, Element())

    def _walk(self, table: Table, steps: tuple[str, ...], element: Element) -> Iterator[Element]:
        if not steps:
            if not table.at or table.at.endswith("/*") or self._at(element.steps) is not None:
                yield element
            return
        if steps[0] != "*":
            yield from self._walk(table, steps[1:], Element(element.keys, element.indexes, (*element.steps, steps[0])))
            return
        is_last = "*" not in steps[1:]
        for index, (key, _) in enumerate(self._members(self._at(element.steps))):
            if isinstance(key, str) and is_last and key in table.except_:
                continue
            deeper = Element((*element.keys, key), (*element.indexes, index), (*element.steps, key))
            yield from self._walk(table, steps[1:], deeper)

    def _members(self, value: object) -> list[tuple[str | int, object]]:
        if isinstance(value, list):
            return list(enumerate(value))
        if isinstance(value, dict):
            return list(value.items())
        return list(value) if isinstance(value, tuple) else []

    def _at(self, steps: tuple[str | int, ...]) -> Raw:
        value: Raw = self.root
        for number, step in enumerate(steps):
            if isinstance(value, tuple):
                named = [cell for name, cell in value if name == step]
                value = named[0] if len(named) == 1 and number == 0 else None
                value = None if value in self.pipeline.csv.missing else value
            elif isinstance(value, dict):
                value = value.get(step)
            elif isinstance(value, list):
                is_index = str(step).isascii() and str(step).isdigit() and str(int(str(step))) == str(step)
                value = value[int(str(step))] if is_index and int(str(step)) < len(value) else None
            else:
                value = None
        return value

    def _steps(self, place: str, element: Element) -> tuple[str | int, ...]:
        location = read_place(place)
        if location.origin is Origin.ELEMENT:
            return (*element.steps, *location.steps)
        keys = iter(element.keys)
        return tuple(next(keys) if step == "*" else step for step in location.steps)

    def read(self, place: str, element: Element) -> Raw:
        location = read_place(place)
        if location.number:
            cells = self.root if isinstance(self.root, tuple) else ()
            cell = cells[location.number - 1][1] if location.number <= len(cells) else None
            return None if cell in self.pipeline.csv.missing else cell
        if not location.attribute:
            return self._at(self._steps(place, element))
        return self._known(location.attribute[1:], element)

    def _known(self, name: str, element: Element) -> Raw:
        if name == "value":
            if isinstance(self.root, tuple) and len(element.steps) == len(element.indexes) == 1:
                cell = self.root[element.indexes[0]][1]
                return None if cell in self.pipeline.csv.missing else cell
            found = self._at(element.steps)
            return None if isinstance(found, tuple) else found
        if name == "index":
            return element.indexes[-1] if element.indexes else None
        if name == "key":
            return next((key for key in element.keys[-1:] if isinstance(key, str)), None)
        return getattr(self.about, name) or None

    def pointer(self, place: str | None, element: Element) -> str:
        if place is None:
            return pointer_of(*element.steps)
        location = read_place(place)
        if location.number:
            return place
        if location.attribute:
            return pointer_of(*element.steps) if location.attribute in {"@index", "@key", "@value"} else ""
        return pointer_of(*self._steps(place, element))

    def is_absent(self, place: str, table: Table) -> bool:
        location = read_place(place)
        if self.header is None or location.attribute not in {"", "@value"}:
            return False
        if location.number:
            return location.number > len(self.header)
        steps = location.steps
        if table.at and (location.origin is Origin.ELEMENT or location.attribute):
            steps = (*read_place(table.at).steps, *steps)
        return len(steps) == 1 and steps != ("*",) and self.header.count(steps[0]) != 1

    def _is_type(self, table: Table) -> bool:
        kind = self.about.type
        if not kind and self.pipeline.event.type is not None:
            found = self.read(self.pipeline.event.type, Element())
            kind = found if isinstance(found, str) else ""
        return not table.types or any(
            kind == name or (name.endswith("*") and kind.startswith(name[:-1])) for name in table.types
        )

    def _takes(self, table: Table, element: Element) -> bool:
        return self._is_type(table) and self._hold(table.when, element)

    def _hold(self, conditions: Mapping[str, Condition], element: Element) -> bool:
        return all(self._holds(self.read(place, element), wanted) for place, wanted in conditions.items())

    def _holds(self, value: object, wanted: Condition) -> bool:
        if isinstance(wanted, Present):
            return (value is not None) == wanted.present
        if isinstance(wanted, tuple):
            return any(self._holds(value, each) for each in wanted)
        if self.is_csv:
            return value is not None and str(value) == (
                str(wanted).lower() if isinstance(wanted, bool) else str(wanted)
            )
        return type(value) is type(wanted) and value == wanted

    def _tell_absent_conditions(self, table: Table) -> bool:
        if not self._is_type(table):
            return False
        conditions = [*table.when.items(), *table.gone.items()]
        absent = [
            place for place, wanted in conditions if not isinstance(wanted, Present) and self.is_absent(place, table)
        ]
        element = Element(steps=read_place(table.at).steps if table.at else ())
        for place in absent:
            cause = f"{self.pipeline.name}.{table.name}:absent"
            self.made.problems.append((self.pointer(place, element), "absent", cause))
        self.made.matched |= bool(absent)
        return bool(absent)

    def tell(self, table: Table, name: str, code: str, pointer: str) -> Told:
        """Return a problem of a column."""
        return (pointer, code, f"{self.pipeline.name}.{table.name}.{name}:{code}")

    def holds(self, comparison: Comparison, values: Mapping[str, object], *, empty_is_zero: bool) -> bool:
        """Tell whether a comparison holds for the values of a row."""
        sides = []
        for terms in (comparison.left, comparison.right):
            numbers = [self._numbers(term, values) for term in terms]
            if any(number is None for each in numbers for number in each) and not empty_is_zero:
                return False
            side = Decimal(0)
            for term, each in zip(terms, numbers, strict=True):
                for number in each:
                    side = PLAIN.add(side, PLAIN.multiply(Decimal(term.sign), number or Decimal(0)))
            sides.append(side)
        left, right = sides
        return {"=": left == right, "<=": left <= right, ">=": left >= right, "<": left < right, ">": left > right}[
            comparison.operator
        ]

    def _numbers(self, term: Term, values: Mapping[str, object]) -> list[Decimal | None]:
        if term.number is not None:
            return [term.number]
        if not term.function:
            return [as_decimal(values.get(term.column))]
        names = [table.name for table in self.pipeline.table]
        number = names.index(term.table)
        rows = [row for at, row in enumerate(self.made.rows) if row[0] == number and at not in self.made.gone]
        if term.function == "count":
            return [Decimal(len(rows))]
        position = list(self.pipeline.table[number].columns).index(term.column)
        return [as_decimal(row[2][position]) for row in rows]


def as_decimal(value: object) -> Decimal | None:
    """Return a number of a row."""
    if isinstance(value, tuple):
        return PLAIN.scaleb(Decimal(value[0]), -value[1])
    return None if value is None else Decimal(str(value))
