"""Trying again: one back-off for everything that is repeated until it succeeds."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import structlog

from shared.contracts.errors import OutcomeUnknownError, RetryableError
from shared.runtime.waiting import wait_any

R = TypeVar("R")

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_FIRST_SECONDS: Final = 0.1
# Without the bound the factor would at some time be too large for a float, and end the process in a long outage.
_DOUBLINGS_MAX: Final = 10


class Backoff:
    """Pauses between attempts: random, with a limit that doubles from a tenth of a second up to `seconds_max`."""

    def __init__(self, *, seconds_max: float) -> None:
        """Begin with the shortest."""
        self._seconds_max = seconds_max
        self._attempt = 0

    def reset(self) -> None:
        """Begin with the shortest again."""
        self._attempt = 0

    def next_seconds(self) -> float:
        """Return how long to pause now."""
        limit = min(self._seconds_max, _FIRST_SECONDS * 2.0 ** min(self._attempt, _DOUBLINGS_MAX))
        self._attempt += 1
        return random.uniform(0, limit)  # noqa: S311 - jitter, not a secret


async def retry(call: Callable[[], Awaitable[R]], *until: asyncio.Event, pause_seconds_max: float) -> R:
    """Return what `call` returns; call it again, after a pause, as long as it raises RetryableError.

    When one of the events is set a pause ends, and one attempt more is made. At least one event is needed.

    Raises:
        OutcomeUnknownError: the last attempt failed, and one of the attempts may have succeeded.
        RetryableError: the last attempt failed, and none succeeded.
    """
    backoff = Backoff(seconds_max=pause_seconds_max)
    unknown: OutcomeUnknownError | None = None
    while True:
        try:
            return await call()
        except RetryableError as error:
            unknown = error if isinstance(error, OutcomeUnknownError) else unknown
            if any(event.is_set() for event in until):
                raise unknown or error from None
            log.debug("not done; trying again", error=type(error).__name__)
        await wait_any(*until, seconds_max=backoff.next_seconds())
