"""An event is checked before it shares a batch with other events."""

from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from processor.ledger.sqlstates import LedgerRefusesError
from processor.stages.processing import Received, checked
from shared.contracts.errors import PermanentError, UnavailableError
from shared.contracts.event import identify
from shared.contracts.result import Recorded, ResultKind
from shared.testing.processing import FakeProcessing
from support.events import event

AWAY = UnavailableError("away")


@pytest.mark.parametrize("acknowledged", [False, True])
async def test_an_event_under_the_id_of_another_is_not_written_and_neither_is_its_batch(*, acknowledged: bool) -> None:
    written: list[Received] = []

    async def write(received: Sequence[Received]) -> list[Recorded]:
        written.extend(received)
        return []

    forged = replace(event(key="inv-1", source="attacker"), event_id=identify("victim", "inv-1"))

    with pytest.raises(PermanentError):
        await checked(write, acknowledged=acknowledged)([event(key="a"), forged])

    assert written == []


@pytest.mark.parametrize("acknowledged", [False, True])
async def test_events_whose_batch_cannot_be_kept_are_written_by_themselves(*, acknowledged: bool) -> None:
    """The reason may be one of the other events."""

    async def together(_: Sequence[Received]) -> list[Recorded]:
        raise PermanentError("somebody's")

    async def alone(received: Sequence[Received]) -> list[Recorded]:
        return await FakeProcessing().process([each.event for each in received])

    [outcome] = await checked(together, acknowledged=acknowledged, alone=alone)([event()])

    assert outcome.kind is ResultKind.STORED


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (LedgerRefusesError("a rule"), PermanentError),
        (PermanentError("mine"), PermanentError),
        (AWAY, UnavailableError),
    ],
)
async def test_events_that_are_refused_also_by_themselves(fault: Exception, expected: type[Exception]) -> None:
    """An event that a rule refuses is not held, since it would hold up the events behind it."""

    async def together(_: Sequence[Received]) -> list[Recorded]:
        raise PermanentError("somebody's")

    async def alone(_: Sequence[Received]) -> list[Recorded]:
        raise fault

    with pytest.raises(expected) as raised:
        await checked(together, acknowledged=True, alone=alone)([event()])

    assert not isinstance(raised.value, LedgerRefusesError)
