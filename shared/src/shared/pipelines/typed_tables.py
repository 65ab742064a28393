"""The tables of a pipeline as PostgreSQL holds them. Pure.

The rows of `payments` are in `rows.payments_1`, where the number is the table's generation; people read the view
`data.payments`. What creates the tables and what writes to them agree here.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from shared.pipelines.histories import complete_histories
from shared.pipelines.latest import Precedence, precedence_of
from shared.pipelines.model import ColumnType, Pipeline, Table

ROWS_SCHEMA: Final = "rows"
DATA_SCHEMA: Final = "data"

# Nothing narrower, so no type ever has to be widened. What a value may be is the contract's business.
SQL_TYPES: Final[Mapping[ColumnType, str]] = {
    "text": "text",
    "integer": "bigint",
    "decimal": "numeric",
    "boolean": "boolean",
    "timestamp": "timestamptz",
    "date": "date",
    "uuid": "uuid",
    "json": "jsonb",
    "money": "numeric",
    "currency": "text",
    "country": "text",
}


class TypedColumn(msgspec.Struct, frozen=True):
    """A column of a typed table and its type in SQL. `required`: it is NOT NULL."""

    name: str
    sql_type: str
    required: bool = False
    about: str = ""


# Of every row: the event that made it, the row's number within that event and table, the version, and when it was
# written last.
EVENT: Final = TypedColumn("_event", "bigint", required=True)
PART: Final = TypedColumn("_part", "integer", required=True)
PIPELINE: Final = TypedColumn("_pipeline", "integer", required=True)
LOADED_AT: Final = TypedColumn("_loaded_at", "timestamptz", required=True)
# Of a `latest` table: the rank among rows of equal `newest`, and whether the row is a tombstone.
RANK: Final = TypedColumn("_rank", "smallint", required=True)
GONE: Final = TypedColumn("_gone", "boolean", required=True)

_OF_EVERY_ROW: Final = (EVENT, PART, PIPELINE, LOADED_AT)


class TypedTable(msgspec.Struct, frozen=True):
    """A generation of a table.

    `columns` are those of the file, in its order, which is that of `TypedRow.values`; `added` come after them in each
    row. `key` is the primary key. `precedence` says which row of a key counts; None: an `append` table.
    """

    table: Table
    generation: int
    columns: tuple[TypedColumn, ...]
    added: tuple[TypedColumn, ...]
    key: tuple[str, ...]
    precedence: Precedence | None

    @property
    def name(self) -> str:
        """The name in schema `rows`."""
        return f"{self.table.name}_{self.generation}"

    @property
    def newest(self) -> tuple[str, ...]:
        """The columns by which rows of one key are compared, in order; empty: an `append` table."""
        if self.precedence is None:
            return ()
        newest = () if self.table.newest is None else (self.table.newest,)
        return (*newest, RANK.name, EVENT.name)


def typed_tables(pipeline: Pipeline, generations: Mapping[str, int]) -> tuple[TypedTable, ...]:
    """Return the tables of a pipeline that has passed `lint`, in the order of the file.

    `generations` has the number of each by name; a table that it lacks is of the first.
    """
    return tuple(_typed_table(table, generations.get(table.name, 1)) for table in complete_histories(pipeline).table)


def quoted(name: str) -> str:
    """Return a name as SQL takes it whatever it is."""
    return '"' + name.replace('"', '""') + '"'


def _typed_table(table: Table, generation: int) -> TypedTable:
    latest = table.mode == "latest"
    key = table.key if latest else (EVENT.name, PART.name)
    return TypedTable(
        table=table,
        generation=generation,
        columns=tuple(
            TypedColumn(name, SQL_TYPES[column.type], required=name in key, about=column.about)
            for name, column in table.columns.items()
        ),
        added=(*_OF_EVERY_ROW, RANK, GONE) if latest else _OF_EVERY_ROW,
        key=key,
        precedence=precedence_of(table) if latest else None,
    )
