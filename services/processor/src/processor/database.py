"""PostgreSQL as the processor meets it: the engine, what its errors mean, and the check before any work."""

from typing import Final

from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy.exc import DBAPIError, InterfaceError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine

from processor.statements import CHECK_LEDGER
from shared import postgres
from shared.contracts.errors import EtlPayError, FatalError, PermanentError, UnavailableError
from shared.settings import PostgresSettings

# SQLSTATE classes and codes (PostgreSQL documentation, appendix A).
_RETRYABLE: Final = ("08", "40", "53", "55P03", "57", "58", "25006")
_PERMANENT: Final = ("22", "23", "54")

# What asking PostgreSQL may end with; `classified` says what is to be done about it.
LEDGER_ERRORS: Final = (DBAPIError, PoolTimeoutError, OSError, TimeoutError)


class PermanentDataError(PermanentError):
    """PostgreSQL refuses a value."""

    def __init__(self, sqlstate: str) -> None:
        """Keep the SQLSTATE; the server's own text may quote the value."""
        super().__init__(f"PostgreSQL refused a value (SQLSTATE {sqlstate})")
        self.sqlstate = sqlstate


def create_engine(settings: PostgresSettings, *, name: str) -> AsyncEngine:
    """Return an engine that writes: no transaction of it waits or idles without a limit."""
    milliseconds = str(int(settings.postgres_seconds_max * 1000))
    return postgres.create_engine(
        settings,
        name=name,
        server_settings={
            # A plan made for any size of batch joins a thousand rows by comparing each with each.
            "plan_cache_mode": "force_custom_plan",
            "lock_timeout": milliseconds,
            "idle_in_transaction_session_timeout": milliseconds,
        },
    )


def classified(error: Exception) -> EtlPayError:
    """Return what is to be done about an error of the database, by SQLSTATE and never by text."""
    sqlstate = getattr(getattr(error, "orig", None), "sqlstate", None) or ""
    if sqlstate.startswith(_PERMANENT):
        return PermanentDataError(sqlstate)
    if not isinstance(error, DBAPIError) or isinstance(error, InterfaceError) or error.connection_invalidated:
        return UnavailableError("PostgreSQL cannot be reached")
    if not sqlstate or sqlstate.startswith(_RETRYABLE):
        return UnavailableError(f"PostgreSQL cannot do it now (SQLSTATE {sqlstate or 'none'})")
    return FatalError(f"PostgreSQL will not do it (SQLSTATE {sqlstate})")


async def check(engine: AsyncEngine) -> None:
    """Return when the ledger is there, durable, writable and of the schema that this code writes.

    Raises:
        UnavailableError: not (yet); try again. FatalError: it never will be by waiting.
    """
    try:
        async with engine.connect() as connection:
            found = (await connection.execute(CHECK_LEDGER)).one()
    except LEDGER_ERRORS as error:
        problem = classified(error)
        if isinstance(problem, FatalError):
            # Before the first migration there is no table to ask, no privilege to ask it, and no role to come in with.
            raise UnavailableError(f"the ledger is not migrated yet, or not for this role: {problem}") from error
        raise problem from error
    if not (found.fsync and found.synchronous_commit):
        raise FatalError("PostgreSQL runs with fsync or synchronous_commit off: a commit would not be durable")
    if not found.writable:
        raise UnavailableError("PostgreSQL is read-only")
    if found.revision != head_revision():
        raise UnavailableError("the ledger's schema is of another version; run the migrations")


def migrations() -> Config:
    """Return Alembic's configuration for the migrations that ship with this package."""
    config = Config()
    config.set_main_option("script_location", "processor:migrations")
    return config


def head_revision() -> str | None:
    """Return the schema version that this code writes."""
    return ScriptDirectory.from_config(migrations()).get_current_head()
