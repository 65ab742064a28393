"""Which pipelines are held: by an operator, or by a processor that could not write their tables."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final, NamedTuple

import structlog

from processor.ledger.database import Connections
from processor.ledger.statements import ADD_RELEASE, ADD_UNLESS_HELD, FIND_HOLDS, FIND_SETTLED
from processor.metrics import HELD
from shared.runtime.readiness import Readiness

PROCESSOR: Final = "processor"
"""Who has set a hold that a processor set, and ends."""

SETTLED: Final = "everything that was held is processed"
"""The reason of the row that says so; what is owed since then is looked for from there."""

# A row with a lower id may be committed after one with a higher id.
_LATE_ROWS_MAX: Final = 1_000

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class _Row(NamedTuple):
    """The last row of a pipeline in `pipeline_holds` that a processor has set, or that somebody else has."""

    id: int
    held: bool
    reason: str


class Holds:
    """The holds, as the ledger has them; `look` reads them again."""

    def __init__(self, connections: Connections, readiness: Readiness | None = None) -> None:
        """Nothing is held until the first look. `readiness` is told which pipelines are held."""
        self._connections = connections
        self._readiness = readiness
        self._owed: set[str] = set()
        self._rows: dict[tuple[str, bool], _Row] = {}
        self._seen = 0
        self.held: Mapping[str, str] = {}
        """The reasons, by the names of the pipelines that are held; another mapping after each change."""

    def add_owed(self, name: str) -> None:
        """Note that this process has stored HELD events of a pipeline."""
        self._owed.add(name)

    def take_owed(self) -> set[str]:
        """Return the pipelines that were noted since the last call."""
        owed, self._owed = self._owed, set()
        return owed

    def is_own(self, name: str) -> bool:
        """Tell whether a pipeline is held, and nobody but a processor holds it."""
        others = self._rows.get((name, False))
        return name in self.held and not (others is not None and others.held)

    async def look(self) -> None:
        """Read what has changed. Raises as `Connections.taken`."""
        async with self._connections.taken() as connection:
            rows = await connection.fetch(FIND_HOLDS, PROCESSOR, self._seen - _LATE_ROWS_MAX)
        for row in rows:
            self._note(row["name"], _Row(row["id"], row["held"], row["reason"]), own=row["own"])
        self._apply()

    async def hold(self, name: str, reason: str) -> None:
        """Hold a pipeline, unless it is held already. Raises as `Connections.taken`."""
        async with self._connections.taken() as connection:
            await connection.execute(ADD_UNLESS_HELD, name, PROCESSOR, reason, True)  # noqa: FBT003 - SQL
        await self.look()

    async def release(self, name: str, reason: str) -> None:
        """End a hold that a processor has set. Raises as `Connections.taken`."""
        async with self._connections.taken() as connection:
            await connection.execute(ADD_RELEASE, name, PROCESSOR, reason)
        await self.look()

    async def settle(self, name: str) -> None:
        """Keep that nothing is owed of a pipeline, unless it is held. Raises as `Connections.taken`."""
        async with self._connections.taken() as connection:
            await connection.execute(ADD_UNLESS_HELD, name, PROCESSOR, SETTLED, False)  # noqa: FBT003 - SQL
        await self.look()

    async def settled_at(self, name: str) -> datetime | None:
        """Return when everything of a pipeline was processed last, or None. Raises as `Connections.taken`."""
        async with self._connections.taken() as connection:
            moment: datetime | None = await connection.fetchval(FIND_SETTLED, name, PROCESSOR, SETTLED)
        return moment

    def _note(self, name: str, row: _Row, *, own: bool) -> None:
        known = self._rows.get((name, own))
        if known is None or row.id > known.id:
            self._rows[name, own] = row
        self._seen = max(self._seen, row.id)

    def _apply(self) -> None:
        """Say what has changed, once."""
        names = {name for name, _ in self._rows}
        held = {name: reason for name in sorted(names) if (reason := self._reason(name)) is not None}
        for name in sorted(names):
            HELD.labels(name).set(name in held)
            if self._readiness is not None:
                self._readiness.set_optional(f"pipeline {name}", present=name not in held)
        for name in sorted(held.keys() - self.held.keys()):
            log.error("a pipeline is held; its events are kept and processed later", pipeline=name, reason=held[name])
        for name in sorted(self.held.keys() - held.keys()):
            log.info("a pipeline is not held any more", pipeline=name)
        if held != self.held:
            self.held = held

    def _reason(self, name: str) -> str | None:
        """Return why a pipeline is held, or None. No row of a processor ends the hold of an operator."""
        others, own = self._rows.get((name, False)), self._rows.get((name, True))
        if others is not None and others.held:
            return others.reason
        if own is not None and own.held and (others is None or own.id > others.id):
            return own.reason
        return None
