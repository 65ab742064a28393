"""What comes to the processor is checked before it shares a batch with anything else."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

import pytest
from msgspec.structs import replace

from processor.pipeline import Arrival, WriteEvents, called, delivered
from shared.contracts.errors import PermanentError
from shared.contracts.event import identify
from shared.contracts.outcome import Outcome
from support.events import event

WriteArrivals: TypeAlias = Callable[[Sequence[Arrival]], Awaitable[list[Outcome]]]


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
