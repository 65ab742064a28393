"""Lint the columns of a table: places, options that fit the type, values, currencies. Pure."""

from collections.abc import Iterator, Mapping
from typing import Final

from shared.pipelines.document.problems import Steps
from shared.pipelines.document.sql_names import sql_name_problem
from shared.pipelines.linting.issues import NUMERIC, Issue, TableScope, unknown_name
from shared.pipelines.linting.places import column_places, place_issues, value_places
from shared.pipelines.linting.times import known_moment_issues, time_issues
from shared.pipelines.linting.values import fixed_value_issues, values_issues
from shared.pipelines.model import Alternative, Column, ColumnType, Join
from shared.pipelines.values.money import DIGITS_MAX

_TIMES: Final[frozenset[ColumnType]] = frozenset({"timestamp", "date"})
_TEXTS: Final[frozenset[ColumnType]] = frozenset({"text", "currency", "country"})
_AS_TEXT: Final = "text"
_READ_AS_TEXT: Final[frozenset[ColumnType]] = frozenset({"integer", "decimal", "boolean", "money"})
OPTION_TYPES: Final[Mapping[str, frozenset[ColumnType]]] = {
    "zone": _TIMES,
    "min": NUMERIC,
    "max": NUMERIC,
    "currency": frozenset({"money"}),
    "digits": frozenset({"money"}),
    "units": frozenset({"money"}),
    "exponents": frozenset({"money"}),
    "case": _TEXTS,
    "trim": frozenset({*_TEXTS, *NUMERIC, *_TIMES, "boolean", "uuid"}),
    "negate": NUMERIC,
    "sign": NUMERIC,
}
"""The types of columns that an option is for; others are for all."""

_WITH_FIXED_VALUE: Final = (
    *("as", "zone", "optional", "values", "otherwise", "min", "max", "case", "trim", "negate", "sign", "on_error"),
    "skip",
)
_MOMENTS: Final = frozenset({"@received_at", "@file_at", "@occurred_at"})
_NUMBERS: Final = frozenset({"@row", "@index"})


def column_issues(scope: TableScope, name: str, column: Column) -> Iterator[Issue]:
    """Yield what is wrong with a column of a table."""
    steps = (*scope.steps, "columns", name)
    if detail := sql_name_problem(name):
        yield Issue(steps, f"{name[:80]!r} {detail}")
        return
    for within, text in column_places(name, column):
        yield from place_issues((*steps, *within), text, scope.at)
    yield from _from_issues(steps, column)
    yield from _fixed_issues(steps, column)
    yield from _option_issues(steps, column)
    yield from _as_issues(steps, name, column)
    yield from values_issues(steps, column)
    yield from _bounds_issues(steps, column)
    yield from _attribute_issues(steps, name, column)
    yield from _presence_issues(scope, steps, name, column)
    if column.type == "money":
        yield from _money_issues(scope, steps, column)


def given_options(column: Column) -> frozenset[str]:
    """Return the options that a column states, by their names in the file."""
    defaults = Column()
    fields = zip(column.__struct_encode_fields__, column.__struct_fields__, strict=True)
    return frozenset(key for key, field in fields if getattr(column, field) != getattr(defaults, field))


def _from_issues(steps: Steps, column: Column) -> Iterator[Issue]:
    if column.from_ == ():
        yield Issue((*steps, "from"), "is an empty list; name a place")
    if isinstance(column.from_, Join) and not column.from_.join:
        yield Issue((*steps, "from", "join"), "is an empty list; name places")
    if isinstance(column.from_, tuple) and column.type not in NUMERIC:
        for number, each in enumerate(column.from_):
            if isinstance(each, Alternative) and each.negate:
                yield Issue((*steps, "from", number, "negate"), f"does not fit the type {column.type}")


def _fixed_issues(steps: Steps, column: Column) -> Iterator[Issue]:
    if column.value is None:
        return
    yield from fixed_value_issues(steps, column, column.value)
    if column.from_ is not None:
        yield Issue((*steps, "value"), "stands beside `from`; a column has a place or a fixed value")
    for option in sorted(given_options(column).intersection(_WITH_FIXED_VALUE)):
        yield Issue((*steps, option), "changes nothing where `value` is given")


def _option_issues(steps: Steps, column: Column) -> Iterator[Issue]:
    for option in sorted(given_options(column) & OPTION_TYPES.keys()):
        if column.type not in OPTION_TYPES[option]:
            types = ", ".join(sorted(OPTION_TYPES[option]))
            yield Issue((*steps, option), f"does not fit the type {column.type}; it is for {types}")


def _as_issues(steps: Steps, name: str, column: Column) -> Iterator[Issue]:
    if column.type in _TIMES:
        places = {text for _, text in value_places(name, column)}
        if places and places <= _MOMENTS:
            yield from known_moment_issues(steps, column.as_, column.zone, day=column.type == "date")
        elif column.value is None:
            yield from time_issues(steps, column.as_, column.zone, day=column.type == "date")
        return
    if column.as_ is None or (column.as_ == _AS_TEXT and column.type in _READ_AS_TEXT):
        return
    if column.as_ == _AS_TEXT:
        yield Issue((*steps, "as"), f"does not fit the type {column.type}, which is read from texts")
    else:
        yield Issue((*steps, "as"), f"does not fit the type {column.type}; a layout is for timestamp and date")


def _bounds_issues(steps: Steps, column: Column) -> Iterator[Issue]:
    if column.min is not None and column.max is not None and column.min > column.max:
        yield Issue((*steps, "min"), "is above max; no value would ever do")
    if column.sign is None:
        return
    if not column.sign.minus and not column.sign.plus:
        yield Issue((*steps, "sign"), 'needs `minus` or `plus`, the texts that stand for a sign, as minus = ["S"]')
    for text in sorted({*column.sign.minus} & {*column.sign.plus}):
        yield Issue((*steps, "sign"), f"has {text[:40]!r} as minus and as plus")


def _attribute_issues(steps: Steps, name: str, column: Column) -> Iterator[Issue]:
    if isinstance(column.from_, Join):
        return
    for within, text in value_places(name, column):
        if text in _NUMBERS and column.type != "integer":
            yield Issue((*steps, *within), f'{text} is a whole number; write type = "integer"')
        elif text in _MOMENTS and column.type not in _TIMES:
            yield Issue((*steps, *within), f'{text} is a point in time; write type = "timestamp"')
        elif _is_text_of_event(text) and column.type in {"integer", "decimal", "money", "boolean", "timestamp", "json"}:
            yield Issue((*steps, *within), f"{text} is a text, which does not fit the type {column.type}")


def _is_text_of_event(text: str) -> bool:
    return text in {"@source", "@id", "@type", "@channel", "@file"}


def _presence_issues(scope: TableScope, steps: Steps, name: str, column: Column) -> Iterator[Issue]:
    if column.required and column.optional:
        yield Issue((*steps, "optional"), "stands beside `required`; an absent column would fail each event")
    if column.required and column.skip:
        yield Issue((*steps, "skip"), "stands beside `required`; without a value there is either no row or a problem")
    if column.on_error is None:
        return
    table = scope.table
    use = {"the key": table.key, "newest": (table.newest,), "rank": (rank_column(scope),)}
    uses = [what for what, names in use.items() if name in names]
    if any(other.currency == name for other in table.columns.values()):
        uses.append("a currency")
    if column.type in {"money", "currency"} or uses:
        what = uses[0] if uses else column.type
        yield Issue((*steps, "on_error"), f"is not for {what}; a wrong value there must fail the event")
    elif column.required:
        yield Issue((*steps, "on_error"), "stands beside `required`; a value that is left out would be missing")


def rank_column(scope: TableScope) -> str | None:
    """Return the column that breaks ties, or None."""
    rank = scope.table.rank
    return rank if rank is None or isinstance(rank, str) else rank.column


def _money_issues(scope: TableScope, steps: Steps, column: Column) -> Iterator[Issue]:
    if column.currency is None:
        yield Issue((*steps, "currency"), "is missing; name the column that holds the currency of the amount")
    elif column.currency not in scope.table.columns:
        named = unknown_name(f"column of {scope.table.name}:", column.currency, scope.table.columns)
        yield Issue((*steps, "currency"), f"{named} (a fixed currency is a column with `value`)")
    elif scope.table.columns[column.currency].type != "currency":
        yield Issue((*steps, "currency"), f'{column.currency} is no column with type = "currency"')
    if column.digits is not None and not 0 <= column.digits <= DIGITS_MAX:
        yield Issue((*steps, "digits"), f"must be 0 to {DIGITS_MAX}")
    units = column.units or scope.pipeline.money.units
    if column.exponents is not None and units == "major":
        yield Issue((*steps, "exponents"), 'changes nothing; it counts where units = "minor"', "warning")
