"""Failpoints: off unless asked for twice, once each, and never without a trace."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.failpoints import InjectedError, arm, failpoint
from shared.runtime.startup import load_settings
from shared.settings import ServiceSettings


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    arm("", None)


def test_a_place_does_nothing_where_nobody_asked_for_a_fault() -> None:
    failpoint("processor.committed")


def test_only_the_named_place_fails_at_its_passage_and_once(tmp_path: Path) -> None:
    log = tmp_path / "fired"
    arm("processor.committed:error@2", log)

    failpoint("processor.committed")
    failpoint("processor.received")
    with pytest.raises(InjectedError):
        failpoint("processor.committed")
    failpoint("processor.committed")

    assert log.read_text().startswith("processor.committed:error ")
    assert len(log.read_text().splitlines()) == 1


def test_nothing_is_armed_without_the_second_setting() -> None:
    with pytest.raises(ValueError, match="ETLPAY_FAILPOINT_LOG"):
        arm("processor.committed:kill", None)

    failpoint("processor.committed")


@pytest.mark.parametrize(
    "specification", ["processor.committed", "a:explode", "a:kill@0", "a:kill@x", ":kill", "a:kill "]
)
def test_what_is_no_specification_is_refused(specification: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must be name:kill"):
        arm(specification, tmp_path / "fired")


def test_a_killed_process_left_its_line_before_it_died(tmp_path: Path) -> None:
    log = tmp_path / "fired"
    program = (
        "from pathlib import Path; from shared.failpoints import arm, failpoint; "
        f"arm('a.b:kill', Path({str(log)!r})); failpoint('a.b')"
    )

    ended = subprocess.run([sys.executable, "-c", program], check=False)

    assert ended.returncode == -signal.SIGKILL
    assert log.read_text().startswith("a.b:kill ")


def test_a_service_refuses_to_start_with_half_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETLPAY_FAILPOINT", "a.b:kill")

    with pytest.raises(SystemExit) as refused:
        load_settings(ServiceSettings, service="test")

    assert refused.value.code == 2
