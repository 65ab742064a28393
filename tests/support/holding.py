"""A processor that holds pipelines and works off what it owes, with a clock of the test's."""

from collections.abc import Callable

import asyncpg

from processor.ledger.database import Connections
from processor.ledger.owed import OwedEvents
from processor.ledger.rows import Processed
from processor.ledger.store import Store
from processor.programs.active import ActiveSet
from processor.stages.drift import DriftCounts
from processor.stages.held import HeldEvents
from shared.contracts.event import Envelope, now
from shared.contracts.result import Recorded
from support.keys import FakeClock
from support.typed import statuses, transformed


class Processor:
    """A store and what works off its HELD events, with a clock of the test's."""

    def __init__(self, connections: Connections, pipelines: ActiveSet) -> None:
        self.store = Store(connections, copy_events_min=100)
        self.holds = self.store.holds
        self.clock = FakeClock()
        self.pipelines = pipelines.pipelines
        self.transform: Callable[[Envelope, ActiveSet], Processed] = transformed
        self.drift = DriftCounts()
        self.owed = OwedEvents(connections, self.store.ids, self.store.causes, self.store.typed)
        self.held = HeldEvents(
            self.holds,
            self.owed,
            active=self.active,
            transform=self._transform_now,
            drift=self.drift,
            look_seconds=0.05,
            clock=self.clock,
        )

    def active(self) -> ActiveSet:
        return ActiveSet(self.pipelines, self.holds.held)

    def _transform_now(self, event: Envelope, active: ActiveSet) -> Processed:
        return self.transform(event, active)

    async def write(self, *events: Envelope) -> list[Recorded]:
        active = self.active()
        return await self.store.write([transformed(event, active) for event in events], processed_at=now())

    async def turns(self, seconds: float = 0) -> None:
        """Let the time pass, then let everything be worked off that can be."""
        self.clock.now += seconds
        while await self.held.turn():
            pass


async def hold(owner: asyncpg.Connection, name: str, *, held: bool, set_by: str = "operator") -> None:
    await owner.execute(
        "INSERT INTO pipeline_holds (name, held, set_by, reason) VALUES ($1, $2, $3, 'why')", name, held, set_by
    )


async def last_hold(owner: asyncpg.Connection, name: str = "shop") -> tuple[bool, str, str]:
    row = await owner.fetchrow("SELECT held, set_by, reason FROM pipeline_holds WHERE name = $1 ORDER BY id DESC", name)
    return row["held"], row["set_by"], row["reason"]


async def all_succeeded(owner: asyncpg.Connection, number: int) -> bool:
    """Tell whether so many records are SUCCESS."""
    return await statuses(owner) == {"SUCCESS": number}
