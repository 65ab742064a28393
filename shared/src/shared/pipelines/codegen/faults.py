"""Problems and notes before they are told: what the generated code appends where something is wrong. Pure."""

from collections.abc import Sequence
from operator import attrgetter
from typing import Final

import msgspec

from shared.pipelines.program import RowProblem

CAUSE_CHARS_MAX: Final = 200
KEY_CHARS_MAX: Final = 100
PROBLEMS_MAX: Final = 100
"""Problems, and notes, that are told of one event."""

CHECK_ORDER: Final = 1_000_000
"""Checks are told after columns."""

_order = attrgetter("order")

DETAILS: Final = {
    "missing": "is required, and has no value",
    "value": "is none of the values that are listed",
    "min": "is below the least value",
    "max": "is above the greatest value",
    "precision": "has more decimals than can be kept",
    "currency": "needs a currency of ISO 4217",
    "country": "must be a country of ISO 3166 (two capital letters)",
    "absent": "is no column of the file, or is the name of several",
}
TYPE_DETAILS: Final = {
    "text": "must be a text without U+0000",
    "integer": "must be a whole number",
    "decimal": "must be a number",
    "boolean": "must be true or false",
    "timestamp": "must be written as `as` of the column says",
    "date": "must be written as `as` of the column says",
    "uuid": "must be a UUID of 36 characters",
    "json": "must be a JSON value without U+0000",
    "money": "must be an amount: a whole number of minor units, or a decimal number of major ones",
    "currency": "must be a text",
    "country": "must be a text",
}


class Fault(msgspec.Struct, frozen=True):
    """What is wrong, with the parts of its pointer: texts, and levels whose index or key stands between them."""

    order: int
    parts: tuple[str | int, ...]
    code: str
    detail: str
    cause: str

    def told(self, keys: Sequence[int | str]) -> RowProblem:
        """Return the problem of an element, given the index or key at each level."""
        pointer = "".join(part if isinstance(part, str) else _escaped(keys[part - 1]) for part in self.parts)
        return RowProblem(pointer.replace("\x00", "\ufffd"), self.code, self.detail, self.cause)


def cause_of(pipeline: str, table: str, column: str, code: str) -> str:
    """Return the cause of a problem: the same for all events, versions and elements."""
    where = ".".join(part for part in (pipeline, table, column) if part)
    return f"{where}:{code}"[:CAUSE_CHARS_MAX]


def tell(faults: list[Fault], keys: Sequence[int | str], into: list[RowProblem]) -> None:
    """Add the problems of a row in the order of its columns."""
    faults.sort(key=_order)
    into.extend(fault.told(keys) for fault in faults)


def is_clean(faults: list[Fault], columns: frozenset[int]) -> bool:
    """Tell whether none of the columns has a problem."""
    return all(fault.order not in columns for fault in faults)


def _escaped(key: int | str) -> str:
    if isinstance(key, int):
        return str(key)
    return key[:KEY_CHARS_MAX].replace("~", "~0").replace("/", "~1")
