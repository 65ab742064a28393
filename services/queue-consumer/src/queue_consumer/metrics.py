"""Counters of the queue door: received = queued, unless a message had to be parked."""

from typing import Final

from prometheus_client import Counter

from shared import counters

_CHANNEL: Final = "queue"

_PARKED: Final = Counter("etlpay_messages_parked", "Messages set aside because no batch can hold them.", ["channel"])


def count_received(events: int) -> None:
    """Count the events of a message that was taken."""
    counters.RECEIVED.labels(_CHANNEL).inc(events)


def count_queued(events: int) -> None:
    """Count the events of a batch that the broker confirmed."""
    counters.QUEUED.labels(_CHANNEL).inc(events)


def count_parked() -> None:
    """Count a message that was set aside."""
    _PARKED.labels(_CHANNEL).inc()
