"""The connections of the one-shot: one change at a time, short waits for locks, and who holds them."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, TypeVar, cast

import asyncpg

from processor.settings import PipelineSettings
from shared.contracts.errors import UnavailableError
from shared.postgres import POSTGRES_ERRORS, connect_options

# The number is any constant: whoever changes pipelines waits for the others on it. Its upper half is 1.
_LOCK: Final = 7203577892
_TAKE_LOCK: Final = f"SELECT pg_try_advisory_lock({_LOCK})"
_LOCK_HOLDERS: Final = f"""
    SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1
    AND classid = {_LOCK >> 32} AND objid = {_LOCK & 0xFFFFFFFF}
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""  # noqa: S608 - numbers of ours
_BLOCKING: Final = "SELECT unnest(pg_blocking_pids($1))"
# Who uses typed tables and views; that one of them was in the way is likely, where nobody was seen to be.
_USERS: Final = """
    SELECT DISTINCT pid FROM pg_locks JOIN pg_class AS class ON class.oid = relation
    WHERE granted AND pid <> ALL($1::int[]) AND class.relnamespace IN (to_regnamespace('rows'), to_regnamespace('data'))
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
_NAMED: Final = """
    SELECT format('%s (pid %s)', coalesce(nullif(application_name, ''), usename::text, 'a session'), pid)
    FROM pg_stat_activity WHERE pid = ANY($1::int[]) ORDER BY pid LIMIT 5
"""
_LOCKED: Final = (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError)
_LOOKS: Final = 4
# Between two attempts, in lock time-outs: while an attempt waits, all writers of the table wait behind it.
_PAUSE_MIN, _PAUSE_MAX = 1.0, 3.0

_CLOSE_SECONDS_MAX: Final = 2.0

T = TypeVar("T")
Tell = Callable[[str], None]


class InUseError(UnavailableError):
    """Another session held a lock for too long; the message says which."""


class Sessions:
    """A connection that changes, and one that looks on."""

    def __init__(
        self, main: asyncpg.Connection, other: asyncpg.Connection, settings: PipelineSettings, tell: Tell
    ) -> None:
        """Use `open_sessions` instead."""
        self.main = main
        self._other = other
        self._settings = settings
        self._tell = tell
        self._told: list[str] = []

    async def hold_changes(self) -> None:
        """Become the only one that changes pipelines, until the connection ends. Raises InUseError."""
        await self._until(self._take_lock)

    async def _take_lock(self) -> None:
        if not await self.main.fetchval(_TAKE_LOCK):
            await self._note([row["pid"] for row in await self._other.fetch(_LOCK_HOLDERS)])
            raise asyncpg.LockNotAvailableError("another one changes pipelines")

    async def patiently(self, work: Callable[[], Awaitable[T]]) -> T:
        """Return the result of the work, which is done again while another session holds a lock that it needs.

        Raises InUseError after the time of the settings.
        """
        return await self._until(lambda: self._watched(work))

    async def outside(self, statement: str) -> None:
        """Run a statement outside a transaction. What waits here keeps no writer, so it may wait for long.

        Raises InUseError and POSTGRES_ERRORS.
        """
        seconds = self._settings.pipelines_seconds_max
        await self.main.execute(f"SET lock_timeout = '{int(seconds * 1000)}'")
        try:
            await self._watched(lambda: self.main.execute(statement))
        except _LOCKED as error:
            raise InUseError(self._in_use()) from error
        finally:
            if not self.main.is_closed():
                await self.main.execute("RESET lock_timeout")

    async def _watched(self, work: Callable[[], Awaitable[T]]) -> T:
        """Return the result of the work, and note meanwhile whom it waits for."""
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(self._watch())
            done: T | None = None
            failed: Exception | None = None
            try:
                done = await work()
            except Exception as error:  # noqa: BLE001 - it is raised below; the group would wrap it
                failed = error
            watching.cancel()
        if failed is not None:
            raise failed
        return cast("T", done)

    async def _until(self, work: Callable[[], Awaitable[T]]) -> T:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._settings.pipelines_seconds_max
        self._told = []
        while True:
            try:
                return await work()
            except _LOCKED as error:
                if not self._told:
                    await self._note_users()
                if loop.time() >= deadline:
                    raise InUseError(self._in_use()) from error
            pause = random.uniform(_PAUSE_MIN, _PAUSE_MAX)  # noqa: S311 - so that two do not wait in step
            await asyncio.sleep(pause * self._settings.pipelines_lock_seconds_max)

    def _in_use(self) -> str:
        return f"in use for too long, by {', '.join(self._told) or 'another session'}; nothing of it was done"

    async def _watch(self) -> None:
        """Note who holds what the main connection waits for."""
        pid = self.main.get_server_pid()
        while True:
            await asyncio.sleep(self._settings.pipelines_lock_seconds_max / _LOOKS)
            with suppress(*POSTGRES_ERRORS):
                await self._note([row["unnest"] for row in await self._other.fetch(_BLOCKING, pid)])

    async def _note_users(self) -> None:
        ours = [self.main.get_server_pid(), self._other.get_server_pid()]
        await self._note([row["pid"] for row in await self._other.fetch(_USERS, ours)])

    async def _note(self, pids: list[int]) -> None:
        holders = [row["format"] for row in await self._other.fetch(_NAMED, pids)] if pids else []
        if holders and holders != self._told:
            self._told = holders
            self._tell(f"waiting for {', '.join(holders)}; those who write are not held up")


@asynccontextmanager
async def open_sessions(settings: PipelineSettings, tell: Tell) -> AsyncIterator[Sessions]:
    """Yield the connections. Raises UnavailableError where PostgreSQL cannot be reached, and POSTGRES_ERRORS."""
    main = await _connect(settings)
    try:
        other = await _connect(settings)
        try:
            yield Sessions(main, other, settings, tell)
        finally:
            await _close(other)
    finally:
        await _close(main)


async def _close(connection: asyncpg.Connection) -> None:
    with suppress(*POSTGRES_ERRORS):
        await connection.close(timeout=_CLOSE_SECONDS_MAX)


async def _connect(settings: PipelineSettings) -> asyncpg.Connection:
    options: dict[str, Any] = connect_options(
        settings,
        name="etlpay-pipelines",
        server_settings={
            # Names are found in no schema that somebody could put before ours.
            "search_path": "pg_catalog, pg_temp",
            "standard_conforming_strings": "on",
            "lock_timeout": str(int(settings.pipelines_lock_seconds_max * 1000)),
        },
    )
    password = settings.postgres_password.get_secret_value() or None
    try:
        # A pooler in transaction mode would give prepared statements and the lock to whoever comes next.
        return await asyncpg.connect(settings.postgres_url, password=password, **options)
    except POSTGRES_ERRORS as error:
        reason = getattr(error, "sqlstate", None) or type(error).__name__
        raise UnavailableError(f"PostgreSQL does not let the role of the pipelines in ({reason})") from error
