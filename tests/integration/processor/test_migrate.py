"""Migrating a ledger that is in use: nobody who writes waits for it, and it waits for whoever reads."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from uuid import uuid4

import asyncpg
import pytest
from alembic import command
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import create_async_engine
from structlog.testing import capture_logs

from processor.ledger.database import REVISION
from processor.migrate import migrate, migrations
from processor.settings import MigrationSettings
from shared.contracts.errors import UnavailableError
from support.servers import ROLE_PASSWORD, Servers

DATABASE = "migrated_while_in_use"
INSERT = "INSERT INTO settlements VALUES (gen_random_uuid(), now(), 1, 1, 2)"


@pytest.fixture
async def old(ledger: Servers) -> AsyncIterator[asyncpg.Connection]:
    """A connection to a database whose ledger is that of the first migration."""
    owner = await asyncpg.connect(ledger.owner_url)
    await owner.execute(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")
    await owner.execute(f"CREATE DATABASE {DATABASE}")
    url = ledger.postgres_url("etlpay_owner", DATABASE, ledger.owner_password)
    engine = create_async_engine(url.replace("postgresql://", "postgresql+asyncpg://"))
    async with engine.begin() as connection:
        await connection.run_sync(_first_migration)
    await engine.dispose()
    connected = await asyncpg.connect(url)
    yield connected
    await connected.close()
    await owner.execute(f"DROP DATABASE {DATABASE} WITH (FORCE)")
    await owner.close()


def _first_migration(connection: Connection) -> None:
    _upgrade(connection, "0001")


def _upgrade(connection: Connection, revision: str) -> None:
    config = migrations()
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


async def upgrade(ledger: Servers, revision: str) -> None:
    """Bring the database to a revision, as a release of that time did."""
    url = ledger.postgres_url("etlpay_owner", DATABASE, ledger.owner_password)
    engine = create_async_engine(url.replace("postgresql://", "postgresql+asyncpg://"))
    async with engine.begin() as connection:
        await connection.run_sync(_upgrade, revision)
    await engine.dispose()


def settings_of(ledger: Servers, *, seconds_max: float = 120.0) -> MigrationSettings:
    return MigrationSettings(
        postgres_url=ledger.postgres_url("etlpay_owner", DATABASE),
        postgres_password=ledger.owner_password,
        processor_password=ROLE_PASSWORD,
        reader_password=ROLE_PASSWORD,
        pipelines_password=ROLE_PASSWORD,
        migration_lock_seconds_max=0.2,
        migration_seconds_max=seconds_max,
    )


async def connect(ledger: Servers, name: str) -> asyncpg.Connection:
    url = ledger.postgres_url("etlpay_owner", DATABASE, ledger.owner_password)
    return await asyncpg.connect(url, server_settings={"application_name": name})


async def revision_of(connection: asyncpg.Connection) -> str:
    return str(await connection.fetchval("SELECT version_num FROM alembic_version"))


async def test_a_migration_that_waits_for_a_backup_holds_up_nobody_who_writes(
    ledger: Servers, old: asyncpg.Connection
) -> None:
    """A lock that waits for pg_dump stood before every writer, for as long as the dump took."""
    backup, writer = await connect(ledger, "pg_dump"), await connect(ledger, "writer")
    async with asyncio.TaskGroup() as group, asyncio.timeout(60):
        async with backup.transaction():
            await backup.execute("LOCK TABLE settlements IN ACCESS SHARE MODE")
            with capture_logs() as logs:
                migrating = group.create_task(migrate(settings_of(ledger)))
                while not logs:  # noqa: ASYNC110 - the log tells nobody
                    await asyncio.sleep(0.05)
                for _ in range(20):
                    await writer.execute(INSERT)
                assert not migrating.done()
                assert await revision_of(old) == "0001"
        await migrating

    assert await revision_of(old) == REVISION
    assert await old.fetchval("SELECT count(*) FROM settlements") == 20
    [held_by] = logs[0]["held_by"]
    assert held_by.startswith("pg_dump (pid ")
    assert held_by.endswith("AccessShareLock on settlements)")
    await backup.close()
    await writer.close()


async def test_a_migration_gives_up_in_the_end_and_says_for_whom_it_waited(
    ledger: Servers, old: asyncpg.Connection
) -> None:
    backup = await connect(ledger, "pg_dump")
    async with backup.transaction():
        await backup.execute("LOCK TABLE settlements IN ACCESS SHARE MODE")

        with pytest.raises(UnavailableError, match="pg_dump"):
            await migrate(settings_of(ledger, seconds_max=1))

    assert await revision_of(old) == "0001"
    await migrate(settings_of(ledger))
    assert await revision_of(old) == REVISION
    await backup.close()


async def test_two_migrations_at_once_are_one(ledger: Servers, old: asyncpg.Connection) -> None:
    await asyncio.gather(*(migrate(settings_of(ledger)) for _ in range(3)))

    assert await revision_of(old) == REVISION


async def valid_indexes(connection: asyncpg.Connection) -> dict[str, bool]:
    rows = await connection.fetch(
        "SELECT relname, indisvalid FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid "
        "WHERE relname = 'processed_records_held'"
    )
    return {row["relname"]: row["indisvalid"] for row in rows}


async def test_a_ledger_of_the_release_before_keeps_its_rows_and_gets_pipelines(
    ledger: Servers, old: asyncpg.Connection
) -> None:
    await upgrade(ledger, "0004")
    await old.execute("INSERT INTO ingestion_sources (name) VALUES ('shop')")
    await old.execute(
        "INSERT INTO raw_events (id, event_id, source_id, channel, received_at, content_type, body) "
        "SELECT id, gen_random_uuid(), 1, 1, now(), 'application/json', '{}' FROM generate_series(1, 3) AS id"
    )
    await old.execute(
        "INSERT INTO processed_records (id, raw_event_id, source_id, channel, status, processed_at) "
        "SELECT id, id, 1, 1, 1 + (id = 3)::int, now() FROM generate_series(1, 3) AS id"
    )

    await migrate(settings_of(ledger))

    rows = await old.fetch("SELECT status, pipeline, row_count, cause, subject FROM events ORDER BY raw_event_id")
    assert [tuple(row) for row in rows] == [
        (status, None, None, None, None) for status in ("SUCCESS", "SUCCESS", "FAILED")
    ]
    assert await valid_indexes(old) == {"processed_records_held": True}
    schemas = (
        "SELECT count(*) FROM pg_namespace WHERE nspname IN ('rows', 'data') AND nspowner = 'etlpay_pipelines'::regrole"
    )
    assert await old.fetchval(schemas) == 2


async def test_an_index_whose_building_was_cut_off_is_built_again(ledger: Servers, old: asyncpg.Connection) -> None:
    await migrate(settings_of(ledger))
    await old.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'processed_records_held'::regclass")

    await migrate(settings_of(ledger))

    assert await valid_indexes(old) == {"processed_records_held": True}


async def test_an_index_is_built_beside_those_who_write_and_waits_for_older_transactions(
    ledger: Servers, old: asyncpg.Connection
) -> None:
    await migrate(settings_of(ledger))
    await old.execute("DROP INDEX processed_records_held")
    backup, writer = await connect(ledger, "pg_dump"), await connect(ledger, "writer")
    async with asyncio.TaskGroup() as group, asyncio.timeout(60):
        async with backup.transaction(isolation="repeatable_read"):
            await backup.execute("LOCK TABLE processed_records IN ROW SHARE MODE")
            await backup.fetchval("SELECT count(*) FROM processed_records")
            migrating = group.create_task(migrate(settings_of(ledger)))
            while "processed_records_held" not in await valid_indexes(old):  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.05)
            await writer.execute(INSERT)
            assert not migrating.done()
        await migrating

    assert await valid_indexes(old) == {"processed_records_held": True}
    await backup.close()
    await writer.close()


ADD_EVENTS = """
    WITH stored AS (
        INSERT INTO raw_events (id, event_id, source_id, channel, received_at, content_type, body)
        SELECT id, gen_random_uuid(), 1, 1, now(), 'application/json', '{}' FROM generate_series($1::int, $2) AS id)
    INSERT INTO processed_records (id, raw_event_id, source_id, channel, status, processed_at)
    SELECT id, id, 1, 1, 1, now() FROM generate_series($1::int, $2) AS id
"""


@pytest.fixture
async def before_the_feed(ledger: Servers, old: asyncpg.Connection) -> asyncpg.Connection:
    """A connection to a ledger of the release before the feed, which holds three events."""
    await upgrade(ledger, "0005")
    await old.execute("INSERT INTO ingestion_sources (name) VALUES ('shop')")
    await old.execute(ADD_EVENTS, 10, 12)
    return old


async def feed_of(connection: asyncpg.Connection) -> list[tuple[int, int]]:
    return [tuple(row) for row in await connection.fetch("SELECT first_id, last_id FROM feed ORDER BY xid, first_id")]


async def test_what_is_stored_before_and_while_the_feed_comes_is_in_it(
    ledger: Servers, before_the_feed: asyncpg.Connection
) -> None:
    """The migration waits for a writer, who is not held up; what the code before stores afterwards is in it, too."""
    writer, old_code = await connect(ledger, "writer"), await connect(ledger, "old code")
    prepared = await old_code.prepare(ADD_EVENTS)
    for number in range(6):
        await prepared.fetch(20 + number, 20 + number)
    async with asyncio.TaskGroup() as group, asyncio.timeout(60):
        async with writer.transaction():
            await writer.execute(ADD_EVENTS, 30, 31)
            with capture_logs() as logs:
                migrating = group.create_task(migrate(settings_of(ledger)))
                while not logs:  # noqa: ASYNC110 - the log tells nobody
                    await asyncio.sleep(0.05)
            await writer.execute(ADD_EVENTS, 5, 5)
            assert not migrating.done()
        await migrating
    await prepared.fetch(40, 41)
    async with old_code.transaction():
        await old_code.copy_records_to_table(
            "raw_events", records=[(50, uuid4(), 1, 1, datetime.now(UTC), "application/json", b"{}")],
            columns=["id", "event_id", "source_id", "channel", "received_at", "content_type", "body"],
        )  # fmt: skip
        await old_code.copy_records_to_table(
            "processed_records", records=[(50, 50, 1, 1, 1, datetime.now(UTC))],
            columns=["id", "raw_event_id", "source_id", "channel", "status", "processed_at"],
        )  # fmt: skip

    assert await feed_of(before_the_feed) == [(5, 31), (40, 41), (50, 50)]
    await writer.close()
    await old_code.close()


async def test_the_feed_of_an_empty_ledger_is_empty(ledger: Servers, old: asyncpg.Connection) -> None:
    await migrate(settings_of(ledger))

    assert await feed_of(old) == []


async def test_a_feed_that_was_restored_from_another_server_begins_anew(
    ledger: Servers, before_the_feed: asyncpg.Connection
) -> None:
    """The numbers of its transactions are yet to come here; what is stored here since is in it as well."""
    await migrate(settings_of(ledger))
    await before_the_feed.execute("UPDATE feed SET xid = 2::bigint ^ 61")
    await before_the_feed.execute(ADD_EVENTS, 20, 21)
    rows = await feed_of(before_the_feed)

    await migrate(settings_of(ledger))
    renewed = await feed_of(before_the_feed)
    await before_the_feed.execute(ADD_EVENTS, 30, 31)
    await migrate(settings_of(ledger))

    assert rows == [(20, 21), (10, 12)]
    assert renewed == [(10, 21)]
    assert await feed_of(before_the_feed) == [(10, 21), (30, 31)]
