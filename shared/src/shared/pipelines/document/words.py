"""What is said of a TOML document that does not fit the types of the model. Pure."""

from collections.abc import Iterable, Mapping
from datetime import date, time
from decimal import Decimal
from difflib import get_close_matches
from typing import Any, Final, TypeAlias

import msgspec
from msgspec import inspect

from shared.pipelines import model
from shared.pipelines.document.problems import Steps

Document: TypeAlias = dict[str, Any]


class Included(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a file that is included may hold."""

    table: tuple[model.Table, ...] = ()
    join: tuple[model.JoinView, ...] = ()
    total: tuple[model.Total, ...] = ()
    file_check: tuple[model.FileCheck, ...] = ()


_TITLES: Final[Mapping[type, str]] = {
    model.Pipeline: "a pipeline file",
    Included: "an included file; it holds [[table]], [[join]], [[total]] and [[file_check]] only",
    model.Table: "[[table]]",
    model.Column: "a column",
    model.EventRules: "[event]",
    model.MoneyRules: "[money]",
    model.CsvRules: "[csv]",
    model.Contract: "[contract]",
    model.Drift: "[drift]",
    model.Personal: "[personal]",
    model.JoinView: "[[join]]",
    model.Total: "[[total]]",
    model.FileCheck: "[[file_check]]",
}
_OTHER_WORDS: Final[Mapping[type, Mapping[str, str]]] = {
    model.Pipeline: {
        "test": "tests into a file beside this one, as stripe.test.toml",
        "check": "[[file_check]]",
        "columns": "[table.columns], below its [[table]]",
        "sources": "source",
    },
    model.Table: {
        "version": "newest",
        "for_each": "at",
        "description": "about",
        "primary_key": "key",
        "keys": "key",
        "column": "[table.columns]",
        "indexes": "index",
        "checks": "check",
        "load": "mode",
    },
    model.Column: {
        "path": "from",
        "place": "from",
        "source": "from",
        "pointer": "from",
        "default": "value",
        "enum": "values",
        "description": "about",
        "format": "as",
        "timezone": "zone",
        "tz": "zone",
        "scale": "digits",
        "not_null": "required",
        "nullable": "required",
        "mask": "[mask], above the first [[table]]",
    },
}
_SECTIONS: Final = frozenset(
    {model.EventRules, model.MoneyRules, model.CsvRules, model.Contract, model.Drift, model.Personal}
)
_LISTS_OF_TABLES: Final = frozenset({"table", "join", "total", "file_check"})
_NOT_BUILT: Final = "replace is not built yet; use latest with the file's day in the key"


def known_keys(struct: type[msgspec.Struct]) -> frozenset[str]:
    """Return the keys that a table of the file may hold."""
    return frozenset(struct.__struct_encode_fields__)


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that is most like another, or None where none is."""
    close = get_close_matches(word, sorted(known), n=1, cutoff=0.6)
    return close[0] if close else None


def misfit(value: object, members: tuple[inspect.Type, ...], steps: Steps) -> str:
    """Return why a value is none of the types that may stand at a key path."""
    key = steps[-1] if steps else ""
    if isinstance(value, dict) and key in _LISTS_OF_TABLES:
        return f"is a list of tables; write [[{key}]], with two brackets"
    if isinstance(value, list) and all(isinstance(each, dict) for each in value) and _takes_table(members):
        return (
            f"is one table; write [{'.'.join(str(each) for each in steps if isinstance(each, str))}], with one bracket"
        )
    if key == "mode" and value == "replace":
        return _NOT_BUILT
    if key == "etlpay" and isinstance(value, int):
        return "is a version of this format that is not known here; write etlpay = 1"
    words = tuple(str(each) for member in members if isinstance(member, inspect.LiteralType) for each in member.values)
    if isinstance(value, str) and words:
        close = nearest(value, words)
        return f"is none of {', '.join(words)}" + (f"; did you mean {close}?" if close else "")
    return f"must be {_one_of(members)}, not {_name_of(value)}"


def _takes_table(members: tuple[inspect.Type, ...]) -> bool:
    return any(isinstance(each, inspect.StructType | inspect.DictType) for each in members) and not any(
        isinstance(each, inspect.VarTupleType) for each in members
    )


def unknown_key(key: str, struct: type) -> str:
    """Return what is said of a key that a table of the file cannot hold."""
    title = _TITLES.get(struct, "this table")
    meant = _OTHER_WORDS.get(struct, {}).get(key)
    if meant is not None:
        return f"is no key of {title}; write {meant}"
    own = known_keys(struct)
    if struct is model.Column and key in known_keys(model.Table):
        return "is a key of [[table]], not of a column; write it above [table.columns]"
    if struct in _SECTIONS and key in known_keys(model.Pipeline):
        return f"is a key of the whole file, not of {title}; write it above the first header"
    if close := nearest(key, own):
        return f"is no key of {title}; did you mean {close}?"
    return f"is no key of {title}" + ("" if struct is Included else f"; there are {', '.join(sorted(own))}")


def missing_key(key: str) -> str:
    """Return what is said of a key that a table of the file lacks."""
    if key == "etlpay":
        return "is missing; the file begins with etlpay = 1"
    return "is missing"


def _one_of(members: tuple[inspect.Type, ...]) -> str:
    names = dict.fromkeys(name for each in members if (name := _name_of_type(each)))
    return " or ".join(names)


def _name_of_type(expected: inspect.Type) -> str:
    if isinstance(expected, inspect.LiteralType):
        return "one of " + ", ".join(str(each) for each in expected.values)
    return _NAMES_OF_TYPES.get(type(expected), "")


_NAMES_OF_TYPES: Final[Mapping[type, str]] = {
    inspect.StrType: "a text",
    inspect.BoolType: "true or false",
    inspect.IntType: "a whole number",
    inspect.DecimalType: "a decimal number",
    inspect.VarTupleType: "a list [ … ]",
    inspect.StructType: "a table { … }",
    inspect.DictType: "a table { … }",
}
_NAMES: Final[tuple[tuple[type, str], ...]] = (
    (bool, "true or false"),
    (str, "a text"),
    (int, "a whole number"),
    (Decimal, "a decimal number"),
    (list, "a list"),
    (dict, "a table"),
    (date, "a date without quotes"),
    (time, "a time without quotes"),
)


def _name_of(value: object) -> str:
    return next((name for each, name in _NAMES if isinstance(value, each)), "this")
