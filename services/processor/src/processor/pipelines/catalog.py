"""What PostgreSQL holds of typed tables, read from its catalog."""

from typing import Final

import asyncpg

from shared.pipelines.ddl.existing import (
    TYPE_NAMES,
    Existing,
    ExistingColumn,
    ExistingIndex,
    ExistingTable,
    ExistingView,
)
from shared.pipelines.ddl.sql import in_rows
from shared.pipelines.typed_tables import DATA_SCHEMA, ROWS_SCHEMA

_RELATIONS: Final = """
    SELECT class.oid, namespace.nspname AS schema, class.relname AS name, greatest(class.reltuples, 0)::bigint AS rows,
           coalesce(obj_description(class.oid, 'pg_class'), '') AS about,
           pg_get_userbyid(class.relowner) = current_user AS owned
    FROM pg_class AS class JOIN pg_namespace AS namespace ON namespace.oid = class.relnamespace
    WHERE (namespace.nspname = $1 AND class.relkind IN ('r', 'p')) OR (namespace.nspname = $2 AND class.relkind = 'v')
"""
_COLUMNS: Final = """
    SELECT attrelid AS oid, attname AS name, format_type(atttypid, atttypmod) AS sql_type, attnotnull AS required,
           coalesce((SELECT collname FROM pg_collation AS own
                     WHERE own.oid = attcollation AND collname <> 'default'), '') AS collation,
           coalesce(col_description(attrelid, attnum), '') AS about
    FROM pg_attribute WHERE attrelid = ANY($1::oid[]) AND attnum > 0 AND NOT attisdropped ORDER BY attrelid, attnum
"""
# Indexes over columns alone: an index over an expression, or of some rows, is somebody's own.
_INDEXES: Final = """
    SELECT indrelid AS oid, class.relname AS name, indisprimary AS is_primary, indisvalid AND indisready AS valid,
           ARRAY(SELECT attname::text FROM unnest(indkey::smallint[]) WITH ORDINALITY AS part (number, place)
                 JOIN pg_attribute ON attrelid = indrelid AND attnum = part.number
                 WHERE part.place <= indnkeyatts ORDER BY part.place) AS columns
    FROM pg_index JOIN pg_class AS class ON class.oid = indexrelid
    WHERE indrelid = ANY($1::oid[]) AND indexprs IS NULL AND indpred IS NULL
    ORDER BY class.relname
"""

# PostgreSQL knows how many rows a table holds only after it was analyzed.
_COUNT_FEW: Final = "SELECT count(*) FROM (SELECT FROM {} LIMIT 1000) AS few"


async def read_existing(connection: asyncpg.Connection) -> Existing:
    """Return the tables of schema `rows` and the views of schema `data`. Raises POSTGRES_ERRORS.

    The number of rows is an estimate; it is 0 only where a table holds none.
    """
    relations = await connection.fetch(_RELATIONS, ROWS_SCHEMA, DATA_SCHEMA)
    oids = [each["oid"] for each in relations]
    columns: dict[int, list[ExistingColumn]] = {}
    for row in await connection.fetch(_COLUMNS, oids):
        sql_type = TYPE_NAMES.get(row["sql_type"], row["sql_type"])
        column = ExistingColumn(row["name"], sql_type, row["required"], row["collation"], row["about"])
        columns.setdefault(row["oid"], []).append(column)
    indexes: dict[int, list[asyncpg.Record]] = {}
    for row in await connection.fetch(_INDEXES, oids):
        indexes.setdefault(row["oid"], []).append(row)
    tables = {
        each["name"]: await _table(connection, each, columns.get(each["oid"], []), indexes.get(each["oid"], []))
        for each in relations
        if each["schema"] == ROWS_SCHEMA
    }
    views = {
        each["name"]: ExistingView(each["name"], tuple(columns.get(each["oid"], [])), each["about"], each["owned"])
        for each in relations
        if each["schema"] == DATA_SCHEMA
    }
    return Existing(tables, views)


async def _table(
    connection: asyncpg.Connection,
    relation: asyncpg.Record,
    columns: list[ExistingColumn],
    indexes: list[asyncpg.Record],
) -> ExistingTable:
    name, owned = relation["name"], relation["owned"]
    # Of another role's table it may not be ours to ask.
    few = await connection.fetchval(_COUNT_FEW.format(in_rows(name))) if owned else 1
    return ExistingTable(
        name,
        tuple(columns),
        key=next((tuple(row["columns"]) for row in indexes if row["is_primary"]), ()),
        indexes=tuple(ExistingIndex(row["name"], tuple(row["columns"]), row["valid"]) for row in indexes),
        about=relation["about"],
        rows=max(relation["rows"], few) if few else 0,
        owned=owned,
    )
