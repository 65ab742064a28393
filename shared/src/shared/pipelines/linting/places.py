"""Lint places: whether a text names one, and whether it fits the current element of its table. Pure."""

from collections.abc import Iterator
from typing import Final

from shared.pipelines.document.problems import Steps
from shared.pipelines.linting.issues import Issue, TableScope, location_of
from shared.pipelines.model import Alternative, Column, Join, Sign, ZoneNames
from shared.pipelines.places import STAR, Location, Origin, PlaceError, read_place

_OF_ELEMENT: Final = frozenset({"@index", "@key", "@value"})


def place_issues(steps: Steps, text: str, at: tuple[str, ...] | None) -> Iterator[Issue]:
    """Yield what is wrong with a place; `at` are the steps of the current element, None where that is the payload."""
    try:
        location = read_place(text)
    except PlaceError as error:
        yield Issue(steps, f"{text[:80]} {error}".strip())
        return
    if detail := _misfit(location, text, at):
        yield Issue(steps, detail)


def _misfit(location: Location, text: str, at: tuple[str, ...] | None) -> str | None:
    if location.attribute in _OF_ELEMENT and STAR not in (at or ()):
        return f"{text} is of an element; the table needs an `at` that ends in *"
    if location.origin is Origin.POSITION and at not in {None, (STAR,)}:
        return f"{text} is a column of a CSV row, which has no elements as `at` names them"
    if STAR not in location.steps:
        return None
    if location.origin is not Origin.ROOT:
        return f"{text[:80]} goes through many elements; name them with the `at` of a table"
    up_to_star = len(location.steps) - location.steps[::-1].index(STAR)
    if at is None or location.steps[:up_to_star] != at[:up_to_star]:
        return f"{text[:80]} goes through many elements; up to its last * it must be as the table's `at`"
    return None


def one_place_issues(steps: Steps, text: str) -> Iterator[Issue]:
    """Yield what is wrong with a place outside the tables that is one, and of the payload or the event."""
    yield from place_issues(steps, text, None)


def any_places_issues(steps: Steps, text: str) -> Iterator[Issue]:
    """Yield what is wrong with a place of the payload that may go through many elements."""
    try:
        location = read_place(text)
    except PlaceError as error:
        yield Issue(steps, f"{text[:80]} {error}".strip())
        return
    if location.origin is Origin.ATTRIBUTE:
        yield Issue(steps, f"{text} is known of the event; name a place of its payload")


def column_places(name: str, column: Column) -> Iterator[tuple[Steps, str]]:
    """Yield each place that a column reads, with the key path within the column."""
    yield from value_places(name, column)
    if isinstance(column.zone, ZoneNames):
        yield ("zone", "from"), column.zone.from_
    if isinstance(column.sign, Sign):
        yield ("sign", "from"), column.sign.from_


def value_places(name: str, column: Column) -> Iterator[tuple[Steps, str]]:
    """Yield each place that the value of a column may come from, with the key path within the column."""
    if isinstance(column.from_, str):
        yield ("from",), column.from_
    elif isinstance(column.from_, Join):
        for number, text in enumerate(column.from_.join):
            yield ("from", "join", number), text
    elif column.from_ is not None:
        for number, each in enumerate(column.from_):
            if isinstance(each, Alternative):
                yield ("from", number, "from"), each.from_
            else:
                yield ("from", number), each
    elif column.value is None:
        yield (), name


def absolute_steps(text: str, at: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """Return the steps of a place from the payload's root, or None where it is none of the payload."""
    location = location_of(text)
    if location is None or location.origin is Origin.POSITION:
        return None
    if location.attribute == "@value":
        return at
    if location.origin is Origin.ATTRIBUTE:
        return None
    return location.steps if location.origin is Origin.ROOT else (*(at or ()), *location.steps)


def mixed_issues(scope: TableScope) -> Iterator[Issue]:
    """Yield a column that reads a CSV file by position in a table that reads below members of JSON."""
    places = [
        (("columns", name, *steps), location)
        for name, column in scope.table.columns.items()
        for steps, text in column_places(name, column)
        if (location := location_of(text))
    ]
    deep = any(location.origin is Origin.ROOT and len(location.steps) > 1 for _, location in places)
    by_position = [steps for steps, location in places if location.origin is Origin.POSITION]
    if deep and by_position and scope.at is None:
        detail = "reads a column of a CSV row, and others of this table read within JSON objects"
        yield Issue((*scope.steps, *by_position[0]), detail)
