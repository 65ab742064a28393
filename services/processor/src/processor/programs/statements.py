"""The statements that read which pipelines are active, and check their tables."""

from typing import Final

from shared.pipelines.typed_tables import ROWS_SCHEMA

# The last row of a name counts.
FIND_ACTIVE: Final = """
    SELECT pipeline.id, pipeline.name, pipeline.version, pipeline.content, pipeline.generations::text AS generations
    FROM (SELECT DISTINCT ON (name) pipeline_id, state FROM pipeline_states ORDER BY name, id DESC) AS last
    JOIN pipelines AS pipeline ON pipeline.id = last.pipeline_id
    WHERE last.state = 1
    ORDER BY pipeline.name
"""

# What is not as it must be: one row for each column, of arrays with the tables, the columns and their types.
FIND_FAULTS: Final = f"""
    SELECT wanted.name, wanted.column_name, wanted.type,
           found.oid IS NOT NULL AS present, found.granted IS TRUE AS granted
    FROM unnest($1::text[], $2::text[], $3::text[]) AS wanted (name, column_name, type)
    LEFT JOIN (
        SELECT pg_class.oid, relname,
               has_schema_privilege(relnamespace, 'USAGE')
               AND has_table_privilege(pg_class.oid, 'SELECT') AND has_table_privilege(pg_class.oid, 'INSERT')
               AND has_table_privilege(pg_class.oid, 'UPDATE') AND has_table_privilege(pg_class.oid, 'DELETE')
                   AS granted
        FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace AND nspname = '{ROWS_SCHEMA}'
        WHERE relkind IN ('r', 'p')
    ) AS found ON found.relname = wanted.name
    LEFT JOIN pg_attribute AS known
        ON known.attrelid = found.oid AND known.attname = wanted.column_name AND known.attnum > 0
           AND NOT known.attisdropped AND known.atttypid = to_regtype(wanted.type)
    WHERE found.granted IS NOT TRUE OR known.attname IS NULL
"""  # noqa: S608 - a name of our own
