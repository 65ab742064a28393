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
from shared.models.base import metadata
from shared.models.privileges import PRIVILEGES
from support.servers import ROLE_PASSWORD, Servers

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


@pytest.mark.parametrize("role", PRIVILEGES)
async def test_the_migrations_grant_what_the_models_say_and_nothing_else(owner: asyncpg.Connection, role: str) -> None:
    rows = await owner.fetch(
        "SELECT table_name, privilege_type FROM information_schema.role_table_grants WHERE grantee = $1", role
    )

    granted: dict[str, set[str]] = {}
    for table, privilege in rows:
        granted.setdefault(table, set()).add(privilege)
    assert granted == PRIVILEGES[role]


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
