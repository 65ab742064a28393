"""Connections to PostgreSQL: a pool, time limits on both sides, exact timestamps."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Self, TypeAlias

import asyncpg

from shared.settings import PostgresPoolSettings, PostgresSettings
from shared.tls import client_context

# What a query may raise.
POSTGRES_ERRORS: Final = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    # The driver raises it on a connection that has ended without its notice.
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
)

# SQL for a text that changes with every restore: a dump creates the tables again, with other file names; a file copy or
# a point-in-time recovery starts the server again; another server has another start time. A role's own deletions do not
# change it, and leave the ids of records in use.
LEDGER_EPOCH: Final = """concat_ws('/', extract(epoch FROM pg_postmaster_start_time()),
    pg_relation_filenode(to_regclass('raw_events')), pg_relation_filenode(to_regclass('processed_records')),
    (SELECT oid FROM pg_database WHERE datname = current_database()))"""

_CONNECT_SECONDS_MAX: Final = 10.0
_CLOSE_SECONDS_MAX: Final = 2.0
_STATEMENT_BYTES_MAX: Final = 256 * 1024

# PostgreSQL counts microseconds from here (its documentation, "Date/Time Types"), and uses the smallest and the largest
# number for its infinities.
_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_ENDS: Final = {-(2**63): datetime.min.replace(tzinfo=UTC), 2**63 - 1: datetime.max.replace(tzinfo=UTC)}


Prepare: TypeAlias = Callable[[asyncpg.Connection], Awaitable[None]]


class Pool:
    """A limited number of connections of one role, opened on demand.

    Without SQLAlchemy, which cost 750 of the 1,200 microseconds of CPU that a batch of 32 events took.
    """

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]", *, seconds_max: float) -> None:
        """Use `open` instead."""
        self._pool = pool
        self._seconds_max = seconds_max

    @classmethod
    async def open(
        cls,
        settings: PostgresPoolSettings,
        *,
        name: str,
        server_settings: Mapping[str, str],
        prepare: Prepare | None = None,
    ) -> Self:
        """Return a pool of connections with `connect_options`; `prepare` is called for each new one."""

        async def prepared(connection: asyncpg.Connection) -> None:
            await _keep_moments_exact(connection)
            if prepare is not None:
                await prepare(connection)

        pool = await asyncpg.create_pool(
            settings.postgres_url,
            password=settings.postgres_password.get_secret_value() or None,
            min_size=0,
            max_size=settings.postgres_pool_max,
            init=prepared,
            # A statement of a wide typed table is prepared once, too.
            max_cacheable_statement_size=_STATEMENT_BYTES_MAX,
            reset=_leave_as_it_is,
            **connect_options(settings, name=name, server_settings=server_settings),
        )
        return cls(pool, seconds_max=settings.postgres_seconds_max)

    @asynccontextmanager
    async def taken(self) -> AsyncIterator[asyncpg.Connection]:
        """Yield a connection. Raises POSTGRES_ERRORS."""
        connection = await self._pool.acquire(timeout=self._seconds_max)
        try:
            yield connection
        except (asyncpg.InternalClientError, asyncio.CancelledError):
            # Its state is unknown.
            connection.terminate()
            raise
        finally:
            # An error here concerns the connection only, and not the statements that it has run.
            with suppress(*POSTGRES_ERRORS):
                await self._pool.release(connection, timeout=_CLOSE_SECONDS_MAX)

    async def close(self) -> None:
        """Close all connections."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_SECONDS_MAX):
                await self._pool.close()


async def _leave_as_it_is(_: asyncpg.Connection) -> None:
    """Reset nothing when a connection is released: we set nothing in a session, and a reset takes a round trip."""


def connect_options(settings: PostgresSettings, *, name: str, server_settings: Mapping[str, str]) -> dict[str, Any]:
    """Return the options of asyncpg: every statement has a time limit, on our side and on the server.

    Args:
        settings: the address of PostgreSQL, and the limits.
        name: the name of the connections in PostgreSQL (`application_name`).
        server_settings: further settings of the session.

    Raises:
        FatalError: the TLS files cannot be used.
    """
    context = client_context(settings.postgres_tls)
    return {
        # Without an authority the URL decides, as in libpq.
        **({"ssl": context} if context else {}),
        "timeout": min(settings.postgres_seconds_max, _CONNECT_SECONDS_MAX),
        "command_timeout": settings.postgres_seconds_max + 1,
        "server_settings": {
            "application_name": name,
            "statement_timeout": str(int(settings.postgres_seconds_max * 1000)),
            # The server notices a lost client also while a statement runs.
            "client_connection_check_interval": "1000",
            **server_settings,
        },
    }


async def _keep_moments_exact(connection: asyncpg.Connection) -> None:
    """Make a connection store timestamps exactly.

    asyncpg writes the first moment of year 1 (the zero time of Go and protobuf) as `-infinity`, the last moment of year
    9999 as `infinity`, and reads both without a time zone.
    """
    await connection.set_type_codec(
        "timestamptz", schema="pg_catalog", encoder=_encode, decoder=_decode, format="tuple"
    )


def _encode(moment: datetime) -> tuple[int]:
    return ((moment - _EPOCH) // _MICROSECOND,)


def _decode(counted: tuple[int]) -> datetime:
    [microseconds] = counted
    return _ENDS.get(microseconds) or _EPOCH + timedelta(microseconds=microseconds)
