"""Counters of the gRPC door: received = stored + duplicate + conflict + refused + queued + unknown."""

from collections.abc import Iterable
from typing import Final

from prometheus_client import Counter

from grpc_ingest.mapping import Answer
from shared import counters
from shared.contracts.errors import RefusedError, RetryableError
from shared.contracts.outcome import Accepted, Disposition

_CHANNEL: Final = "grpc"


_OF_DISPOSITION: Final = {
    Disposition.STORED: counters.STORED,
    Disposition.DUPLICATE: counters.DUPLICATE,
    Disposition.CONFLICT: counters.CONFLICT,
}


def count(answers: Iterable[Answer]) -> None:
    """Count what became of the events of one call."""
    tally: dict[Counter, int] = {}
    for answer in answers:
        counter = _counter(answer)
        tally[counter] = tally.get(counter, 0) + 1
    counters.RECEIVED.labels(_CHANNEL).inc(sum(tally.values()))
    for counter, number in tally.items():
        counter.labels(_CHANNEL).inc(number)


def _counter(answer: Answer) -> Counter:
    match answer:
        case Accepted():
            return counters.QUEUED
        case RefusedError():
            return counters.REFUSED
        case RetryableError():
            return counters.UNKNOWN
        case _:
            return _OF_DISPOSITION[answer.disposition]
