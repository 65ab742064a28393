"""The connections to the ledger, the gate that closes them, and the check of the ledger."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Final, NamedTuple, Self

import asyncpg
import structlog

from processor.ledger.sqlstates import LedgerRefusesError, classified, ends_session
from processor.ledger.statements import CHECK_LEDGER, FIND_PIPELINE_MARK, FIND_REVISION
from shared.contracts.errors import FatalError, UnavailableError
from shared.pipelines.values.numeric import decode_numeric, encode_number
from shared.postgres import POSTGRES_ERRORS, Pool
from shared.settings import PostgresPoolSettings

# The schema that this code writes: the newest migration. Asking Alembic for it would keep all of that in memory.
REVISION: Final = "0007"

_REMIND_SECONDS: Final = 60.0

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class WriteGate:
    """Closed while the ledger has another schema than this code writes, or cannot be written by it.

    Every write stands in `with gate:`, which raises UnavailableError while the gate is closed and notes whether the
    ledger refused the write.
    """

    def __init__(self) -> None:
        """The gate is open."""
        self.opened = asyncio.Event()
        self.opened.set()
        self.closed = asyncio.Event()
        self.refused = False
        """Whether the ledger refused the last write, for a reason that an operator must remove."""
        self._reason = ""
        self._reported = ""
        self._reported_at = 0.0

    def close(self, reason: str) -> None:
        """Let nothing more be written, because of `reason`."""
        self._reason = reason
        self.opened.clear()
        self.closed.set()
        self._report("the ledger does not fit this version; nothing is taken or written until it does", reason)

    def open(self) -> None:
        """Let events be written again."""
        if self.closed.is_set():
            log.info("the ledger fits again")
            self._reported = ""
        self._reason = ""
        self.closed.clear()
        self.opened.set()

    def __enter__(self) -> None:
        """Raise UnavailableError while the gate is closed."""
        if self._reason:
            raise UnavailableError(self._reason)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Note whether the ledger refused the write, and log a refusal."""
        if error is None:
            self.refused = False
        elif isinstance(error, LedgerRefusesError):
            self.refused = True
            self._report("the ledger refuses a write; its events are held and tried again", str(error))

    def _report(self, event: str, reason: str) -> None:
        """Log a new reason at once, and then once a minute."""
        if reason != self._reported or time.monotonic() - self._reported_at >= _REMIND_SECONDS:
            self._reported, self._reported_at = reason, time.monotonic()
            log.error(event, reason=reason)


class Connections:
    """Connections that write to the ledger. Every write stands in `with gate:`."""

    def __init__(self, pool: Pool) -> None:
        """Use `open` instead."""
        self._pool = pool
        self.gate = WriteGate()

    @classmethod
    async def open(cls, settings: PostgresPoolSettings, *, name: str) -> Self:
        """Return connections whose transactions have limits for waiting and for idling."""
        milliseconds = str(int(settings.postgres_seconds_max * 1000))
        server_settings = {
            # Plans are made once. To plan each batch, and the foreign keys of each row, costs half as much again.
            "plan_cache_mode": "force_generic_plan",
            # Every look-up is by key. A plan from when a table was small reads the whole table for each row of a
            # foreign key until the table is analyzed again: 60 microseconds of CPU an event, and growing; the index
            # takes 24.
            "enable_seqscan": "off",
            "lock_timeout": milliseconds,
            "idle_in_transaction_session_timeout": milliseconds,
        }
        return cls(await Pool.open(settings, name=name, server_settings=server_settings, prepare=_use_exact_numbers))

    @asynccontextmanager
    async def taken(self) -> AsyncIterator[asyncpg.Connection]:
        """Give a connection for the time of the `with` block; raise errors of PostgreSQL as `classified` says.

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


async def _use_exact_numbers(connection: asyncpg.Connection) -> None:
    """Make a connection send amounts and decimals as PostgreSQL's binary numeric, and read them as Decimal."""
    await connection.set_type_codec(
        "numeric", schema="pg_catalog", encoder=encode_number, decoder=decode_numeric, format="binary"
    )


class LedgerState(NamedTuple):
    """Which ledger it is (see `shared.postgres.LEDGER_EPOCH`), and a number that changes with what is active."""

    epoch: str
    pipelines: int


async def check(connections: Connections) -> LedgerState:
    """Return the ledger's state when it is there, durable, writable and of the schema that this code writes.

    Raises:
        UnavailableError: not now. LedgerRefusesError: an operator must do something first, such as migrate.
        FatalError: a commit would not be durable.
    """
    try:
        async with connections.taken() as connection:
            found = await connection.fetchrow(CHECK_LEDGER)
    except LedgerRefusesError as error:
        # Before the first migration there are no tables, no privileges and no role.
        raise LedgerRefusesError(f"the ledger is not migrated yet, or not for this role: {error}") from error
    if not (found["fsync"] and found["synchronous_commit"]):
        raise FatalError("PostgreSQL runs with fsync or synchronous_commit off: a commit would not be durable")
    if not found["writable"]:
        raise UnavailableError("PostgreSQL is read-only")
    if not found["granted"]:
        raise LedgerRefusesError("this role may not write the ledger: a grant is missing")
    _require_revision(found["revision"])
    async with connections.taken() as connection:
        mark: int = await connection.fetchval(FIND_PIPELINE_MARK)
    return LedgerState(str(found["epoch"]), mark)


async def check_revision(connection: asyncpg.Connection) -> None:
    """Check, on this connection, that the schema is the one that this code writes.

    Raises:
        LedgerRefusesError: it is not.
    """
    _require_revision(await connection.fetchval(FIND_REVISION))


def _require_revision(found: str) -> None:
    if found != REVISION:
        raise LedgerRefusesError("the ledger's schema is of another version; run the migrations")
