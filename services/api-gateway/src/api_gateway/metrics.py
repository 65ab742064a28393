"""What the HTTP door counts: received = stored + duplicate + conflict + refused + queued + unknown."""

from typing import Final

from api_gateway.views import Counts
from shared import counters
from shared.contracts.errors import EtlPayError, RetryableError
from shared.contracts.outcome import Accepted, Disposition, Outcome

_RECEIVED: Final = counters.RECEIVED.labels("http")
_STORED: Final = counters.STORED.labels("http")
_DUPLICATE: Final = counters.DUPLICATE.labels("http")
_CONFLICT: Final = counters.CONFLICT.labels("http")
_REFUSED: Final = counters.REFUSED.labels("http")
_QUEUED: Final = counters.QUEUED.labels("http")
_UNKNOWN: Final = counters.UNKNOWN.labels("http")
_OF_DISPOSITION: Final = {
    Disposition.STORED: _STORED,
    Disposition.DUPLICATE: _DUPLICATE,
    Disposition.CONFLICT: _CONFLICT,
}


def count_outcome(outcome: Outcome | Accepted) -> None:
    """Count an event that was answered with an outcome."""
    _RECEIVED.inc()
    (_QUEUED if isinstance(outcome, Accepted) else _OF_DISPOSITION[outcome.disposition]).inc()


def count_error(error: EtlPayError) -> None:
    """Count an event that was answered with an error."""
    _RECEIVED.inc()
    (_UNKNOWN if isinstance(error, RetryableError) else _REFUSED).inc()


def count_batch(counts: Counts) -> None:
    """Count the events of a batch."""
    _RECEIVED.inc(counts.received)
    _STORED.inc(counts.stored)
    _DUPLICATE.inc(counts.duplicate)
    _CONFLICT.inc(counts.conflict)
    _REFUSED.inc(counts.refused)
    _QUEUED.inc(counts.accepted)
    _UNKNOWN.inc(counts.unknown)
