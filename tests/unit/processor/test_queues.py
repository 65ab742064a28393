"""A delivery is acked after the commit and never before it; what can never be stored goes on to the next queue."""

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import pytest

from processor.inputs.queues import settle_one_by_one, settle_together
from processor.ledger.sqlstates import LedgerRefusesError
from shared.contracts.errors import FatalError, PermanentError, UnavailableError
from shared.contracts.event import Envelope
from shared.contracts.result import Recorded
from shared.messaging.consumer import Delivery
from shared.runtime import retry
from shared.testing.processing import FakeProcessing
from shared.wire import encode_batch
from support.events import event


class KilledError(Exception):
    """The process ends here."""


class FakeDelivery:
    """A message in hand that notes how it was settled."""

    message_id = "m-1"

    def __init__(self, body: bytes, happened: list[str], *, redelivered: bool) -> None:
        self.body = body
        self.redelivered = redelivered
        self._happened = happened

    def forget_body(self) -> None:
        self.body = b""

    async def ack(self) -> None:
        self._happened.append("ack")

    async def reject(self) -> None:
        self._happened.append("reject")


class Ledger:
    """Commits to memory; fails as often as it is told to, before it commits."""

    def __init__(self, happened: list[str], *faults: Exception) -> None:
        self.happened = happened
        self.faults = list(faults)
        self.is_late = asyncio.Event()
        """Set once five attempts have failed."""
        self._processing = FakeProcessing()

    async def write(self, events: Sequence[Envelope]) -> list[Recorded]:
        if self.faults:
            fault = self.faults.pop(0)
            if len(self.faults) == 15:
                self.is_late.set()
            raise fault
        outcomes = await self._processing.process(events)
        self.happened.append(f"commit {len(events)}")
        return outcomes


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again at once."""
    monkeypatch.setattr(retry, "_FIRST_SECONDS", 0)


def delivery(body: bytes, happened: list[str], *, redelivered: bool = False) -> Delivery:
    """Return the fake as what the consumer expects."""
    return cast("Delivery", FakeDelivery(body, happened, redelivered=redelivered))


# Hold what cannot be written, for ever.
NEVER = (asyncio.Event(),)

BATCH = encode_batch([event(key="1"), event(key="2"), event(key="3")])


async def test_the_fast_queue_commits_the_message_as_one_and_then_acks() -> None:
    happened: list[str] = []
    ledger = Ledger(happened)

    await settle_together(delivery(BATCH, happened), ledger.write, until=NEVER)

    assert happened == ["commit 3", "ack"]


async def test_the_slow_queue_commits_each_event_alone_and_then_acks() -> None:
    happened: list[str] = []
    ledger = Ledger(happened)

    await settle_one_by_one(delivery(BATCH, happened), ledger.write, until=NEVER)

    assert happened == ["commit 1", "commit 1", "commit 1", "ack"]


@pytest.mark.parametrize("settle", [settle_together, settle_one_by_one])
async def test_an_outage_is_waited_out_with_the_delivery_in_hand(settle: Any) -> None:  # noqa: ANN401 - either queue
    happened: list[str] = []
    ledger = Ledger(happened, *[UnavailableError("away")] * 20)

    await settle(delivery(BATCH, happened), ledger.write, until=NEVER)

    assert happened[-1] == "ack"
    assert happened.count("ack") == 1
    assert "reject" not in happened


@pytest.mark.parametrize("body", [b"\xff\xff", BATCH[:-1], b'{"value": 1}'])
@pytest.mark.parametrize("settle", [settle_together, settle_one_by_one])
async def test_what_is_no_batch_is_never_acked_as_if_it_were_stored(settle: Any, body: bytes) -> None:  # noqa: ANN401 - either queue
    happened: list[str] = []
    ledger = Ledger(happened)

    await settle(delivery(body, happened), ledger.write, until=NEVER)

    assert happened == ["reject"]


async def test_a_message_without_events_is_given_up() -> None:
    """No bytes are, in protobuf, a batch without events: there is nothing to lose."""
    happened: list[str] = []
    ledger = Ledger(happened)

    await settle_one_by_one(delivery(b"", happened), ledger.write, until=NEVER)

    assert happened == ["ack"]


async def test_what_the_ledger_can_never_keep_goes_to_the_next_queue() -> None:
    happened: list[str] = []
    ledger = Ledger(happened, PermanentError("cannot be kept"))

    await settle_together(delivery(BATCH, happened), ledger.write, until=NEVER)

    assert happened == ["reject"]


@pytest.mark.parametrize("fault", [FatalError("no privilege"), RuntimeError("a fault of ours")])
async def test_any_other_fault_leaves_the_delivery_unsettled(fault: Exception) -> None:
    """It is raised to whoever reads the queue, and the broker delivers again."""
    happened: list[str] = []
    ledger = Ledger(happened, fault)

    with pytest.raises(type(fault)):
        await settle_together(delivery(BATCH, happened), ledger.write, until=NEVER)

    assert happened == []


async def test_what_cannot_be_kept_takes_no_other_event_of_a_slow_message_with_it() -> None:
    """The message goes on to the parked ones, and everything else that is in it is stored."""
    happened: list[str] = []
    ledger = Ledger(happened, PermanentError("the first one"))

    await settle_one_by_one(delivery(BATCH, happened), ledger.write, until=NEVER)

    assert happened == ["commit 1", "commit 1", "reject"]


async def test_every_healthy_event_of_a_slow_message_has_its_turn_although_one_ends_the_process() -> None:
    """Delivered as often as the broker does, each time up to the poison event, which stands at each place in turn."""
    stored: set[str] = set()

    async def write(events: Sequence[Envelope]) -> list[Recorded]:
        [only] = events
        if only.idempotency_key == "1":
            raise KilledError
        stored.add(only.idempotency_key)
        return []

    for attempt in range(20):
        with pytest.raises(KilledError):
            await settle_one_by_one(delivery(BATCH, [], redelivered=attempt > 0), write, until=NEVER)

    assert stored == {"2", "3"}


@pytest.mark.parametrize("settle", [settle_together, settle_one_by_one])
async def test_what_cannot_be_written_is_given_back_unsettled_when_it_is_not_to_be_held(settle: Any) -> None:  # noqa: ANN401 - either queue
    """The ledger is another one, or the process drains: the broker gives the delivery to whoever can store it."""
    happened: list[str] = []
    ledger = Ledger(happened, *[UnavailableError("of another version")] * 20)

    await settle(delivery(BATCH, happened), ledger.write, until=(ledger.is_late,))

    assert happened == []
    assert len(ledger.faults) == 15


async def test_what_the_ledger_refuses_is_held_and_keeps_no_other_of_a_slow_message_waiting() -> None:
    """Somebody's rule refuses one event: the others are stored, and the message is acked when it is stored too."""
    happened: list[str] = []
    refusals = 3

    async def write(events: Sequence[Envelope]) -> list[Recorded]:
        nonlocal refusals
        [only] = events
        if only.idempotency_key == "1" and refusals:
            refusals -= 1
            raise LedgerRefusesError("a trigger")
        happened.append(only.idempotency_key)
        return []

    await settle_one_by_one(delivery(BATCH, happened), write, until=NEVER)

    assert happened == ["2", "3", "1", "ack"]


async def test_an_outage_after_a_refusal_forgets_no_event_of_a_slow_message() -> None:
    happened: list[str] = []
    faults = [LedgerRefusesError("a trigger"), UnavailableError("away"), None, None, None]

    async def write(events: Sequence[Envelope]) -> list[Recorded]:
        if fault := faults.pop(0):
            raise fault
        happened.append(events[0].idempotency_key)
        return []

    await settle_one_by_one(delivery(BATCH, happened), write, until=NEVER)

    assert sorted(happened[:-1]) == ["1", "2", "3"]
    assert happened[-1] == "ack"
