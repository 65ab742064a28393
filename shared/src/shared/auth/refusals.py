"""What was refused, counted by reason and told now and then: who tries keys is seen, and cannot fill the log."""

from collections import Counter
from typing import Final, Literal, get_args

import prometheus_client
import structlog

from shared.auth.rate import Clock

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

Reason = Literal["missing", "unknown", "expired", "right", "source", "stale", "host", "origin"]

_TELL_SECONDS: Final = 10.0
_NAMES_MAX: Final = 10

_REFUSED: Final = prometheus_client.Counter(
    "etlpay_access_refused", "Requests, calls and events of batches refused for who sent them, by reason.", ["reason"]
)
_REFUSED_OF: Final = {reason: _REFUSED.labels(reason) for reason in get_args(Reason)}


class Refusals:
    """Counts refusals. A line of the log tells those of ten seconds together; no line and no label holds a key."""

    def __init__(self, clock: Clock) -> None:
        """Begin with none."""
        self._clock = clock
        self._untold: Counter[Reason] = Counter()
        self._names: set[str] = set()
        self._tell_again_at = clock()

    def count(self, reason: Reason, name: str = "") -> None:
        """Count one; `name` is that of the key, where it is known whose it is."""
        _REFUSED_OF[reason].inc()
        self._untold[reason] += 1
        if name and len(self._names) < _NAMES_MAX:
            self._names.add(name)
        self.tell()

    def tell(self) -> None:
        """Write what was not told yet to the log, unless something was told a moment ago."""
        now = self._clock()
        if not self._untold or now < self._tell_again_at:
            return
        log.warning("refused for who sent it", reasons=dict(self._untold), key_names=sorted(self._names))
        self._tell_again_at = now + _TELL_SECONDS
        self._untold.clear()
        self._names.clear()
