"""Which versions of the pipelines run: read from the ledger, compiled beside those that run, swapped as a whole."""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final, NamedTuple, TypeAlias

import asyncpg
import structlog

from processor.metrics import LOAD_FAILURES
from processor.programs.active import NO_PIPELINES, ActivePipeline, ActiveSet
from processor.programs.compiled import Version, VersionError, compile_version, without_program
from processor.programs.statements import FIND_ACTIVE, FIND_FAULTS
from shared.pipelines.typed_tables import ROWS_SCHEMA

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

RETRY_SECONDS: Final = 30.0
_NOT_HELD: Final[Mapping[str, str]] = {}

Taken: TypeAlias = Callable[[], AbstractAsyncContextManager[asyncpg.Connection]]
Held: TypeAlias = Callable[[], Mapping[str, str]]
"""Returns why pipelines are held, by their names; another mapping after each change."""


class _Loaded(NamedTuple):
    """The active versions, with the reasons by name of those that cannot be run here."""

    pipelines: Sequence[ActivePipeline]
    failures: dict[str, str]


class Versions:
    """Keeps the set of pipelines that run. A batch reads `active` once."""

    def __init__(
        self,
        taken: Taken,
        mask_keys: Mapping[str, bytes],
        *,
        held: Held = lambda: _NOT_HELD,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`taken` gives a connection to the ledger, and raises as `Connections.taken`."""
        self.failures: Mapping[str, str] = {}
        """Why active versions cannot be run here, by the names of their pipelines."""
        self._taken = taken
        self._mask_keys = mask_keys
        self._held = held
        self._held_before: Mapping[str, str] = _NOT_HELD
        self._active = NO_PIPELINES
        self._unable: Mapping[str, str] = {}
        self._clock = clock
        self._mark: int | None = None
        self._retry_at: float | None = None
        self._compiled: dict[int, ActivePipeline] = {}

    @property
    def active(self) -> ActiveSet:
        """The pipelines that run, and those that are held now."""
        held = self._held()
        if held is not self._held_before:
            self._held_before = held
            self._swap(self._active.pipelines, self._unable)
        return self._active

    async def follow(self, mark: int) -> None:
        """Load what is active, where `mark` has changed, or every 30 seconds while some of it cannot be run here.

        `mark` changes with each row of `pipeline_states`. At the first call a version that cannot be run is held.
        Later it keeps the running set as it is, unless it was held before: what is active is taken over as a whole, or
        not at all. Raises as the connection does.
        """
        if mark == self._mark and (self._retry_at is None or self._clock() < self._retry_at):
            return
        loaded = await self._load()
        if self._mark is None or not self._new_failures(loaded):
            self._swap(loaded.pipelines, loaded.failures)
        self._mark = mark
        self._note(loaded.failures)

    async def _load(self) -> _Loaded:
        async with self._taken() as connection:
            versions = [Version(**row) for row in await connection.fetch(FIND_ACTIVE)]
        failures: dict[str, str] = {}
        compiled: dict[int, ActivePipeline] = {}
        for version in versions:
            try:
                compiled[version.id] = await self._compile(version)
            except VersionError as error:
                failures[version.name] = str(error)
        # A version never changes, so it is compiled once.
        self._compiled = compiled
        if compiled:
            failures |= await self._table_faults(compiled.values())
        pipelines = [
            without_program(version) if version.name in failures else compiled[version.id] for version in versions
        ]
        return _Loaded(pipelines, failures)

    async def _compile(self, version: Version) -> ActivePipeline:
        known = self._compiled.get(version.id)
        if known is not None:
            return known
        return await asyncio.to_thread(compile_version, version, self._mask_keys)

    async def _table_faults(self, pipelines: Iterable[ActivePipeline]) -> dict[str, str]:
        """Return what is wrong with the tables of pipelines, by the names of these."""
        tables = {table.name: (each.name, table) for each in pipelines for table in each.tables}
        wanted = [
            (name, column.name, column.sql_type)
            for name, (_, table) in tables.items()
            for column in (*table.columns, *table.added)
        ]
        if not wanted:
            return {}
        async with self._taken() as connection:
            faults = await connection.fetch(FIND_FAULTS, *map(list, zip(*wanted, strict=True)))
        return {tables[row["name"]][0]: _fault_of(row) for row in faults}

    def _new_failures(self, loaded: _Loaded) -> bool:
        """Tell whether a version cannot be run that the running set does not hold already."""
        held = {each.id for each in self._active.pipelines if each.program is None}
        return any(each.name in loaded.failures and each.id not in held for each in loaded.pipelines)

    def _swap(self, pipelines: Iterable[ActivePipeline], unable: Mapping[str, str]) -> None:
        """Replace the set. `unable`: why some cannot be run here, by name."""
        before = [(each.name, each.version) for each in self._active.pipelines]
        self._unable = unable
        held = {**self._held_before, **unable}
        names = {each.name for each in pipelines}
        self._active = ActiveSet(pipelines, {name: reason for name, reason in held.items() if name in names})
        if before != [(each.name, each.version) for each in self._active.pipelines]:
            log.info("pipelines run", pipelines=[f"{each.name}@{each.version}" for each in self._active.pipelines])

    def _note(self, failures: Mapping[str, str]) -> None:
        self._retry_at = self._clock() + RETRY_SECONDS if failures else None
        if failures:
            LOAD_FAILURES.inc()
            if failures != self.failures:
                log.error("pipelines cannot be run here; this is tried again", reasons=dict(failures))
        self.failures = failures


def _fault_of(row: asyncpg.Record) -> str:
    table = f"{ROWS_SCHEMA}.{row['name']}"
    if not row["present"]:
        return f"its table {table} is missing"
    if not row["granted"]:
        return f"this role may not write to its table {table}: a grant is missing"
    return f"its table {table} has no column {row['column_name']} of type {row['type']}"
