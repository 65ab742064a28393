"""PostgreSQL as the processor meets it: the connections, and the check before any work."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, Self

import asyncpg
from asyncpg.pgproto.pgproto import UUID

from processor.gate import WriteGate
from processor.sqlstates import LedgerRefusesError, classified, ends_session
from processor.statements import CHECK_LEDGER, FIND_REVISION
from shared.contracts.errors import FatalError, UnavailableError
from shared.postgres import POSTGRES_ERRORS, Pool
from shared.settings import PostgresSettings

# The schema that this code writes: the newest migration. Asking Alembic for it would keep all of that in memory.
REVISION: Final = "0004"

# The driver's own kind of UUID: made in 0.06 instead of 0.7 microseconds, and compared and written quicker too.
make_id: Final = UUID


class Connections:
    """Connections that write to the ledger. Who writes passes `gate` first."""

    def __init__(self, pool: Pool) -> None:
        """Use `open` instead."""
        self._pool = pool
        self.gate = WriteGate()

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
            RetryableError: not now; whether a statement took effect is unknown. PermanentError: never.
        """
        try:
            async with self._pool.taken() as connection:
                try:
                    yield connection
                except asyncpg.PostgresError as error:
                    if ends_session(error):
                        connection.terminate()
                    raise
        except POSTGRES_ERRORS as error:
            raise classified(error) from error

    async def close(self) -> None:
        """Close all of them."""
        await self._pool.close()


async def check(connections: Connections) -> str:
    """Return the ledger's epoch when it is there, durable, writable and of the schema that this code writes.

    Raises:
        UnavailableError: not now. LedgerRefusesError: not before an operator has done something, such as a migration.
        FatalError: a commit would not be durable.
    """
    try:
        async with connections.taken() as connection:
            found = await connection.fetchrow(CHECK_LEDGER)
    except LedgerRefusesError as error:
        # Before the first migration there is no table to ask, no privilege to ask it, and no role to come in with.
        raise LedgerRefusesError(f"the ledger is not migrated yet, or not for this role: {error}") from error
    if not (found["fsync"] and found["synchronous_commit"]):
        raise FatalError("PostgreSQL runs with fsync or synchronous_commit off: a commit would not be durable")
    if not found["writable"]:
        raise UnavailableError("PostgreSQL is read-only")
    if not found["granted"]:
        raise LedgerRefusesError("this role may not write the ledger: a grant is missing")
    _require_revision(found["revision"])
    return str(found["epoch"])


async def check_revision(connection: asyncpg.Connection) -> None:
    """Return when the schema is the one that this code writes, as it is in the connection's transaction.

    Raises:
        LedgerRefusesError: it is not.
    """
    _require_revision(await connection.fetchval(FIND_REVISION))


def _require_revision(found: str) -> None:
    if found != REVISION:
        raise LedgerRefusesError("the ledger's schema is of another version; run the migrations")
