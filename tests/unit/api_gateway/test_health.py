"""What the gateway needs to be ready."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from api_gateway.health import INTAKE, ReadinessMonitor
from shared.auth.authenticator import Access
from shared.auth.keys import generate_key
from shared.runtime.readiness import Readiness
from support.gateway import FakeCache
from support.keys import FakeClock, write_keys


class Present:
    """A ledger that answers."""

    async def epoch(self) -> str:
        return "the epoch"


async def look(access: Access) -> Readiness:
    """Let the gateway look once; everything is there but, perhaps, the keys."""
    readiness = Readiness(INTAKE)
    processing: Any = SimpleNamespace(connected=True)
    ledger: Any = Present()
    watch = ReadinessMonitor(
        readiness,
        processing=processing,
        ledger=ledger,
        cache=FakeCache(),
        broker=Readiness(),
        access=access,
        fallback_to_queue=True,
    )
    await watch.look()
    return readiness


async def test_ready_without_keys_that_nobody_asks_for() -> None:
    readiness = await look(Access(None))

    assert readiness.ready
    assert "api_keys" not in readiness.report()


async def test_not_ready_while_nobody_can_be_let_in(tmp_path: Path) -> None:
    clock = FakeClock()
    path = write_keys(tmp_path / "keys.toml", (generate_key(), "shop", "*"))
    access = Access(path, stale_seconds=60, clock=clock)
    path.unlink()

    states = []
    for seconds in (1, 58, 1):
        clock.now += seconds
        states.append((await look(access)).ready)

    assert states == [True, True, False]
