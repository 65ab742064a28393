"""The rows that the views of a pipeline would show after some events, as text. Pure.

`append`: the rows of every event. `latest`: one row a key, without tombstones. `of`: only the rows of the event
that made the parent's row.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from shared.pipelines.latest import Candidate, precedence_of, reduce_latest
from shared.pipelines.model import Of, Table
from shared.pipelines.program import Made, Value
from shared.pipelines.trials.expectations import TextRow, TextRows
from shared.pipelines.values.texts import text_of


class MadeOf(NamedTuple):
    """What an event made. `sequence`: the order in which it was stored; the same event has the same number."""

    sequence: int
    made: Made


def shown_rows(tables: Sequence[Table], events: Iterable[MadeOf]) -> dict[str, list[Candidate]]:
    """Return the rows of each table, by its name."""
    arrived = list(events)
    rows = {table.name: _rows_of(number, table, arrived) for number, table in enumerate(tables)}
    for table in tables:
        if table.of is not None:
            rows[table.name] = _of_parent(table, table.of, tables, rows)
    return {name: [row for row in listed if not row.gone] for name, listed in rows.items()}


def as_text(tables: Sequence[Table], rows: Mapping[str, Iterable[Candidate]]) -> TextRows:
    """Return rows as text, every column."""
    return {table.name: tuple(row_text(table, row.values) for row in rows[table.name]) for table in tables}


def row_text(table: Table, values: tuple[Value, ...]) -> TextRow:
    """Return one row as text, by column."""
    return {name: text_of(value) for name, value in zip(table.columns, values, strict=True)}


def _rows_of(number: int, table: Table, events: Iterable[MadeOf]) -> list[Candidate]:
    # An event that comes again replaces what it made before.
    by_event = {event.sequence: _candidates(number, event) for event in events}
    rows = [row for candidates in by_event.values() for row in candidates]
    return reduce_latest(precedence_of(table), rows) if table.mode == "latest" else rows


def _candidates(number: int, event: MadeOf) -> list[Candidate]:
    made = event.made
    return [
        Candidate(event.sequence, row.part, row.values, position in made.gone)
        for position, row in enumerate(made.rows)
        if row.table == number
    ]


def _of_parent(
    table: Table, of: Of, tables: Sequence[Table], rows: Mapping[str, Sequence[Candidate]]
) -> list[Candidate]:
    parent = next(each for each in tables if each.name == of.table)
    own, others = list(table.columns), list(parent.columns)
    # A name that the parent does not have is its key at the same position.
    names = [name if name in others else parent.key[position] for position, name in enumerate(of.on)]
    parents = {
        (row.sequence, *(row.values[others.index(name)] for name in names)) for row in rows[of.table] if not row.gone
    }
    return [
        row for row in rows[table.name] if (row.sequence, *(row.values[own.index(name)] for name in of.on)) in parents
    ]
