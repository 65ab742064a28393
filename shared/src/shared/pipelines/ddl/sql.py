"""Statements of SQL as texts: every name is quoted, and every name of a table or view has its schema. Pure."""

from collections.abc import Iterable

from shared.pipelines.ddl.existing import ExistingIndex
from shared.pipelines.typed_tables import DATA_SCHEMA, ROWS_SCHEMA, TypedColumn, TypedTable, quoted

NAME_BYTES_MAX = 63
"""PostgreSQL cuts longer names, without an error."""

# Updates of a row stay in its page where there is room, and vacuum comes in time for what they leave.
_LATEST_OPTIONS = "fillfactor = 85, autovacuum_vacuum_scale_factor = 0.02"
_COLLATED = "text"


def in_rows(name: str) -> str:
    """Return the name of a table of schema `rows`."""
    return f"{quoted(ROWS_SCHEMA)}.{quoted(name)}"


def in_data(name: str) -> str:
    """Return the name of a view of schema `data`."""
    return f"{quoted(DATA_SCHEMA)}.{quoted(name)}"


def listed(names: Iterable[str]) -> str:
    """Return quoted names with commas between them."""
    return ", ".join(quoted(name) for name in names)


def literal(text: str) -> str:
    """Return a text as SQL takes it, where `standard_conforming_strings` is on."""
    return "'" + text.replace("'", "''") + "'"


def collation_of(table: TypedTable, column: TypedColumn) -> str:
    """Return the collation that a column has of its own: texts of a key are compared byte by byte."""
    return "C" if column.name in table.key and column.sql_type == _COLLATED else ""


def create_table(table: TypedTable) -> str:
    """Return the statement that creates a table."""
    columns = [_definition(table, column) for column in (*table.columns, *table.added)]
    body = ",\n    ".join([*columns, f"PRIMARY KEY ({listed(table.key)})"])
    options = f" WITH ({_LATEST_OPTIONS})" if table.precedence else ""
    return f"CREATE TABLE {in_rows(table.name)} (\n    {body}\n){options}"


def add_column(table: TypedTable, column: TypedColumn) -> str:
    """Return the statement that adds a column, which may be empty: no row is read or written."""
    return f"ALTER TABLE {in_rows(table.name)} ADD COLUMN {quoted(column.name)} {column.sql_type}"


def comment_on(what: str, text: str) -> str:
    """Return the statement that sets a comment, or takes it away where the text is empty."""
    return f"COMMENT ON {what} IS {literal(text) if text else 'NULL'}"


def index_name(table: TypedTable, columns: tuple[str, ...]) -> str:
    """Return the name of an index; the same columns have one name."""
    name = "_".join((table.name, *columns))
    if len(name) <= NAME_BYTES_MAX:
        return name
    return f"{table.name}_{'_'.join(str(list(table.table.columns).index(each)) for each in columns)}"


def create_index(table: TypedTable, columns: tuple[str, ...], *, concurrently: bool) -> str:
    """Return the statement that builds an index; `concurrently` runs outside transactions and holds up no writer."""
    how = " CONCURRENTLY" if concurrently else ""
    return f"CREATE INDEX{how} {quoted(index_name(table, columns))} ON {in_rows(table.name)} ({listed(columns)})"


def drop_invalid(index: ExistingIndex) -> str:
    """Return the statement that drops an index whose building was cut off."""
    return f"DROP INDEX CONCURRENTLY {in_rows(index.name)}"


def _definition(table: TypedTable, column: TypedColumn) -> str:
    collation = collation_of(table, column)
    parts = (
        quoted(column.name),
        column.sql_type,
        f"COLLATE {quoted(collation)}" if collation else "",
        "NOT NULL" if column.required else "",
    )
    return " ".join(part for part in parts if part)
