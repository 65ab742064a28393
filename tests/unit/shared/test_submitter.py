"""A waiting channel gets the outcome, or the queue's word, or the truth that it is not known."""

import asyncio
from contextlib import AbstractAsyncContextManager

import pytest

from shared.batching import BatcherLimits
from shared.contracts.errors import (
    OutcomeUnknownError,
    OverloadedError,
    PermanentError,
    RetryableError,
    UnavailableError,
)
from shared.contracts.result import QUEUED, Recorded, ResultKind
from shared.runtime.service import running
from shared.submit.submitter import Submitter
from shared.testing.processing import FakeProcessing
from shared.testing.publisher import FakePublisher
from support.events import event


def submitting(
    processing: FakeProcessing, publisher: FakePublisher, *, fallback_to_queue: bool = True
) -> AbstractAsyncContextManager[Submitter]:
    """Run a submitter between the fakes."""
    return running(Submitter(processing, publisher, limits=BatcherLimits(), fallback_to_queue=fallback_to_queue))


async def test_while_the_processor_answers_its_outcomes_are_the_answer() -> None:
    processing, publisher = FakeProcessing(), FakePublisher()
    sent = [event(key="1"), event(key="2"), event(key="1")]

    async with submitting(processing, publisher) as submitter:
        outcomes = await submitter.submit(sent)

    dispositions = [outcome.kind for outcome in outcomes if isinstance(outcome, Recorded)]
    assert dispositions == [ResultKind.STORED, ResultKind.STORED, ResultKind.DUPLICATE]
    assert publisher.messages == []


@pytest.mark.parametrize("away", [UnavailableError("x"), OverloadedError("x"), OutcomeUnknownError("x")])
async def test_without_the_processor_the_queue_takes_the_same_events(away: RetryableError) -> None:
    """With the ids given before: an event that travels over both transports is stored once."""
    processing, publisher = FakeProcessing(), FakePublisher()
    processing.away = away
    sent = [event(key="1"), event(key="2")]

    async with submitting(processing, publisher) as submitter:
        answers = await submitter.submit(sent)

    assert answers == [QUEUED, QUEUED]
    assert publisher.events == sent


@pytest.mark.parametrize("away", [UnavailableError("x"), OverloadedError("x"), OutcomeUnknownError("x")])
async def test_where_the_fallback_is_off_the_processors_word_is_told(away: RetryableError) -> None:
    processing, publisher = FakeProcessing(), FakePublisher()
    processing.away = away

    async with submitting(processing, publisher, fallback_to_queue=False) as submitter:
        with pytest.raises(type(away)):
            await submitter.submit([event()])

    assert publisher.messages == []


@pytest.mark.parametrize(
    ("processor", "queue", "error"),
    [
        (UnavailableError("x"), UnavailableError("x"), UnavailableError),
        (UnavailableError("x"), OutcomeUnknownError("x"), OutcomeUnknownError),
        (OverloadedError("x"), UnavailableError("x"), UnavailableError),
        (OverloadedError("x"), OutcomeUnknownError("x"), OutcomeUnknownError),
        (OutcomeUnknownError("x"), UnavailableError("x"), OutcomeUnknownError),
        (OutcomeUnknownError("x"), OverloadedError("x"), OutcomeUnknownError),
        (OutcomeUnknownError("x"), OutcomeUnknownError("x"), OutcomeUnknownError),
    ],
    ids=lambda word: getattr(word, "__name__", type(word).__name__),
)
async def test_what_may_have_been_stored_is_never_told_as_not_taken(
    processor: RetryableError, queue: RetryableError, error: type[RetryableError]
) -> None:
    processing, publisher = FakeProcessing(), FakePublisher()
    processing.away, publisher.fault = processor, queue

    async with submitting(processing, publisher) as submitter:
        with pytest.raises(RetryableError) as raised:
            await submitter.submit([event()])

    assert raised.type is error


async def test_a_lost_answer_and_the_queue_store_the_event_once() -> None:
    processing, publisher = FakeProcessing(), FakePublisher()
    processing.answer_lost = OutcomeUnknownError("x")
    sent = event(key="1")

    async with submitting(processing, publisher) as submitter:
        answers = await submitter.submit([sent])
    processing.answer_lost = None
    outcomes = await processing.process(publisher.events)

    assert answers == [QUEUED]
    assert [outcome.kind for outcome in outcomes] == [ResultKind.DUPLICATE]
    assert processing.events == [sent]


async def test_a_permanent_error_is_not_sent_another_way() -> None:
    class Refusing(FakeProcessing):
        async def process(self, events: object) -> list[Recorded]:
            raise PermanentError(f"{type(events).__name__} breaks the contract")

    publisher = FakePublisher()

    async with submitting(Refusing(), publisher) as submitter:
        with pytest.raises(PermanentError):
            await submitter.submit([event()])

    assert publisher.messages == []


async def test_who_does_not_wait_goes_to_the_queue_though_the_processor_is_there() -> None:
    processing, publisher = FakeProcessing(), FakePublisher()
    sent = [event(key="1"), event(key="2")]

    async with submitting(processing, publisher) as submitter:
        answers = await submitter.enqueue(sent)

    assert answers == [QUEUED, QUEUED]
    assert publisher.events == sent
    assert processing.events == []


async def test_callers_at_the_same_time_share_calls_and_get_their_own_answers() -> None:
    processing, publisher = FakeProcessing(), FakePublisher()
    sent = [event(key=str(number)) for number in range(50)]

    async with submitting(processing, publisher) as submitter:
        answers = await asyncio.gather(*(submitter.submit([each]) for each in sent))

    assert processing.events == sent
    assert [outcome.record_id for (outcome,) in answers if isinstance(outcome, Recorded)] == list(range(1, 51))
    calls_max = 5
    assert len(processing.batches) <= calls_max


async def test_after_closing_nothing_is_taken() -> None:
    processing, publisher = FakeProcessing(), FakePublisher()

    async with submitting(processing, publisher) as submitter:
        submitter.close()
        for submit in (submitter.submit, submitter.enqueue):
            with pytest.raises(UnavailableError):
                await submit([event()])
