"""What stands at each place of some events: how often, of which types, written how. Pure."""

import itertools
import re
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Final, TypeAlias

from shared.pipelines.places import STAR
from shared.pipelines.trials.samples import SampleEvent

Steps: TypeAlias = tuple[str, ...]
"""The names of members from the root; `*` is every element of an array."""

Row: TypeAlias = tuple[int, int]
"""The number of an event, and that of an element over all events; 0 outside of elements."""

DISTINCT_MAX: Final = 20
DEPTH_MAX: Final = 8

_TEXTS: Final = {
    "timestamp": re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,6})?([Zz]|[+-]\d\d:\d\d)", re.ASCII),
    "date": re.compile(r"\d{4}-\d\d-\d\d", re.ASCII),
    "day.month.year": re.compile(r"\d\d\.\d\d\.\d{4}", re.ASCII),
    "uuid": re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", re.ASCII),
    "currency": re.compile(r"[A-Z]{3}|[a-z]{3}", re.ASCII),
    "country": re.compile(r"[A-Z]{2}|[a-z]{2}", re.ASCII),
    "boolean": re.compile(r"true|false"),
    # A leading zero is of a number that is a name, as of an account.
    "integer": re.compile(r"-?(0|[1-9]\d{0,17})", re.ASCII),
    "decimal": re.compile(r"-?(0|[1-9]\d*)(\.\d+)?", re.ASCII),
    "decimal comma": re.compile(r"-?(0|[1-9]\d*)(,\d+)?", re.ASCII),
}
_SECONDS: Final = range(946_684_800, 4_102_444_800)
"""The years 2000 to 2099 in seconds since 1970."""


class Observed:
    """What stood at a place.

    `counted`: how often it was there, `nulls` included. `rows`: in which events, or elements of arrays, it was filled.
    `digits`, `decimals`: the most that a number has before and after its point.
    """

    def __init__(self) -> None:
        self.counted = 0
        self.nulls = 0
        self.kinds: set[str] = set()
        self.forms: set[str] = {*_TEXTS, "unix", "unix_ms"}
        self.distinct: set[str] | None = set()
        self.unique = True
        self.digits = 0
        self.decimals = 0
        self.objects = 0
        self.rows: set[Row] = set()
        self._seen: set[object] = set()

    @property
    def filled(self) -> int:
        """How often a value stood there."""
        return self.counted - self.nulls

    def count(self, value: object, row: Row) -> None:
        """Take one value into account."""
        self.counted += 1
        if value is None:
            self.nulls += 1
            return
        self.rows.add(row)
        self.kinds.add(_kind_of(value))
        if isinstance(value, str):
            self.forms = {form for form in self.forms if form in _TEXTS and _TEXTS[form].fullmatch(value)}
        elif isinstance(value, int) and not isinstance(value, bool):
            self.forms &= {form for form, unit in (("unix", 1), ("unix_ms", 1000)) if value // unit in _SECONDS}
        else:
            self.forms = set()
        if isinstance(value, Decimal | int) or self.forms & {"decimal", "decimal comma"}:
            whole, decimals = _digits_of(value)
            self.digits, self.decimals = max(self.digits, whole), max(self.decimals, decimals)
        self._count_distinct(value)

    def _count_distinct(self, value: object) -> None:
        self.objects += isinstance(value, dict)
        if isinstance(value, dict | list):
            self.unique, self.distinct = False, None
            return
        self.unique = self.unique and value not in self._seen
        if self.unique:
            self._seen.add(value)
        if self.distinct is not None and isinstance(value, str):
            self.distinct.add(value)
            self.distinct = self.distinct if len(self.distinct) <= DISTINCT_MAX else None


def observe(events: Iterable[SampleEvent]) -> dict[Steps, Observed]:
    """Return what stood at each place, in the order in which the places came first.

    A column of CSV is two steps: its name, and its number where the name does not tell it; else an empty text.
    """
    places: dict[Steps, Observed] = {}
    elements = itertools.count(1)
    for position, event in enumerate(events):
        row = position, 0
        if event.header is None:
            _walk(event.payload, (), row, elements, places)
            continue
        for number, (name, field) in enumerate(zip(event.header, event.fields, strict=True), 1):
            told = name not in {"", STAR} and event.header.count(name) == 1
            places.setdefault((name, "" if told else f"#{number}"), Observed()).count(field or None, row)
    return places


def _walk(value: object, steps: Steps, row: Row, elements: Iterator[int], places: dict[Steps, Observed]) -> None:
    if steps:
        places.setdefault(steps, Observed()).count(value, row)
    if len(steps) >= DEPTH_MAX:
        return
    if isinstance(value, dict):
        for name, member in value.items():
            if name != STAR:
                _walk(member, (*steps, name), row, elements, places)
    elif isinstance(value, list):
        for element in value:
            _walk(element, (*steps, STAR), (row[0], next(elements)), elements, places)


def _digits_of(value: object) -> tuple[int, int]:
    """Return how many digits a number has before and after its point."""
    if isinstance(value, Decimal):
        exponent = value.as_tuple().exponent
        return max(1, value.adjusted() + 1), max(0, -exponent) if isinstance(exponent, int) else 0
    whole, _, decimals = str(value).lstrip("-").replace(",", ".").partition(".")
    return len(whole), len(decimals)


def _kind_of(value: object) -> str:
    # `bool` is a subclass of `int`: it comes first.
    kinds = ((bool, "boolean"), (int, "integer"), (Decimal, "decimal"), (str, "text"), (dict, "object"))
    return next((name for cls, name in kinds if isinstance(value, cls)), "array")
