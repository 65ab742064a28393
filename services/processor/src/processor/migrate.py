"""`python -m processor.migrate`: create the roles, bring the schema to this version, set the passwords. Idempotent."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Final, TypeAlias

import structlog
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, make_url, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from processor.ledger.sqlstates import ANY, LedgerRefusesError, classified, sqlstate_of
from processor.settings import MigrationSettings
from shared.contracts.errors import EtlPayError, FatalError, UnavailableError
from shared.contracts.roles import ANALYST_ROLE, PIPELINES_ROLE, PROCESSOR_ROLE, READER_ROLE
from shared.postgres import POSTGRES_ERRORS, connect_options
from shared.runtime.startup import load_settings

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_ATTEMPTS: Final = 60
_PAUSE_SECONDS: Final = 0.5
# Pause between two attempts to get a lock, in lock time-outs: while an attempt waits, all writers wait behind it.
_PAUSE_LOCKS: Final = 4
# Lock not available; deadlock detected.
_LOCKED: Final = ("55P03", "40P01")
# The number is any constant: migrations that run at the same time wait for each other on it.
_LOCK: Final = text("SELECT set_config('lock_timeout', :milliseconds, true), pg_advisory_xact_lock(7203577891)")
# The sessions that have held locks on the ledger for longer than one attempt waits.
_HOLDERS: Final = text("""
    SELECT DISTINCT format('%s (pid %s, %s%s)', coalesce(nullif(activity.application_name, ''), activity.usename),
                           activity.pid, locks.mode, ' on ' || (locks.relation::regclass)::text)
    FROM pg_locks AS locks JOIN pg_stat_activity AS activity ON activity.pid = locks.pid
    LEFT JOIN pg_class AS class ON class.oid = locks.relation AND class.relkind = 'r'
    WHERE locks.granted AND activity.pid <> pg_backend_pid() AND activity.datname = current_database()
      AND (class.relnamespace = 'public'::regnamespace OR locks.locktype = 'advisory')
      AND activity.xact_start < clock_timestamp() - CAST(:milliseconds || ' ms' AS interval)
    ORDER BY 1 LIMIT 5
""")
# Before PostgreSQL 16 every member could become the role.
_ACTS_AS_PIPELINES: Final = text(f"""
    SELECT pg_has_role('{PIPELINES_ROLE}', 'USAGE')
           AND CASE WHEN current_setting('server_version_num')::int < 160000 THEN true
                    ELSE pg_has_role('{PIPELINES_ROLE}', 'SET') END
""")

# Of an index that is built beside writers, the number of the lock: of two that build it each would wait for the other's
# transaction.
_BUILD_LOCK: Final = text("SELECT pg_try_advisory_lock(7203577893)")
_BUILD_UNLOCK: Final = text("SELECT pg_advisory_unlock(7203577893)")
_VALID: Final = text("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(:name)")

# By name, what follows ON. A migration would build them in its transaction, and hold up every writer for as long.
INDEXES: Final = {
    "processed_records_held": "processed_records (processed_at, id) WHERE status = 3",
}

# A dump that is restored on another server brings numbers of transactions that are yet to come there. Then the feed
# begins anew: one row for everything that is stored.
_FEED_IS_FOREIGN: Final = text("""
    SELECT EXISTS (SELECT FROM feed WHERE xid >= CAST(CAST(pg_snapshot_xmax(pg_current_snapshot()) AS text) AS bigint))
""")
_BEGIN_FEED: Final = (
    text("LOCK TABLE processed_records IN SHARE ROW EXCLUSIVE MODE"),
    text("TRUNCATE feed"),
    text("""
        INSERT INTO feed (xid, first_id, last_id)
        SELECT CAST(CAST(pg_current_xact_id() AS text) AS bigint), min(id), max(id) FROM processed_records
        HAVING min(id) IS NOT NULL
    """),
)

Step: TypeAlias = Callable[[AsyncConnection], Awaitable[None]]


async def migrate(settings: MigrationSettings) -> None:
    """Migrate, as the owner, one migration a transaction. Idempotent: one that was ended goes on where it was.

    Raises:
        UnavailableError: PostgreSQL did not come up in half a minute, or another session held the ledger's tables for
            longer than the settings allow. FatalError: the owner may not do it.
    """
    engine = _engine(settings)
    try:
        for step in _steps(settings):
            await _take(step, engine, settings)
        for name in INDEXES:
            await _build(name, engine, settings)
    finally:
        await engine.dispose()


def _steps(settings: MigrationSettings) -> Iterator[Step]:
    passwords = {
        PROCESSOR_ROLE: settings.processor_password,
        READER_ROLE: settings.reader_password,
        PIPELINES_ROLE: settings.pipelines_password,
    }
    for role in passwords:
        yield partial(_create_role, role=role)
    yield partial(_create_role, role=ANALYST_ROLE, login=False)
    yield _join_pipelines
    for revision in _revisions():
        yield partial(_upgrade, revision=revision)
    yield _repair_feed
    for role, password in passwords.items():
        if password.get_secret_value():
            yield partial(_set_password, role=role, password=password.get_secret_value())


async def _take(step: Step, engine: AsyncEngine, settings: MigrationSettings) -> None:
    """Take one step in a transaction of its own, and again until it is done or the time is up.

    It waits for a lock no longer than the settings say: all writers wait behind a migration that waits, such as for a
    running pg_dump.
    """
    attempts = 0
    locked = _Locked(settings)
    while True:
        try:
            async with engine.begin() as connection:
                await connection.execute(_LOCK, locked.milliseconds)
                await step(connection)
        except (*POSTGRES_ERRORS, DBAPIError) as error:
            problem = classified(error, writing=ANY)
            if isinstance(problem, LedgerRefusesError) or not isinstance(problem, UnavailableError):
                raise FatalError(str(problem)) from error
            if sqlstate_of(error) in _LOCKED:
                await locked.wait(engine)
                continue
            attempts += 1
            if attempts == _ATTEMPTS:
                raise UnavailableError("PostgreSQL cannot be reached") from error
            await asyncio.sleep(_PAUSE_SECONDS)
        else:
            return


async def _build(name: str, engine: AsyncEngine, settings: MigrationSettings) -> None:
    """Build an index outside a transaction, unless it is there; one whose building was cut off is built again.

    Nobody who writes waits for it. It waits for transactions that are older, such as a pg_dump.
    """
    locked = _Locked(settings)
    async with engine.connect() as opened:
        connection = await opened.execution_options(isolation_level="AUTOCOMMIT")
        while True:
            try:
                if await connection.scalar(_BUILD_LOCK):
                    try:
                        await _build_alone(name, connection, settings)
                    finally:
                        await connection.execute(_BUILD_UNLOCK)
                    return
            except (*POSTGRES_ERRORS, DBAPIError) as error:
                if sqlstate_of(error) not in _LOCKED:
                    raise FatalError(f"the index {name} cannot be built (SQLSTATE {sqlstate_of(error)})") from error
            await locked.wait(engine)


async def _build_alone(name: str, connection: AsyncConnection, settings: MigrationSettings) -> None:
    is_valid = await connection.scalar(_VALID, {"name": f"public.{name}"})
    if is_valid:
        return
    log.info("building an index; nobody who writes waits for it", index=name)
    # What waits here is in nobody's way; to begin anew would read the table again.
    await connection.execute(text(f"SET lock_timeout = {int(settings.migration_seconds_max * 1000)}"))
    if is_valid is not None:
        log.warning("an index whose building was cut off is built again", index=name)
        await connection.execute(text(f"DROP INDEX CONCURRENTLY public.{name}"))
    await connection.execute(text(f"CREATE INDEX CONCURRENTLY {name} ON public.{INDEXES[name]}"))


class _Locked:
    """The wait for a lock that another session holds."""

    def __init__(self, settings: MigrationSettings) -> None:
        self.milliseconds = {"milliseconds": str(int(settings.migration_lock_seconds_max * 1000))}
        self._pause_seconds = settings.migration_lock_seconds_max * _PAUSE_LOCKS
        self._seconds_max = settings.migration_seconds_max
        self._began: float | None = None
        self._reported: list[str] | None = None

    async def wait(self, engine: AsyncEngine) -> None:
        """Pause, and log which sessions hold the lock. Raises UnavailableError after `migration_seconds_max`."""
        async with engine.connect() as connection:
            holders = list(await connection.scalars(_HOLDERS, self.milliseconds))
        now = asyncio.get_running_loop().time()
        self._began = self._began or now
        if now - self._began >= self._seconds_max:
            raise UnavailableError(f"the ledger's tables were in use for too long, by {', '.join(holders) or 'others'}")
        if holders != self._reported:
            log.warning("waiting until the tables of the ledger are free; writers are not held up", held_by=holders)
            self._reported = holders
        await asyncio.sleep(self._pause_seconds)


def migrations() -> Config:
    """Return Alembic's configuration for the migrations that ship with this package."""
    config = Config()
    config.set_main_option("script_location", "processor:migrations")
    return config


def _engine(settings: MigrationSettings) -> AsyncEngine:
    password = settings.postgres_password.get_secret_value() or None
    return create_async_engine(
        make_url(settings.postgres_url).set(drivername="postgresql+asyncpg", password=password),
        # Error messages would quote the parameters, and with them passwords.
        hide_parameters=True,
        connect_args=connect_options(settings, name="etlpay-migrate", server_settings={}),
    )


async def _create_role(connection: AsyncConnection, role: str, *, login: bool = True) -> None:
    exists = await connection.scalar(text("SELECT 1 FROM pg_roles WHERE rolname = :role"), {"role": role})
    if not exists:
        await connection.execute(text(f"CREATE ROLE {role} {'LOGIN NOINHERIT' if login else 'NOLOGIN'}"))


async def _join_pipelines(connection: AsyncConnection) -> None:
    """Let the owner make schemas that belong to the role of the pipelines. A superuser can already.

    Who created the role may grant it; an administrator who created it grants it, or gives that right.
    """
    if not await connection.scalar(_ACTS_AS_PIPELINES):
        await connection.execute(text(f"GRANT {PIPELINES_ROLE} TO CURRENT_USER"))


async def _set_password(connection: AsyncConnection, role: str, password: str) -> None:
    """Set the password; a statement that holds it is built by the server, which quotes it."""
    statement = await connection.scalar(
        text("SELECT format('ALTER ROLE %I PASSWORD %L', CAST(:role AS text), CAST(:password AS text))"),
        {"role": role, "password": password},
    )
    await connection.exec_driver_sql(statement or "")


def _revisions() -> list[str]:
    """Return every migration, the oldest first."""
    return [script.revision for script in ScriptDirectory.from_config(migrations()).walk_revisions()][::-1]


async def _upgrade(connection: AsyncConnection, revision: str) -> None:
    await connection.run_sync(_upgrade_to, revision)


def _upgrade_to(connection: Connection, revision: str) -> None:
    """Bring the schema to a revision; one that is beyond it stays."""
    config = migrations()
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


async def _repair_feed(connection: AsyncConnection) -> None:
    """Begin the feed anew where it is that of another server."""
    if not await connection.scalar(_FEED_IS_FOREIGN):
        return
    log.warning("the ledger was restored from another server: the feed begins anew")
    for statement in _BEGIN_FEED:
        await connection.execute(statement)


def main() -> int:
    """Return the exit code: 0 migrated, 1 not."""
    settings = load_settings(MigrationSettings, service="migrate")
    try:
        asyncio.run(migrate(settings))
    except EtlPayError as error:
        log.error("not migrated", reason=str(error))  # noqa: TRY400 - the reason says it all
        return 1
    log.info("migrated")
    return 0


if __name__ == "__main__":
    sys.exit(main())
