"""The ledger as queries read it: connections that can only read, and limits of time and memory."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import Final, Self

import asyncpg
import structlog

from shared.auth.scopes import Scope
from shared.contracts.errors import UnavailableError
from shared.postgres import LEDGER_EPOCH, POSTGRES_ERRORS, Pool
from shared.runtime.limits import CapacityLimit, Holding
from shared.settings import PostgresPoolSettings

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_EPOCH: Final = f"SELECT {LEDGER_EPOCH} AS epoch"
_running: Final[ContextVar["RunningQuery"]] = ContextVar("etlpay.running_query")


async def open_reader(settings: PostgresPoolSettings) -> Pool:
    """Return a pool of connections that can only read."""
    return await Pool.open(settings, name="api-gateway", server_settings={"default_transaction_read_only": "on"})


class Ledger:
    """Runs queries. A query that PostgreSQL cannot answer now raises UnavailableError."""

    def __init__(self, pool: Pool, *, page_bytes_max: int, seconds_max: float) -> None:
        """`pool` connects as etlpay_reader.

        `page_bytes_max` limits the payloads of a page. `seconds_max` limits a query with everything it waits for: a
        place in the pool, a connection, the answer.
        """
        self.page_bytes_max: Final = page_bytes_max
        self._pool = pool
        self._seconds_max = seconds_max

    async def rows(self, query: str, *parameters: object) -> list[asyncpg.Record]:
        """Run a query and return its rows."""
        async with self.connection(self._seconds_max) as connection:
            rows: list[asyncpg.Record] = await connection.fetch(query, *parameters)
            return rows

    @asynccontextmanager
    async def connection(self, seconds_max: float) -> AsyncIterator[asyncpg.Connection]:
        """Give a connection for `seconds_max`. Its errors, also in the body, become UnavailableError."""
        try:
            async with asyncio.timeout(seconds_max), self._pool.taken() as connection:
                yield connection
        except POSTGRES_ERRORS as error:
            sqlstate = getattr(error, "sqlstate", None)
            log.debug("the ledger did not answer", error=type(error).__name__, sqlstate=sqlstate)
            raise UnavailableError("PostgreSQL cannot answer now") from error

    async def epoch(self) -> str | None:
        """Return which ledger answers, as `shared.postgres.LEDGER_EPOCH` defines it; None if none answers."""
        try:
            [row] = await self.rows(_EPOCH)
        except UnavailableError:
            return None
        return str(row["epoch"])

    async def close(self) -> None:
        """Close the connections."""
        await self._pool.close()


def scope_parameters(scope: Scope) -> tuple[list[str] | None, list[str] | None]:
    """Return a scope as SQL parameters: its names and its prefixes of names; (None, None) for every source."""
    return (None, None) if scope.everything else (sorted(scope.names), list(scope.beginnings))


class QueryLimit:
    """How many queries run at once. Of those that hold a record larger than a page, only one runs."""

    def __init__(self, number_max: int, *, share: float, seconds_max: float) -> None:
        """A query waits `seconds_max` at most. One caller gets at most `share` of `number_max`."""
        self.queries: Final = CapacityLimit(number_max, share=share)
        self.large: Final = CapacityLimit(1, share=1)
        self.seconds_max: Final = seconds_max


class RunningQuery:
    """A context for one query: from its place in the limit until its response is read. Raises OverloadedError."""

    def __init__(self, limit: QueryLimit, counted_as: str) -> None:
        """`counted_as` is the caller."""
        self._seconds_max = limit.seconds_max
        self._query = Holding(limit.queries, counted_as)
        self._large = Holding(limit.large, counted_as)
        self._is_large = False

    async def __aenter__(self) -> Self:
        """Wait for a place."""
        await self._query.wait(1, seconds_max=self._seconds_max)
        _running.set(self)
        return self

    async def __aexit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the place to the next query."""
        self._large.release()
        self._query.release()

    async def become_large(self) -> None:
        """Wait until a large record may be in memory. Raises OverloadedError."""
        if not self._is_large:
            await self._large.wait(1, seconds_max=self._seconds_max)
            self._is_large = True


async def expect_large_record() -> None:
    """Let the running query wait until a large record may be in memory. Raises OverloadedError.

    The query is in a context variable: the framework is between the code that limits it and the code that reads.
    """
    await _running.get().become_large()
