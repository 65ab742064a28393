"""Lint values that stand in the file: fixed ones, lists, and what texts are mapped to. Pure."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from shared.pipelines.document.problems import Steps
from shared.pipelines.linting.issues import Issue, repeated
from shared.pipelines.model import Column, ColumnType, Otherwise, Scalar
from shared.pipelines.values.countries import COUNTRIES
from shared.pipelines.values.money import currencies

_WHOLE: Final = re.compile(r"-?[0-9]{1,19}", re.ASCII)
_NUMBER: Final = re.compile(r"-?[0-9]{1,40}(?:\.[0-9]{1,40})?", re.ASCII)
_CODE: Final = re.compile(r"[A-Z]{3}")

_READS: Final[Mapping[ColumnType, Callable[[str], object]]] = {
    "integer": _WHOLE.fullmatch,
    "decimal": _NUMBER.fullmatch,
    "money": _NUMBER.fullmatch,
    "boolean": {"true", "false"}.__contains__,
    "currency": lambda text: text in currencies().exponents,
    "country": COUNTRIES.__contains__,
}
"""What tells whether a text of the file is read as a type. Texts of other types are looked at when they are read."""

FIXED_TYPES: Final[frozenset[ColumnType]] = frozenset({"text", "integer", "decimal", "boolean", "currency", "country"})
LISTED_TYPES: Final = FIXED_TYPES - {"boolean"}
_TEXTS: Final[frozenset[ColumnType]] = frozenset({"text", "currency", "country"})


def fixed_value_issues(steps: Steps, column: Column, value: Scalar) -> Iterator[Issue]:
    """Yield why the `value` of a column is none of its type."""
    if column.type not in FIXED_TYPES:
        yield Issue((*steps, "value"), f"does not fit the type {column.type}")
    elif not _is_of_type(value, column.type):
        yield Issue((*steps, "value"), f"is no {_name_of(column.type)}")


def _is_of_type(value: Scalar, wanted: ColumnType) -> bool:
    if isinstance(value, bool):
        return wanted == "boolean"
    if isinstance(value, int):
        return wanted in {"integer", "decimal"}
    return wanted not in {"integer", "boolean"} and _is_read_as(value, wanted)


def _is_read_as(text: str, wanted: ColumnType) -> bool:
    return wanted not in _READS or bool(_READS[wanted](text))


def _name_of(wanted: ColumnType) -> str:
    names: dict[ColumnType, str] = {
        "decimal": 'decimal number, as "19.5"',
        "currency": "currency, as EUR",
        "country": "country, as DE",
        "boolean": "boolean, true or false",
    }
    return names.get(wanted, wanted)


def values_issues(steps: Steps, column: Column) -> Iterator[Issue]:
    """Yield what is wrong with `values` and `otherwise`."""
    if column.values is None:
        if column.otherwise is not None:
            yield Issue((*steps, "otherwise"), "needs `values`, the list that something else is not in")
        return
    if not column.values:
        yield Issue((*steps, "values"), "is empty; no value would ever do")
    yield from (_map_issues if isinstance(column.values, dict) else _list_issues)(steps, column)


def _map_issues(steps: Steps, column: Column) -> Iterator[Issue]:
    targets = dict(column.values) if isinstance(column.values, dict) else {}
    if column.type == "json":
        yield Issue((*steps, "values"), "maps texts, which does not fit the type json")
        return
    for text, target in targets.items():
        if not _is_read_as(target, column.type):
            yield Issue((*steps, "values", text), f"is no {_name_of(column.type)}")
    if isinstance(column.otherwise, Otherwise) and not _is_read_as(column.otherwise.value, column.type):
        yield Issue((*steps, "otherwise", "value"), f"is no {_name_of(column.type)}")


def _list_issues(steps: Steps, column: Column) -> Iterator[Issue]:
    values = column.values if isinstance(column.values, tuple) else ()
    if column.type not in LISTED_TYPES:
        types = ", ".join(sorted(LISTED_TYPES))
        yield Issue((*steps, "values"), f"does not fit the type {column.type}; a list is for {types}")
        return
    yield from repeated((*steps, "values"), values)
    for number, value in enumerate(values):
        is_code = column.type == "currency" and isinstance(value, str) and _CODE.fullmatch(value)
        if not is_code and not _is_of_type(value, column.type):
            yield Issue((*steps, "values", number), f"is no {_name_of(column.type)}")
    if isinstance(column.otherwise, Otherwise) and column.type not in _TEXTS:
        yield Issue((*steps, "otherwise"), f"gives a text, which does not fit the type {column.type}")
