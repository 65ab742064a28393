"""What fails for now is tried again, later each time, until it succeeds or somebody ends it."""

import asyncio

import pytest

from shared.contracts.errors import OutcomeUnknownError, OverloadedError, PermanentError, RetryableError
from shared.runtime import retry as module
from shared.runtime.retry import Backoff, retry


class Failing:
    """Fails with one error after the other, then succeeds."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.calls = asyncio.Semaphore(0)

    async def call(self) -> str:
        self.calls.release()
        if self.errors:
            raise self.errors.pop(0)
        return "done"


def test_the_first_pause_is_short() -> None:
    assert Backoff(seconds_max=5).next_seconds() <= 0.1


def test_the_pauses_grow_up_to_their_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A number of attempts that no float could hold must not end the process."""
    monkeypatch.setattr("random.uniform", lambda _, longest: longest)
    backoff = Backoff(seconds_max=5)

    first = [backoff.next_seconds() for _ in range(7)]
    last = [backoff.next_seconds() for _ in range(100_000)][-1]
    backoff.reset()

    assert first == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5])
    assert last == pytest.approx(5)
    assert backoff.next_seconds() == pytest.approx(0.1)


async def test_what_fails_for_now_is_tried_again_until_it_succeeds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FIRST_SECONDS", 0)
    failing = Failing(OverloadedError("full"), OutcomeUnknownError("late"))

    assert await retry(failing.call, asyncio.Event(), pause_seconds_max=5) == "done"


async def test_what_can_never_succeed_is_not_tried_again() -> None:
    failing = Failing(PermanentError("too large"))

    with pytest.raises(PermanentError):
        await retry(failing.call, asyncio.Event(), pause_seconds_max=5)


@pytest.mark.parametrize(
    ("errors", "raised"),
    [
        ([OverloadedError("full"), OverloadedError("full")], OverloadedError),
        ([OutcomeUnknownError("late"), OverloadedError("full")], OutcomeUnknownError),
    ],
    ids=["nothing was taken", "it may have been taken"],
)
async def test_an_end_cuts_the_pause_short_and_leaves_one_attempt_more(
    errors: list[Exception], raised: type[RetryableError], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("random.uniform", lambda *_: 60)
    failing, ending = Failing(*errors, PermanentError("asked too often")), asyncio.Event()
    trying = asyncio.ensure_future(retry(failing.call, asyncio.Event(), ending, pause_seconds_max=60))
    await failing.calls.acquire()

    ending.set()

    with pytest.raises(raised):
        await asyncio.wait_for(trying, timeout=5)
    assert len(failing.errors) == 1
