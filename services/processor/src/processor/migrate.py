"""`python -m processor.migrate`: create the roles, bring the schema to this version, set the passwords. Idempotent."""

import asyncio
import sys
from typing import Final

import structlog
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, make_url, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from processor.database import classified
from processor.models import PROCESSOR_ROLE, READER_ROLE
from processor.settings import MigrationSettings
from shared.contracts.errors import EtlPayError, UnavailableError
from shared.postgres import POSTGRES_ERRORS, connect_options
from shared.runtime.startup import load_settings

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

# Any constant; two migrations at once wait for each other on it.
_LOCK: Final = text("SELECT pg_advisory_xact_lock(7203577891)")
_ATTEMPTS: Final = 60
_PAUSE_SECONDS: Final = 0.5


async def migrate(settings: MigrationSettings) -> None:
    """Migrate in one transaction, as the owner.

    Raises:
        UnavailableError: PostgreSQL did not come up in half a minute. FatalError: the owner may not do it.
    """
    engine = _engine(settings)
    try:
        for _ in range(_ATTEMPTS):
            try:
                async with engine.begin() as connection:
                    await _migrate(connection, settings)
            except (*POSTGRES_ERRORS, DBAPIError) as error:
                problem = classified(error)
                if not isinstance(problem, UnavailableError):
                    raise problem from error
                await asyncio.sleep(_PAUSE_SECONDS)
            else:
                return
    finally:
        await engine.dispose()
    raise UnavailableError("PostgreSQL cannot be reached")


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


async def _migrate(connection: AsyncConnection, settings: MigrationSettings) -> None:
    await connection.execute(_LOCK)
    passwords = {PROCESSOR_ROLE: settings.processor_password, READER_ROLE: settings.reader_password}
    for role in passwords:
        await _create_role(connection, role)
    await connection.run_sync(_upgrade)
    for role, password in passwords.items():
        if password.get_secret_value():
            await _set_password(connection, role, password.get_secret_value())


async def _create_role(connection: AsyncConnection, role: str) -> None:
    exists = await connection.scalar(text("SELECT 1 FROM pg_roles WHERE rolname = :role"), {"role": role})
    if not exists:
        await connection.execute(text(f"CREATE ROLE {role} LOGIN NOINHERIT"))


async def _set_password(connection: AsyncConnection, role: str, password: str) -> None:
    """Set the password; a statement that holds it is built by the server, which quotes it."""
    statement = await connection.scalar(
        text("SELECT format('ALTER ROLE %I PASSWORD %L', CAST(:role AS text), CAST(:password AS text))"),
        {"role": role, "password": password},
    )
    await connection.exec_driver_sql(statement or "")


def _upgrade(connection: Connection) -> None:
    config = migrations()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


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
