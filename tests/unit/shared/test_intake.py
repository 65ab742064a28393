"""The intake answers every request once, in order, and has counted it by then."""

import asyncio
import weakref
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import pytest

from shared.auth.authenticator import Caller, Refusals
from shared.auth.rate import Bucket, RateExceededError
from shared.auth.scopes import EVERY_SOURCE, OutOfScopeError, Scope
from shared.contracts.errors import (
    InvalidEventError,
    OutcomeUnknownError,
    OverloadedError,
    Problem,
    RetryableError,
    UnavailableError,
)
from shared.contracts.event import Channel, Envelope, identify, now, stamp
from shared.contracts.receipt import UNREADABLE_SOURCE
from shared.contracts.result import QUEUED, ErrorResult, Recorded, RecordStatus, Result, ResultKind
from shared.counters import TALLY
from shared.intake import Intake
from support.keys import FakeClock

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
STORED = Recorded(kind=ResultKind.STORED, raw_event_id=1, record_id=1, status=RecordStatus.SUCCESS, processed_at=NOON)
NO_OBJECT = InvalidEventError([Problem("/payload", "must be a JSON object")], source="shop")


@pytest.fixture(autouse=True)
def _counted_from_here() -> Iterator[None]:
    TALLY.take(now())
    yield
    TALLY.take(now())


class FakeSubmitter:
    """Stores everything, and raises `fault` while it is set."""

    def __init__(self) -> None:
        self.batches: list[list[Envelope]] = []
        self.queued: list[Envelope] = []
        self.fault: RetryableError | None = None
        self.queue_fault: RetryableError | None = None
        self.answers = asyncio.Event()
        self.answers.set()

    async def submit(self, events: Sequence[Envelope]) -> list[Result]:
        self.batches.append(list(events))
        await self.answers.wait()
        if self.fault is not None:
            raise self.fault
        return [STORED for _ in events]

    def offer(self, events: Sequence[Envelope]) -> "asyncio.Future[list[Result]]":
        return asyncio.ensure_future(self.submit(events))

    async def enqueue(self, events: Sequence[Envelope]) -> list[Result]:
        if self.queue_fault is not None:
            raise self.queue_fault
        self.queued += events
        return [QUEUED for _ in events]


@pytest.fixture
def submitter() -> FakeSubmitter:
    return FakeSubmitter()


@pytest.fixture
def intake(submitter: FakeSubmitter) -> Intake:
    return Intake(submitter, Channel.GRPC, batch_events_max=3, batch_bytes_max=1_000_000)


def caller(*sources: str, rate: float = 0, clock: FakeClock | None = None) -> Caller:
    clock = clock or FakeClock()
    bucket = Bucket(rate, clock) if rate else None
    scope = Scope(sources) if sources else EVERY_SOURCE
    return Caller("shop", scope=scope, refusals=Refusals(clock), bucket=bucket)


def read(request: str, received_at: datetime) -> Envelope:
    """Return an event of the source that the request names; one that is empty is no event."""
    if not request:
        raise NO_OBJECT
    return Envelope(
        event_id=identify(request, ""), source=request, channel=Channel.GRPC, received_at=received_at, body=b"{}"
    )


def counted() -> tuple[Counter[tuple[str, str]], int]:
    """Return how many events of each source were answered how, and how many are listed."""
    taken = TALLY.take(now())
    results = {
        (count.source, kind.name): count.number(kind)
        for count in taken.counts
        for kind in ResultKind
        if count.number(kind)
    }
    return Counter(results), len(taken.unconfirmed)


async def test_refusals_stand_where_their_requests_did(intake: Intake, submitter: FakeSubmitter) -> None:
    answered = await intake.accept(["a", "", "b", "elsewhere", "c"], read, caller("a", "b", "c"))

    assert [event and event.source for event, _ in answered] == ["a", None, "b", None, "c"]
    stored, refused, _, foreign, _ = [result for _, result in answered]
    assert stored == STORED
    assert refused == ErrorResult(kind=ResultKind.REFUSED, error=NO_OBJECT)
    assert isinstance(foreign, ErrorResult)
    assert isinstance(foreign.error, OutOfScopeError)
    assert [[event.source for event in batch] for batch in submitter.batches] == [["a", "b", "c"]]
    stores = {(source, "STORED"): 1 for source in "abc"}
    assert counted() == ({**stores, ("shop", "REFUSED"): 1, ("elsewhere", "REFUSED"): 1}, 0)


async def test_what_names_no_source_is_counted_without_one(intake: Intake) -> None:
    def refuse(_: str, __: datetime) -> Envelope:
        raise InvalidEventError([Problem("", "must be JSON")])

    await intake.accept(["x"], refuse, caller())

    assert counted() == ({(UNREADABLE_SOURCE, "REFUSED"): 1}, 0)


async def test_requests_that_came_together_have_one_moment_and_a_step(intake: Intake, submitter: FakeSubmitter) -> None:
    before = now()

    await intake.accept(["a", "", "b"], read, caller())

    first, second = submitter.batches[0]
    assert before <= first.received_at <= now()
    assert second.received_at == stamp(first.received_at, 2)


async def test_nothing_is_read_beyond_the_rate(intake: Intake, submitter: FakeSubmitter) -> None:
    sender = caller(rate=1)
    await intake.accept(["a"] * 3, read, sender)
    counted()

    with pytest.raises(RateExceededError):
        await intake.accept(["a"], read, sender)

    assert len(submitter.batches) == 1
    assert counted() == ({}, 0)


async def test_a_part_of_a_stream_is_charged_and_not_refused(intake: Intake, submitter: FakeSubmitter) -> None:
    clock = FakeClock()
    sender = caller(rate=1, clock=clock)

    for _ in range(2):
        answered = await intake.accept_part(["a"] * 3, read, sender, hand_over=intake.submit, received_at=NOON)
        assert [result for _, result in answered] == [STORED] * 3

    assert [event.received_at for event in submitter.batches[1]] == [stamp(NOON, position) for position in range(3)]
    clock.now += 5
    with pytest.raises(RateExceededError):
        sender.check_rate()
    clock.now += 1
    sender.check_rate()


class Document:
    """A request that can be watched."""

    def __init__(self, source: str) -> None:
        self.source = source


@pytest.mark.parametrize("source", ["a", ""], ids=["event", "refused"])
async def test_a_request_of_a_part_is_let_go_before_its_answer(
    intake: Intake, submitter: FakeSubmitter, source: str
) -> None:
    """A group would otherwise be in memory twice, and a refusal would hold the frames that raised it."""
    watched = weakref.WeakSet[Document]()

    def documents() -> Iterator[Document]:
        for _ in range(2):
            watched.add(document := Document(source))
            yield document
            del document

    def read_document(document: Document, received_at: datetime) -> Envelope:
        return read(document.source, received_at)

    submitter.answers.clear()
    part = intake.accept_part(documents(), read_document, caller(), hand_over=intake.submit, received_at=NOON)

    assert not watched
    submitter.answers.set()
    assert len(await part) == 2


@pytest.mark.parametrize(
    ("fault", "listed"),
    [(OutcomeUnknownError("late"), 2), (UnavailableError("away"), 0), (OverloadedError("full"), 0)],
)
async def test_only_what_may_be_stored_is_listed(
    intake: Intake, submitter: FakeSubmitter, fault: RetryableError, listed: int
) -> None:
    submitter.fault = fault

    answered = await intake.accept(["a", "a"], read, caller())

    assert [result for _, result in answered] == [ErrorResult(kind=ResultKind.UNKNOWN, error=fault)] * 2
    assert counted() == ({("a", "UNKNOWN"): 2}, listed)


async def test_a_call_that_ends_early_lists_what_it_had_handed_over() -> None:
    """The batch before it is counted as stored, and the one after it was never handed over."""
    requests = [*"aaa", *"bbb", *"ccc"]

    class StopsAtB(FakeSubmitter):
        async def submit(self, events: Sequence[Envelope]) -> list[Result]:
            if events[0].source == "b":
                self.answers.clear()
            return await super().submit(events)

    stops = StopsAtB()
    intake = Intake(stops, Channel.GRPC, batch_events_max=3, batch_bytes_max=1_000_000)
    call = asyncio.ensure_future(intake.accept(requests, read, caller()))
    while len(stops.batches) < 2:  # noqa: ASYNC110 - there is no event for it
        await asyncio.sleep(0)
    call.cancel()
    await asyncio.wait([call])

    assert counted() == ({("a", "STORED"): 3, ("b", "UNKNOWN"): 3}, 3)
    assert TALLY.in_hand.number == 0


async def test_an_event_is_in_hand_until_it_is_counted(intake: Intake, submitter: FakeSubmitter) -> None:
    submitter.answers.clear()
    call = asyncio.ensure_future(intake.accept(["a"], read, caller()))
    await asyncio.sleep(0)

    TALLY.take(now())
    open_since = TALLY.take(now()).open_since
    submitter.answers.set()
    await call

    assert open_since <= submitter.batches[0][0].received_at
    later = now()
    assert TALLY.take(later).open_since == later


async def test_what_is_not_stored_within_the_wait_goes_to_the_queue_as_well(
    intake: Intake, submitter: FakeSubmitter
) -> None:
    submitter.answers.clear()

    def hand_over(events: Sequence[Envelope]) -> "asyncio.Future[list[Result]]":
        return asyncio.ensure_future(intake.submit_within(0, events))

    queued = await intake.accept(["a"], read, caller(), hand_over=hand_over)
    submitter.queue_fault = UnavailableError("away")
    unknown = await intake.accept(["b"], read, caller(), hand_over=hand_over)

    assert [result for _, result in queued] == [QUEUED]
    assert submitter.queued == submitter.batches[0]
    assert [result.kind for _, result in unknown] == [ResultKind.UNKNOWN]
    assert counted() == ({("a", "QUEUED"): 1, ("b", "UNKNOWN"): 1}, 1)


async def test_a_fault_of_ours_lists_the_events(intake: Intake) -> None:
    async def broken(_: Sequence[Envelope]) -> list[Result]:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await intake.accept(["a"], read, caller(), hand_over=broken)

    assert counted() == ({("a", "UNKNOWN"): 1}, 1)
