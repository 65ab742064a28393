"""One request that is taken without a task: it is answered and counted as any other."""

import asyncio
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

import pytest

from shared.auth.authenticator import Caller, Refusals
from shared.auth.rate import Bucket, RateExceededError
from shared.auth.scopes import EVERY_SOURCE, Scope
from shared.contracts.errors import (
    InvalidEventError,
    OutcomeUnknownError,
    OverloadedError,
    Problem,
    UnavailableError,
)
from shared.contracts.event import Channel, Envelope, identify, now
from shared.contracts.result import ErrorResult, Recorded, RecordStatus, Result, ResultKind
from shared.counters import TALLY, Taken
from shared.intake import Intake
from support.keys import FakeClock

STORED = Recorded(
    kind=ResultKind.STORED, raw_event_id=1, record_id=1, status=RecordStatus.SUCCESS, processed_at=datetime.now(UTC)
)


class Outcomes:
    """Gives every event the same outcome: a result, an error of the future, or one before it."""

    def __init__(self, outcome: Result | BaseException, *, before: bool) -> None:
        self._outcome = outcome
        self._before = before
        self.opened = asyncio.Event()
        self.opened.set()

    async def submit(self, events: Sequence[Envelope]) -> list[Result]:
        await self.opened.wait()
        if isinstance(self._outcome, BaseException):
            raise self._outcome
        return [self._outcome for _ in events]

    enqueue = submit

    def offer(self, events: Sequence[Envelope]) -> "asyncio.Future[list[Result]]":
        if self._before and isinstance(self._outcome, BaseException):
            raise self._outcome
        return asyncio.ensure_future(self.submit(events))


@pytest.fixture(autouse=True)
def _counted_from_here() -> Iterator[None]:
    TALLY.take(now())
    yield
    TALLY.take(now())


def read(source: str, received_at: datetime) -> Envelope:
    if not source:
        raise InvalidEventError([Problem("/payload", "must be a JSON object")], source="shop")
    return Envelope(
        event_id=identify(source, "1"), source=source, channel=Channel.HTTP, received_at=received_at, body=b"{}"
    )


def caller(*sources: str, rate: float = 0) -> Caller:
    clock = FakeClock()
    scope = Scope(sources) if sources else EVERY_SOURCE
    return Caller("shop", scope=scope, refusals=Refusals(clock), bucket=Bucket(rate, clock) if rate else None)


def intake_of(outcomes: Outcomes) -> Intake:
    return Intake(outcomes, Channel.HTTP, batch_events_max=3, batch_bytes_max=1_000)


async def both_ways(
    outcome: Result | BaseException, request: str, who: Caller, *, before: bool = False
) -> tuple[tuple[object, Taken], tuple[object, Taken]]:
    """Return what a request is answered with, and what is counted, with a task and without one."""
    intake = intake_of(Outcomes(outcome, before=before))
    with_task: object
    try:
        [(_, with_task)] = await intake.accept([request], read, who)
    except Exception as error:  # noqa: BLE001 - the answer
        with_task = error
    counted = TALLY.take(now())
    answers: list[object] = []
    intake.accept_one(request, read, who, answer=lambda _, result: answers.append(result))
    for _ in range(5):
        await asyncio.sleep(0)
    [without_task] = answers
    return (with_task, counted), (without_task, TALLY.take(now()))


@pytest.mark.parametrize(
    ("outcome", "before"),
    [
        (STORED, False),
        (OverloadedError("full"), True),
        (OverloadedError("full"), False),
        (UnavailableError("away"), True),
        (UnavailableError("away"), False),
        (OutcomeUnknownError("late"), False),
        (RuntimeError("a fault"), False),
    ],
)
async def test_an_outcome_is_answered_and_counted_alike(outcome: Result | Exception, *, before: bool) -> None:
    (with_task, counted), (without_task, counted_too) = await both_ways(outcome, "a", caller(), before=before)

    assert without_task == with_task
    assert counted_too.counts == counted.counts
    assert [each.event_id for each in counted_too.unconfirmed] == [each.event_id for each in counted.unconfirmed]
    assert sum(sum(each.results) for each in counted_too.counts) == 1


@pytest.mark.parametrize(("request_", "sources"), [("", ()), ("elsewhere", ("a",))])
async def test_what_is_refused_is_answered_and_counted_alike(request_: str, sources: tuple[str, ...]) -> None:
    (with_task, counted), (without_task, counted_too) = await both_ways(STORED, request_, caller(*sources))

    assert isinstance(with_task, ErrorResult)
    assert isinstance(without_task, ErrorResult)
    assert type(without_task.error) is type(with_task.error)
    assert counted_too.counts == counted.counts


async def test_a_rate_that_is_used_up_takes_nothing() -> None:
    who = caller(rate=1)
    answers: list[object] = []
    intake = intake_of(Outcomes(STORED, before=False))
    intake.accept_one("a", read, who, answer=lambda _, result: answers.append(result))

    with pytest.raises(RateExceededError):
        intake.accept_one("a", read, who, answer=lambda _, result: answers.append(result))

    for _ in range(5):
        await asyncio.sleep(0)
    assert answers == [STORED]


async def test_an_event_is_in_hand_until_it_is_counted() -> None:
    """A receipt must not say that everything before it is counted while an event waits."""
    outcomes = Outcomes(STORED, before=False)
    outcomes.opened.clear()
    intake_of(outcomes).accept_one("a", read, caller(), answer=lambda *_: None)
    first = TALLY.take(now())

    open_since = TALLY.take(now() + timedelta(seconds=60)).open_since
    outcomes.opened.set()
    for _ in range(5):
        await asyncio.sleep(0)
    later = now() + timedelta(seconds=120)
    TALLY.take(later)

    assert open_since == first.open_since
    assert TALLY.take(later).open_since == later
