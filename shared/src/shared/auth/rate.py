"""Rates that hold on average, however large the requests are."""

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from shared.contracts.errors import EtlPayError

Clock = Callable[[], float]

_CALLERS_MAX: Final = 10_000


class RateExceededError(EtlPayError):
    """The caller has sent more than its rate allows. Nothing was taken."""

    def __init__(self, rate: float, retry_after_seconds: int) -> None:
        """`rate` in events a second; the caller may send again after `retry_after_seconds`."""
        super().__init__("too many events")
        self.rate = rate
        self.retry_after_seconds = retry_after_seconds


class Bucket:
    """A rate: `rate` events a second, and as many at once after a pause.

    One request may overdraw it, and later ones wait for that, so a batch larger than a second's worth is taken and
    the average holds all the same. Limiters in libraries take a request of N whole or never.
    """

    def __init__(self, rate: float, clock: Clock) -> None:
        """Begin full."""
        self.rate = rate
        self._clock = clock
        self._level = self._size = max(rate, 1.0)
        self._filled_at = clock()

    def spend(self, events: int) -> None:
        """Take `events`, unless it is overdrawn. Raises RateExceededError."""
        now = self._clock()
        self._level = min(self._size, self._level + (now - self._filled_at) * self.rate)
        self._filled_at = now
        if self._level <= 0:
            raise RateExceededError(self.rate, max(1, math.ceil(-self._level / self.rate)))
        self._level -= events

    def overdraw(self, events: int) -> None:
        """Take `events` also where that overdraws it."""
        self._level -= events


class Rates:
    """A bucket for each caller. Beyond the limit the caller that came longest ago is forgotten, and begins anew.

    >>> rates = Rates(5)
    >>> rates.spend("shop")
    """

    def __init__(self, rate: float, *, clock: Clock = time.monotonic, callers_max: int = _CALLERS_MAX) -> None:
        """`rate` per second; 0: no limit."""
        self._rate = rate
        self._clock = clock
        self._callers_max = callers_max
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    def spend(self, caller: str, number: int = 1) -> None:
        """Take `number` from the caller's bucket. Raises RateExceededError."""
        if not self._rate:
            return
        bucket = self._buckets.get(caller)
        if bucket is None:
            bucket = self._buckets[caller] = Bucket(self._rate, self._clock)
            if len(self._buckets) > self._callers_max:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(caller)
        bucket.spend(number)
