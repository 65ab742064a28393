"""The models are the one description of the schema: what the processor's SQL names is in them."""

import re
import subprocess
import sys

import pytest
from sqlalchemy.dialects import postgresql

from processor.ledger import statements
from processor.ledger.rows import PROCESSED_RECORDS, RAW_EVENTS, RAW_EVENTS_WITH_SUBJECT, RECORDS_OF_PIPELINES, Table
from shared.contracts.roles import PROCESSOR_ROLE
from shared.models.privileges import PRIVILEGES
from shared.models.tables import metadata

DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call] # SQLAlchemy has no types here
TYPES = {"int": "INTEGER", "timestamptz": "TIMESTAMP WITH TIME ZONE", "jsonb": "JSONB"}
SQL = {name: text for name, text in vars(statements).items() if isinstance(text, str) and name.isupper()}
INSERTS = [
    (name, table, re.split(r",\s*", columns))
    for name, text in SQL.items()
    for table, columns in re.findall(r"INSERT INTO (\w+) \(([^)]*)\)", text)
]
QUALIFIED = {"raw": "raw_events", "record": "processed_records", "receipt_series": "receipt_series"}


@pytest.mark.parametrize(
    "table",
    [RAW_EVENTS, PROCESSED_RECORDS, RAW_EVENTS_WITH_SUBJECT, RECORDS_OF_PIPELINES],
    ids=["events", "records", "events with a subject", "records of pipelines"],
)
def test_the_rows_of_events_have_the_columns_of_the_model_and_their_types(table: Table) -> None:
    model = metadata.tables[table.name].columns

    written = {
        column.name: TYPES.get(column.cast or column.type, (column.cast or column.type).upper())
        for column in table.columns
    }
    described = {column.name: column.type.compile(DIALECT) for column in model}
    required = {column.name for column in model if not column.nullable and column.server_default is None}

    assert written.items() <= described.items()
    assert required <= written.keys()


@pytest.mark.parametrize(
    ("table", "columns"), [insert[1:] for insert in INSERTS], ids=[insert[0] for insert in INSERTS]
)
def test_an_insert_names_columns_of_the_model_and_all_that_must_have_a_value(table: str, columns: list[str]) -> None:
    model = metadata.tables[table].columns
    given = {column.name for column in model if column.server_default is not None or column.identity is not None}
    required = {column.name for column in model if not column.nullable} - given

    assert required <= set(columns) <= set(model.keys())


def test_every_table_that_a_statement_names_is_in_the_model() -> None:
    named = {name for text in SQL.values() for name in re.findall(r"(?:FROM|JOIN|INTO) ([a-z_]+)\b(?!\()", text)}
    own = {name for text in SQL.values() for name in re.findall(r"(\w+) AS (?:MATERIALIZED )?\(", text)}

    assert named - own - {"unnest", "alembic_version", "pg_database", "pg_trigger"} <= set(metadata.tables)


def test_every_column_that_a_statement_qualifies_is_in_the_model() -> None:
    for text in SQL.values():
        for alias, column in re.findall(r"\b(\w+)\.(\w+)\b", text):
            if alias in QUALIFIED:
                assert column in metadata.tables[QUALIFIED[alias]].columns


def test_the_check_of_the_ledger_asks_for_the_privileges_of_the_processor() -> None:
    [names] = re.findall(r"ARRAY\[(.*?)\]", statements.CHECK_LEDGER, flags=re.DOTALL)
    privileges = PRIVILEGES[PROCESSOR_ROLE]

    assert set(re.findall(r"\w+", names)) == {table for table, each in privileges.items() if "INSERT" in each}
    assert re.findall(r"has_table_privilege\('(\w+)', 'UPDATE'\)", statements.CHECK_LEDGER) == [
        table for table, each in privileges.items() if "UPDATE" in each
    ]


@pytest.mark.parametrize("service", ["api_gateway", "file_watcher", "grpc_ingest", "processor", "queue_consumer"])
def test_no_running_service_imports_sqlalchemy(service: str) -> None:
    """It would take some 20 MB of each process."""
    program = f"import sys, {service}.__main__; sys.exit('sqlalchemy' in sys.modules)"

    assert subprocess.run((sys.executable, "-c", program), check=False, timeout=60).returncode == 0
