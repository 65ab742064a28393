"""What linting finds, before its file and line are known. Pure."""

from collections.abc import Collection, Iterable, Iterator
from typing import Final, NamedTuple

import msgspec

from shared.pipelines.document.problems import Level, Steps
from shared.pipelines.document.words import nearest
from shared.pipelines.model import Column, ColumnType, Pipeline, Table
from shared.pipelines.places import Location, PlaceError, read_place

NUMERIC: Final[frozenset[ColumnType]] = frozenset({"integer", "decimal", "money"})
ORDERED: Final[frozenset[ColumnType]] = frozenset({"timestamp", "integer", "date", "decimal"})


class Issue(NamedTuple):
    """What is wrong or doubtful, at a key path of the pipeline with its included files."""

    steps: Steps
    detail: str
    level: Level = "error"


class TableScope(msgspec.Struct, frozen=True):
    """A table and what its parts refer to. `at`: the steps of its current element, None where that is the payload."""

    pipeline: Pipeline
    number: int
    table: Table
    at: tuple[str, ...] | None

    @property
    def steps(self) -> Steps:
        """The key path of the table."""
        return ("table", self.number)

    def column(self, name: str) -> Column | None:
        """Return a column of the table."""
        return self.table.columns.get(name)


def scopes_of(pipeline: Pipeline) -> Iterator[TableScope]:
    """Yield the tables of a pipeline, in the order of the file."""
    for number, table in enumerate(pipeline.table):
        location = location_of(table.at) if table.at else None
        yield TableScope(pipeline, number, table, location.steps or None if location else None)


def location_of(text: str) -> Location | None:
    """Return the location that a text names, or None where it names none."""
    try:
        return read_place(text)
    except PlaceError:
        return None


def table_named(pipeline: Pipeline, name: str) -> Table | None:
    """Return the first table of that name."""
    return next((table for table in pipeline.table if table.name == name), None)


def unknown_name(what: str, name: str, known: Iterable[str]) -> str:
    """Return what is said of a name that nothing has, as `there is no column amunt; did you mean amount?`."""
    close = nearest(name, list(known))
    return f"there is no {what} {name[:80]}" + (f"; did you mean {close}?" if close else "")


def unknown_columns(steps: Steps, names: Collection[str], table: Table) -> Iterator[Issue]:
    """Yield the names of a list that are no columns of a table, and those that stand there twice."""
    for position, name in enumerate(names):
        if name not in table.columns:
            yield Issue((*steps, position), unknown_name(f"column of {table.name}:", name, table.columns))
    yield from repeated(steps, names)


def repeated(steps: Steps, names: Collection[object]) -> Iterator[Issue]:
    """Yield what stands in a list a second time."""
    seen: set[tuple[type, object]] = set()
    for position, name in enumerate(names):
        if (type(name), name) in seen:
            yield Issue((*steps, position), f"{str(name)[:80]} stands here twice")
        seen.add((type(name), name))
