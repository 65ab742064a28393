"""While the gate is closed nothing is written; an operator is told at once, and then once a minute."""

import pytest
from structlog.testing import capture_logs

from processor.ledger.database import WriteGate
from processor.ledger.sqlstates import LedgerRefusesError
from shared.contracts.errors import UnavailableError


def test_nothing_passes_a_closed_gate_until_it_is_opened() -> None:
    gate = WriteGate()
    passed = 0

    gate.close("of another version")
    with pytest.raises(UnavailableError, match="of another version"), gate:
        passed += 1
    gate.open()
    with gate:
        passed += 1

    assert passed == 1


def test_an_operator_is_told_once_of_each_reason() -> None:
    gate = WriteGate()

    with capture_logs() as logs:
        for reason in ("of another version", "of another version", "a grant is missing"):
            gate.close(reason)
        gate.open()
        gate.close("a grant is missing")

    told = [(line["log_level"], line.get("reason")) for line in logs]
    assert told == [
        ("error", "of another version"),
        ("error", "a grant is missing"),
        ("info", None),
        ("error", "a grant is missing"),
    ]


def test_what_the_ledger_refuses_is_told_once_and_noted_until_something_is_written() -> None:
    gate = WriteGate()

    with capture_logs() as logs:
        for _ in range(3):
            with pytest.raises(LedgerRefusesError), gate:
                raise LedgerRefusesError("42501")
    refused = gate.refused
    with pytest.raises(UnavailableError), gate:
        raise UnavailableError("an outage says nothing of it")
    with gate:
        pass

    assert [line["log_level"] for line in logs] == ["error"]
    assert (refused, gate.refused) == (True, False)
