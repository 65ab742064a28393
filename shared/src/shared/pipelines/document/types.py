"""Compare a TOML document with the types of the model, and tell every difference with its key path. Pure."""

from collections.abc import Iterator
from decimal import Decimal
from typing import NamedTuple

from msgspec import inspect

from shared.pipelines.document.problems import Steps
from shared.pipelines.document.words import Document, misfit, missing_key, nearest, unknown_key


class Difference(NamedTuple):
    """What does not fit the types, and where."""

    steps: Steps
    detail: str


def differences(document: object, expected: type) -> Iterator[Difference]:
    """Yield whatever in a document is not of a type of the model."""
    yield from _compare(document, inspect.type_info(expected), ())


def _compare(value: object, expected: inspect.Type, steps: Steps) -> Iterator[Difference]:
    members = expected.types if isinstance(expected, inspect.UnionType) else (expected,)
    for member in members:
        if isinstance(value, dict) and isinstance(member, inspect.StructType):
            yield from _compare_struct(value, member, steps)
            return
        if isinstance(value, dict) and isinstance(member, inspect.DictType):
            for key, each in value.items():
                yield from _compare(each, member.value_type, (*steps, key))
            return
        if isinstance(value, list) and isinstance(member, inspect.VarTupleType):
            for number, each in enumerate(value):
                yield from _compare(each, member.item_type, (*steps, number))
            return
        if _is_scalar(value, member):
            return
    yield Difference(steps, misfit(value, members, steps))


def _compare_struct(value: Document, expected: inspect.StructType, steps: Steps) -> Iterator[Difference]:
    fields = {field.encode_name: field for field in expected.fields}
    meant: set[str | None] = set()
    for key, each in value.items():
        if key in fields:
            yield from _compare(each, fields[key].type, (*steps, key))
        else:
            meant.add(nearest(key, fields))
            yield Difference((*steps, key), unknown_key(key, expected.cls))
    for key, field in fields.items():
        if field.required and key not in value and key not in meant:
            yield Difference((*steps, key), missing_key(key))


def _is_scalar(value: object, member: inspect.Type) -> bool:
    match member:
        case inspect.StrType():
            return isinstance(value, str)
        case inspect.BoolType():
            return isinstance(value, bool)
        case inspect.IntType():
            return isinstance(value, int) and not isinstance(value, bool)
        case inspect.DecimalType():
            return isinstance(value, Decimal) and value.is_finite()
        case inspect.LiteralType():
            return any(type(value) is type(each) and value == each for each in member.values)
        case _:
            return False
