"""What grpc-ingest needs to be ready."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from grpc_ingest.service import _Intake
from grpc_ingest.settings import Settings
from shared.auth.authenticator import Access
from shared.auth.keys import generate_key
from shared.runtime.readiness import Readiness
from support.keys import FakeClock, write_keys


@pytest.fixture
def processing() -> Any:  # noqa: ANN401 - as much of the processor's client as is looked at
    """A processor that is there."""
    return SimpleNamespace(connected=True)


def test_ready_without_keys_that_nobody_asks_for(processing: Any) -> None:  # noqa: ANN401 - as above
    readiness = Readiness("intake")

    assert _Intake(readiness, Readiness(), processing, Access(None), Settings()).look()
    assert "api_keys" not in readiness.report()


def test_not_ready_while_nobody_can_be_let_in(processing: Any, tmp_path: Path) -> None:  # noqa: ANN401 - as above
    clock = FakeClock()
    path = write_keys(tmp_path / "keys.toml", (generate_key(), "shop", "*"))
    readiness = Readiness("intake")
    access = Access(path, stale_seconds=60, clock=clock)
    intake = _Intake(readiness, Readiness(), processing, access, Settings())
    path.unlink()

    states = []
    for seconds in (1, 58, 1):
        clock.now += seconds
        states.append(intake.look())

    assert states == [True, True, False]
    assert readiness.report()["api_keys"] == "missing"
