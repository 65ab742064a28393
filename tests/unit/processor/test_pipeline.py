"""What comes to the processor is checked before it shares a batch with anything else."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from processor.pipeline import Arrival, WriteArrivals, WriteEvents, called, delivered
from processor.sqlstates import LedgerRefusesError
from shared.contracts.errors import PermanentError, UnavailableError
from shared.contracts.event import identify
from shared.contracts.outcome import Disposition, Outcome
from shared.testing.processing import FakeProcessing
from support.events import event

AWAY = UnavailableError("away")


@pytest.mark.parametrize("arriving", [called, delivered])
async def test_an_event_under_the_id_of_another_is_not_written_and_neither_is_its_batch(
    arriving: Callable[[WriteArrivals], WriteEvents],
) -> None:
    written: list[Arrival] = []

    async def write(arrivals: Sequence[Arrival]) -> list[Outcome]:
        written.extend(arrivals)
        return []

    forged = replace(event(key="inv-1", source="attacker"), event_id=identify("victim", "inv-1"))

    with pytest.raises(PermanentError):
        await arriving(write)([event(key="a"), forged])

    assert written == []


@pytest.mark.parametrize("arriving", [called, delivered])
async def test_events_whose_batch_cannot_be_kept_are_written_by_themselves(arriving: Any) -> None:  # noqa: ANN401 - either of two
    """The culprit may be one of the others."""

    async def together(_: Sequence[Arrival]) -> list[Outcome]:
        raise PermanentError("somebody's")

    async def alone(arrivals: Sequence[Arrival]) -> list[Outcome]:
        return await FakeProcessing().process([arrival.event for arrival in arrivals])

    [outcome] = await arriving(together, alone=alone)([event()])

    assert outcome.disposition is Disposition.STORED


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (LedgerRefusesError("a rule"), PermanentError),
        (PermanentError("mine"), PermanentError),
        (AWAY, UnavailableError),
    ],
)
async def test_events_that_are_refused_also_by_themselves(fault: Exception, told: type[Exception]) -> None:
    """One that a rule refuses, and not the others, is not held where it would hold up others."""

    async def together(_: Sequence[Arrival]) -> list[Outcome]:
        raise PermanentError("somebody's")

    async def alone(_: Sequence[Arrival]) -> list[Outcome]:
        raise fault

    with pytest.raises(told) as raised:
        await delivered(together, alone=alone)([event()])

    assert not isinstance(raised.value, LedgerRefusesError)
