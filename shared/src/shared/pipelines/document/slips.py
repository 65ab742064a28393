"""Slips that TOML takes without a word: keys of a table that became columns. Pure."""

from collections.abc import Iterator
from typing import Final

from shared.pipelines import model
from shared.pipelines.document.types import Difference
from shared.pipelines.document.words import Document, known_keys

_TABLE_KEYS: Final = known_keys(model.Table)
_COLUMN_KEYS: Final = known_keys(model.Column)
_MODES: Final = frozenset({"append", "latest", "replace"})
_ABOVE: Final = "is a key of [[table]] that stands below [table.columns], so it became a column; write it above"


def expand_columns(document: Document) -> None:
    """Write each column that is only a text as one with that place. Changes the document."""
    for _, _, columns in _tables_with_columns(document):
        for name, column in columns.items():
            if isinstance(column, str):
                columns[name] = {"from": column}


def move_misplaced_keys(document: Document) -> Iterator[Difference]:
    """Yield the keys of tables that stand below `[table.columns]`, and put them where they belong."""
    for number, table, columns in _tables_with_columns(document):
        for name in [name for name in columns if name in _TABLE_KEYS and _is_misplaced(name, table, columns)]:
            value = table[name] = columns.pop(name)
            way_out = f"; a column of that name is written {name} = {{ from = … }}" if isinstance(value, str) else ""
            yield Difference(("table", number, "columns", name), _ABOVE + way_out)


def _is_misplaced(name: str, table: Document, columns: Document) -> bool:
    value = columns[name]
    if name in table:
        return False
    if isinstance(value, dict):
        return bool(value) and not _COLUMN_KEYS & value.keys()
    if not isinstance(value, str):
        return True
    names_column = name in {"newest", "rank"} and value != name and value in columns
    return name == "name" or names_column or (name == "mode" and value in _MODES) or (name == "at" and "*" in value)


def _tables_with_columns(document: Document) -> Iterator[tuple[int, Document, Document]]:
    tables = document.get("table")
    for number, table in enumerate(tables if isinstance(tables, list) else ()):
        if isinstance(table, dict) and isinstance(columns := table.get("columns"), dict):
            yield number, table, columns
