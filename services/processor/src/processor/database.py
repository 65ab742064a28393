"""PostgreSQL as the processor meets it: the connections, what errors mean, and the check before any work."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, Self

import asyncpg
from asyncpg.pgproto.pgproto import UUID

from processor.statements import CHECK_LEDGER
from shared.contracts.errors import EtlPayError, FatalError, PermanentError, UnavailableError
from shared.postgres import POSTGRES_ERRORS, Pool
from shared.settings import PostgresSettings

# The schema that this code writes: the newest migration. Asking Alembic for it would keep all of that in memory.
REVISION: Final = "0003"

# The driver's own kind of UUID: made in 0.06 instead of 0.7 microseconds, and compared and written quicker too.
make_id: Final = UUID

# SQLSTATE classes and codes (PostgreSQL documentation, appendix A).
_RETRYABLE: Final = ("08", "40", "53", "55P03", "57", "58", "25006")
_PERMANENT: Final = ("22", "23", "54")


class PermanentDataError(PermanentError):
    """PostgreSQL refuses a value."""

    def __init__(self, sqlstate: str) -> None:
        """Keep the SQLSTATE; the server's own text may quote the value."""
        super().__init__(f"PostgreSQL refused a value (SQLSTATE {sqlstate})")
        self.sqlstate = sqlstate


class Connections:
    """Connections that write to the ledger."""

    def __init__(self, pool: Pool) -> None:
        """Use `open` instead."""
        self._pool = pool

    @classmethod
    async def open(cls, settings: PostgresSettings, *, name: str) -> Self:
        """Return connections that write: no transaction of theirs waits or idles without a limit."""
        milliseconds = str(int(settings.postgres_seconds_max * 1000))
        server_settings = {
            # Planned once: for each batch anew, and with it for each row's foreign keys, costs half as much again.
            "plan_cache_mode": "force_generic_plan",
            # Everything here is looked up by key. Planned while a table was small, a check of a foreign key would read
            # all of it, for each row, until the table is analyzed again: 60 microseconds of CPU an event, and growing,
            # where the index takes 24.
            "enable_seqscan": "off",
            "lock_timeout": milliseconds,
            "idle_in_transaction_session_timeout": milliseconds,
        }
        return cls(await Pool.open(settings, name=name, server_settings=server_settings))

    @asynccontextmanager
    async def taken(self) -> AsyncIterator[asyncpg.Connection]:
        """Give a connection for a while; what PostgreSQL answers with instead of a result is told as `classified` says.

        Raises:
            RetryableError: not now; whether a statement took effect is unknown. FatalError, PermanentError: never.
        """
        try:
            async with self._pool.taken() as connection:
                yield connection
        except POSTGRES_ERRORS as error:
            raise classified(error) from error

    async def close(self) -> None:
        """Close all of them."""
        await self._pool.close()


def classified(error: Exception) -> EtlPayError:
    """Return what is to be done about an error of the database, by SQLSTATE and never by text."""
    sqlstate = getattr(getattr(error, "orig", error), "sqlstate", None) or ""
    if sqlstate.startswith(_PERMANENT):
        return PermanentDataError(sqlstate)
    if not sqlstate:
        return UnavailableError("PostgreSQL cannot be reached")
    if sqlstate.startswith(_RETRYABLE):
        return UnavailableError(f"PostgreSQL cannot do it now (SQLSTATE {sqlstate})")
    return FatalError(f"PostgreSQL will not do it (SQLSTATE {sqlstate})")


async def check(connections: Connections) -> str:
    """Return the ledger's epoch when it is there, durable, writable and of the schema that this code writes.

    Raises:
        UnavailableError: not (yet); try again. FatalError: it never will be by waiting.
    """
    try:
        async with connections.taken() as connection:
            found = await connection.fetchrow(CHECK_LEDGER)
    except FatalError as error:
        # Before the first migration there is no table to ask, no privilege to ask it, and no role to come in with.
        raise UnavailableError(f"the ledger is not migrated yet, or not for this role: {error}") from error
    if not (found["fsync"] and found["synchronous_commit"]):
        raise FatalError("PostgreSQL runs with fsync or synchronous_commit off: a commit would not be durable")
    if not found["writable"]:
        raise UnavailableError("PostgreSQL is read-only")
    if not found["granted"]:
        raise UnavailableError("this role may not write the ledger: a grant is missing")
    if found["revision"] != REVISION:
        raise UnavailableError("the ledger's schema is of another version; run the migrations")
    return str(found["epoch"])
