"""The rate of each caller, for as many callers as come."""

import time
from collections import OrderedDict
from typing import Final

from shared.auth.rate import Bucket, Clock

_CALLERS_MAX: Final = 10_000


class Rates:
    """A bucket for each caller. Where many come, those that have not come for longest are forgotten: they begin anew.

    >>> rates = Rates(5)
    >>> rates.spend("shop")
    """

    def __init__(self, rate: float, *, clock: Clock = time.monotonic, callers_max: int = _CALLERS_MAX) -> None:
        """`rate` in whatever is counted, a second; 0: no limit."""
        self._rate = rate
        self._clock = clock
        self._callers_max = callers_max
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    def spend(self, caller: str, number: int = 1) -> None:
        """Count `number` for a caller. Raises RateExceededError."""
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
