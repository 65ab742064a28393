"""The database roles: PostgreSQL enforces what each may do."""

import asyncpg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from asyncpg import InsufficientPrivilegeError, ReadOnlySQLTransactionError
from sqlalchemy.ext.asyncio import create_async_engine

from processor.ledger import statements
from processor.ledger.database import Connections, check
from processor.ledger.rows import PROCESSED_RECORDS, RAW_EVENTS, insert_statement
from processor.migrate import migrate
from processor.settings import MigrationSettings
from shared.contracts.errors import UnavailableError
from shared.contracts.roles import PROCESSOR_ROLE, READER_ROLE
from shared.models.privileges import PRIVILEGES
from shared.models.tables import metadata
from support.one_shot import OneShot, add_order
from support.servers import ROLE_PASSWORD, Servers
from support.typed_pipelines import SHOP

PRIVILEGES_OF_PROCESSOR = PRIVILEGES[PROCESSOR_ROLE]
LEDGER = [table for table, privileges in PRIVILEGES_OF_PROCESSOR.items() if "INSERT" in privileges]
# The processor may change how far the receipts of a process have come.
CHANGING = {table for table, privileges in PRIVILEGES_OF_PROCESSOR.items() if "UPDATE" in privileges}
SQL = [
    text
    for name, text in vars(statements).items()
    if isinstance(text, str) and name.isupper() and name != "LEDGER_EPOCH"
]
A_COLUMN = {
    "settlements": "channel",
    "receipts": "channel",
    "receipt_series": "channel",
    "receipt_gaps": "until",
    "unconfirmed": "channel",
    "pipeline_holds": "held",
    "feed": "last_id",
    "drifts": "place",
}
CHANGES = {
    "insert": "INSERT INTO {table} DEFAULT VALUES",
    "update": "UPDATE {table} SET {column} = DEFAULT",
    "delete": "DELETE FROM {table}",
    "truncate": "TRUNCATE {table}",
    "drop": "DROP TABLE {table}",
}


def statement(change: str, table: str) -> str:
    """Return a change of a table."""
    return CHANGES[change].format(table=table, column=A_COLUMN.get(table, "id"))


@pytest.mark.parametrize("table", LEDGER)
@pytest.mark.parametrize("change", CHANGES)
async def test_the_reader_can_change_nothing(ledger: Servers, table: str, change: str) -> None:
    connection = await asyncpg.connect(ledger.postgres_url("etlpay_reader", password=ROLE_PASSWORD))
    # Its own default is read-only; a reader that switches that off is still refused.
    await connection.execute("SET default_transaction_read_only = off")

    with pytest.raises((InsufficientPrivilegeError, ReadOnlySQLTransactionError)):
        await connection.execute(statement(change, table))

    await connection.close()


@pytest.mark.parametrize(
    ("table", "change"),
    [
        (table, change)
        for table in LEDGER
        for change in ("update", "delete", "truncate", "drop")
        if (table, change) not in {(changing, "update") for changing in CHANGING}
    ],
)
async def test_the_processor_can_append_and_nothing_else(ledger: Servers, table: str, change: str) -> None:
    connection = await asyncpg.connect(ledger.postgres_url("etlpay_processor", password=ROLE_PASSWORD))

    with pytest.raises(InsufficientPrivilegeError):
        await connection.execute(statement(change, table))

    await connection.close()


LOST = [f"{privilege} ON {table}" for table in LEDGER for privilege in ("INSERT", "SELECT")]
LOST += [f"UPDATE ON {table}" for table in sorted(CHANGING)]
LOST += ["SELECT ON pipelines", "SELECT ON pipeline_states"]


@pytest.mark.parametrize("lost", [*LOST, "USAGE ON SEQUENCE ledger_id_blocks"])
async def test_a_grant_that_is_lost_makes_the_ledger_not_ready(
    connections: Connections, owner: asyncpg.Connection, lost: str
) -> None:
    """Nothing is taken then: a delivery that ends the process would count against the other deliveries, too."""
    await check(connections)
    await owner.execute(f"REVOKE {lost} FROM etlpay_processor")
    try:
        with pytest.raises(UnavailableError, match="may not write"):
            await check(connections)
    finally:
        await owner.execute(f"GRANT {lost} TO etlpay_processor")
    await check(connections)


async def test_a_ledger_whose_feed_is_not_written_is_not_ready(
    connections: Connections, owner: asyncpg.Connection
) -> None:
    await owner.execute("ALTER TABLE processed_records DISABLE TRIGGER processed_records_to_feed")
    try:
        with pytest.raises(UnavailableError, match="feed"):
            await check(connections)
    finally:
        await owner.execute("ALTER TABLE processed_records ENABLE TRIGGER processed_records_to_feed")
    await check(connections)


@pytest.mark.parametrize("role", PRIVILEGES)
async def test_the_migrations_grant_what_the_models_say_and_nothing_else(owner: asyncpg.Connection, role: str) -> None:
    rows = await owner.fetch(
        "SELECT table_name, privilege_type FROM information_schema.role_table_grants WHERE grantee = $1", role
    )

    granted: dict[str, set[str]] = {}
    for table, privilege in rows:
        granted.setdefault(table, set()).add(privilege)
    assert granted == PRIVILEGES[role]


@pytest.mark.parametrize("schema", ["public", "rows", "data"])
@pytest.mark.parametrize("role", ["etlpay_processor", "etlpay_reader"])
async def test_nobody_who_runs_can_create_a_table(ledger: Servers, role: str, schema: str) -> None:
    connection = await asyncpg.connect(ledger.postgres_url(role, password=ROLE_PASSWORD))
    await connection.execute("SET default_transaction_read_only = off")

    with pytest.raises(InsufficientPrivilegeError):
        await connection.execute(f"CREATE TABLE {schema}.mine (id int)")

    await connection.close()


@pytest.mark.parametrize(
    "forbidden",
    [
        "UPDATE raw_events SET body = ''",
        "DELETE FROM raw_events",
        "INSERT INTO raw_events DEFAULT VALUES",
        "INSERT INTO processed_records DEFAULT VALUES",
        "INSERT INTO causes (name) VALUES ('x')",
        "UPDATE pipelines SET content = ''",
        "DELETE FROM pipeline_states",
        "SELECT * FROM conflicts",
        "SELECT * FROM receipts",
        "SELECT * FROM settlements",
        "CREATE TABLE public.mine (id int)",
        "ALTER TABLE raw_events ADD COLUMN mine int",
        "CREATE ROLE mine",
        "SET ROLE etlpay_processor",
        "SELECT rolpassword FROM pg_authid",
        "SELECT pg_read_file('/etc/passwd')",
        "COPY raw_events TO PROGRAM 'true'",
    ],
)
async def test_the_role_of_the_pipelines_owns_typed_tables_and_nothing_else(ledger: Servers, forbidden: str) -> None:
    connection = await asyncpg.connect(ledger.postgres_url("etlpay_pipelines", password=ROLE_PASSWORD))

    with pytest.raises(InsufficientPrivilegeError):
        await connection.execute(forbidden)

    owned = "SELECT array_agg(nspname::text ORDER BY nspname) FROM pg_namespace WHERE nspowner = current_user::regrole"
    assert await connection.fetchval(owned) == ["data", "rows"]
    await connection.close()


async def test_rows_are_written_by_the_processor_and_read_by_the_reader_while_an_analyst_sees_views_only(
    ledger: Servers, one_shot: OneShot
) -> None:
    one_shot.write("shop", SHOP)
    await one_shot.ok("apply", "--yes")
    processor = await asyncpg.connect(ledger.postgres_url("etlpay_processor", password=ROLE_PASSWORD))
    reader = await asyncpg.connect(ledger.postgres_url("etlpay_reader", password=ROLE_PASSWORD))
    await add_order(processor, "a", event=1)
    await processor.execute("UPDATE rows.orders_1 SET amount = 2; DELETE FROM rows.lines_1")

    assert await reader.fetchval("SELECT amount FROM data.orders") == 2
    for forbidden in ("DROP TABLE rows.orders_1", "ALTER TABLE rows.orders_1 ADD x int", "SELECT * FROM data.orders"):
        with pytest.raises(InsufficientPrivilegeError):
            await processor.execute(forbidden)
    can = "SELECT has_table_privilege('etlpay_analyst', $1, 'SELECT')"
    assert [await reader.fetchval(can, name) for name in ("data.orders", "data.orders_totals")] == [True, True]
    assert await reader.fetchval("SELECT has_schema_privilege('etlpay_analyst', 'rows', 'USAGE')") is False
    assert [await reader.fetchval(can, name) for name in ("raw_events", "events", "pipelines")] == [False, False, False]
    await processor.close()
    await reader.close()


async def test_postgresql_knows_all_that_the_statements_name(ledger: Servers) -> None:
    """PostgreSQL checks tables, columns and types when it prepares a statement."""
    connection = await asyncpg.connect(ledger.postgres_url("etlpay_processor", password=ROLE_PASSWORD))

    for statement in (*SQL, insert_statement((RAW_EVENTS, PROCESSED_RECORDS))):
        await connection.prepare(statement)

    await connection.close()


async def test_the_reader_can_read_every_table_and_the_view(ledger: Servers) -> None:
    connection = await asyncpg.connect(ledger.postgres_url("etlpay_reader", password=ROLE_PASSWORD))

    for table in PRIVILEGES[READER_ROLE]:
        assert await connection.fetchval(f"SELECT count(*) FROM {table}") >= 0  # noqa: S608 - the names above

    await connection.close()


async def test_migrating_again_changes_nothing(ledger: Servers, owner: asyncpg.Connection) -> None:
    before = await owner.fetch("SELECT * FROM information_schema.columns WHERE table_schema = 'public' ORDER BY 3, 4")
    settings = MigrationSettings(
        postgres_url=ledger.postgres_url("etlpay_owner"),
        postgres_password=ledger.owner_password,
        processor_password=ROLE_PASSWORD,
        reader_password=ROLE_PASSWORD,
        pipelines_password=ROLE_PASSWORD,
    )

    await migrate(settings)

    after = await owner.fetch("SELECT * FROM information_schema.columns WHERE table_schema = 'public' ORDER BY 3, 4")
    assert after == before


async def test_the_models_say_what_the_migrations_made(ledger: Servers) -> None:
    """New migrations are made from shared.models.ledger; a column that only one of the two knows is a defect."""
    engine = create_async_engine(ledger.owner_url.replace("postgresql://", "postgresql+asyncpg://"))
    async with engine.connect() as connection:
        differences = await connection.run_sync(
            lambda sync: compare_metadata(MigrationContext.configure(sync, opts={"compare_type": True}), metadata)
        )
    await engine.dispose()

    structural = [each for each in differences if each[0] not in {"modify_comment", "add_table_comment"}]
    assert structural == []
