"""What another version of a pipeline means for the rows that are stored. Pure."""

from collections.abc import Iterator

import msgspec

from shared.pipelines.ddl.change import STRUCTURAL, Change
from shared.pipelines.ddl.existing import Existing
from shared.pipelines.latest import rank_order
from shared.pipelines.model import Condition, Pipeline, Present, Table
from shared.pipelines.typed_tables import TypedTable

_ANY = "*"
_NAMED_APART = frozenset({"table", "join", "total", "name", "etlpay", "include", "source", "about"})


def meaning_changes(
    before: Pipeline, after: Pipeline, tables: tuple[TypedTable, ...], existing: Existing
) -> Iterator[Change]:
    """Yield what changes between two versions with complete histories, beside what PostgreSQL holds.

    Where a table holds rows, they were made by the version before: what would make these wrong is structural.
    """
    yield from _source_changes(before, after)
    for field in (each for each in before.__struct_fields__ if each not in _NAMED_APART):
        if getattr(before, field) != getattr(after, field):
            yield Change("~", f"[{field}]")
    known = {table.name: table for table in before.table}
    for table in tables:
        if (old := known.get(table.table.name)) is not None:
            there = existing.tables.get(table.name)
            rows = there.rows if there else 0
            yield from _structural_changes(old, table.table, rows)
            yield from _other_changes(old, table.table)
    for name in (name for name in known if name not in {table.table.name for table in tables}):
        yield Change("-", f"table {name}", "is no longer written; kept, as it is")


def _source_changes(before: Pipeline, after: Pipeline) -> Iterator[Change]:
    for source in after.sources:
        if source not in before.sources:
            yield Change("+", f"source {source}")
    for source in before.sources:
        if source not in after.sources:
            yield Change("-", f"source {source}", "its events are no longer taken; their rows are kept")


def _structural_changes(old: Table, new: Table, rows: int) -> Iterator[Change]:
    """Yield what stored rows do not allow; without rows it is a change like others."""
    for what, detail in _unlike(old, new):
        if rows:
            yield Change("~", f"table {new.name}: {what}", f"{detail}; {counted(rows)} are stored", STRUCTURAL)
        else:
            yield Change("~", f"table {new.name}: {what}", f"{detail}; it holds no rows")


def _unlike(old: Table, new: Table) -> Iterator[tuple[str, str]]:
    for what in ("mode", "newest", "at"):
        before, after = getattr(old, what), getattr(new, what)
        if before != after:
            yield what, f"was {_shown(before)}, is {_shown(after)}"
    if _ranks_differ(old, new):
        yield "rank", "the ranks of stored rows are those of the order before"
    if narrower := _narrower(old, new):
        yield narrower, "takes fewer events than before"


def _ranks_differ(old: Table, new: Table) -> bool:
    """Tell whether a stored rank would mean another value. More values after the last are fine."""
    column, order = rank_order(old)
    other, longer = rank_order(new)
    return column != other or longer[: len(order)] != order


def _narrower(old: Table, new: Table) -> str:
    """Return which rule takes fewer events than before; empty: none."""
    if new.types and not (old.types and all(any(_covers(each, one) for each in new.types) for one in old.types)):
        return "types"
    if not all(name in old.when and _wider(old.when[name], condition) for name, condition in new.when.items()):
        return "when"
    return "except" if set(new.except_) - set(old.except_) else ""


def _covers(pattern: str, other: str) -> bool:
    return pattern == other or (pattern.endswith(_ANY) and other.startswith(pattern[:-1]))


def _wider(old: Condition, new: Condition) -> bool:
    """Tell whether a condition holds wherever the one before held."""
    if isinstance(old, Present) or isinstance(new, Present):
        return old == new
    before, after = (each if isinstance(each, tuple) else (each,) for each in (old, new))
    # True is equal to 1 in Python, and not in a payload.
    return {(type(each), each) for each in before} <= {(type(each), each) for each in after}


def _other_changes(old: Table, new: Table) -> Iterator[Change]:
    added = [each for each in new.types if each not in old.types] if old.types else []
    if added and not _narrower(old, new):
        yield Change("+", f"types of {new.name}", ", ".join(added))
    for what in ("when", "gone", "check", "of", "except_"):
        if getattr(old, what) != getattr(new, what) and _narrower(old, new) != what.rstrip("_"):
            yield Change("~", f"table {new.name}: {what.rstrip('_')}")
    for name, column in new.columns.items():
        before = old.columns.get(name)
        if before is not None and before != column:
            parts = [part for part in column.__struct_fields__ if getattr(before, part) != getattr(column, part)]
            named = ", ".join(part.rstrip("_") for part in parts if part != "about")
            if named:
                yield Change("~", f"column {new.name}.{name}", named)


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(map(str, value))})"
    return msgspec.json.encode(value).decode() if value is not None else "none"


def counted(rows: int) -> str:
    """Return a number of rows as it is told, where it is an estimate."""
    return f"about {rows:,} rows" if rows != 1 else "about 1 row"
