"""Which row of a `latest` table counts for each key: the highest (newest, rank, sequence). Pure.

The loader and the tests of a pipeline take the same decision here. PostgreSQL takes it once more where a row is stored
already; its guard compares the same three.
"""

from collections.abc import Hashable, Iterable, Mapping
from fractions import Fraction
from typing import Any, Final, NamedTuple

from shared.pipelines.model import Table
from shared.pipelines.program import Value

UNRANKED: Final = -1
"""The rank of a value that the order does not list: it loses against every value that is listed."""


class Candidate(NamedTuple):
    """A row of a `latest` table. `sequence`: the order in which its event was stored. `gone`: it is a tombstone."""

    sequence: int
    part: int
    values: tuple[Value, ...]
    gone: bool = False


class Precedence(NamedTuple):
    """How rows of one table are compared: positions of columns, and the ranks by value."""

    key: tuple[int, ...]
    newest: int | None
    rank: int | None
    ranks: Mapping[Value, int]

    def key_of(self, values: tuple[Value, ...]) -> Hashable:
        """Return the key of a row. Amounts of equal value are equal, as PostgreSQL takes them: 10.00 EUR and 10 JPY."""
        return tuple(
            Fraction(value[0], 10 ** value[1]) if isinstance(value, tuple) else value
            for value in (values[position] for position in self.key)
        )

    def rank_of(self, values: tuple[Value, ...]) -> int:
        """Return the rank of a row, higher is later; 0 where the table has none."""
        return 0 if self.rank is None else self.ranks.get(values[self.rank], UNRANKED)

    def standing(self, row: Candidate) -> tuple[Any, ...]:
        """Return what is compared, the part last. A row without a value of `newest` is older than every other."""
        newest = None if self.newest is None else row.values[self.newest]
        return (newest is not None, newest, self.rank_of(row.values), row.sequence, row.part)


def precedence_of(table: Table) -> Precedence:
    """Return how the rows of a table are compared. The table has passed `lint`: its columns exist."""
    positions = {name: position for position, name in enumerate(table.columns)}
    ranked, order = rank_order(table)
    return Precedence(
        key=tuple(positions[name] for name in table.key),
        newest=None if table.newest is None else positions[table.newest],
        rank=None if ranked is None else positions[ranked],
        ranks={value: number for number, value in enumerate(order)},
    )


def rank_order(table: Table) -> tuple[str | None, tuple[Value, ...]]:
    """Return the column that breaks ties, and its values in order. A name alone takes the order of its `values`."""
    if table.rank is None:
        return None, ()
    if not isinstance(table.rank, str):
        return table.rank.column, table.rank.order
    values = table.columns[table.rank].values or ()
    # What stands in the row is what `values` maps to; where two texts map to one, the later position counts.
    return table.rank, tuple(values.values()) if isinstance(values, dict) else values


def reduce_latest(precedence: Precedence, rows: Iterable[Candidate]) -> list[Candidate]:
    """Return one row a key, in the order in which the keys came first; tombstones are among them.

    The result is the same for every order of `rows`, but for its own order.
    """
    best: dict[Hashable, tuple[tuple[Any, ...], Candidate]] = {}
    for row in rows:
        standing = precedence.standing(row)
        key = precedence.key_of(row.values)
        known = best.get(key)
        if known is None or standing >= known[0]:
            best[key] = (standing, row)
    return [row for _, row in best.values()]
