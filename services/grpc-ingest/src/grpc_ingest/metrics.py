"""Counters of the gRPC door: received = stored + duplicate + conflict + refused + queued + unknown."""

from collections.abc import Iterable
from typing import Final

from prometheus_client import Counter

from grpc_ingest.mapping import Answer
from shared.contracts.errors import RefusedError, RetryableError
from shared.contracts.outcome import Accepted, Disposition

_CHANNEL: Final = "grpc"

_RECEIVED: Final = Counter("etlpay_events_received", "Events that came to a door.", ["channel"])
_STORED: Final = Counter("etlpay_events_stored", "Events answered as stored.", ["channel"])
_DUPLICATE: Final = Counter("etlpay_events_duplicate", "Events answered as stored before.", ["channel"])
_CONFLICT: Final = Counter("etlpay_events_conflict", "Events answered as conflicting.", ["channel"])
_REFUSED: Final = Counter("etlpay_events_refused", "Events refused; nothing of them was stored.", ["channel"])
_QUEUED: Final = Counter("etlpay_events_queued", "Events answered as accepted: durable in the queue.", ["channel"])
_UNKNOWN: Final = Counter("etlpay_events_unknown", "Events not taken, or not confirmed in time.", ["channel"])

_OF_DISPOSITION: Final = {
    Disposition.STORED: _STORED,
    Disposition.DUPLICATE: _DUPLICATE,
    Disposition.CONFLICT: _CONFLICT,
}


def count(answers: Iterable[Answer]) -> None:
    """Count what became of the events of one call."""
    tally: dict[Counter, int] = {}
    for answer in answers:
        counter = _counter(answer)
        tally[counter] = tally.get(counter, 0) + 1
    _RECEIVED.labels(_CHANNEL).inc(sum(tally.values()))
    for counter, number in tally.items():
        counter.labels(_CHANNEL).inc(number)


def _counter(answer: Answer) -> Counter:
    match answer:
        case Accepted():
            return _QUEUED
        case RefusedError():
            return _REFUSED
        case RetryableError():
            return _UNKNOWN
        case _:
            return _OF_DISPOSITION[answer.disposition]
