"""Counters of the queue door: received = queued, unless a message had to be parked."""

from typing import Final

from prometheus_client import Counter

_CHANNEL: Final = "queue"

_RECEIVED: Final = Counter("etlpay_events_received", "Events that came to a door.", ["channel"])
_QUEUED: Final = Counter("etlpay_events_queued", "Events durable in the queue to the processor.", ["channel"])
_PARKED: Final = Counter("etlpay_messages_parked", "Messages set aside because no batch can hold them.", ["channel"])


def count_received(events: int) -> None:
    """Count the events of a message that was taken."""
    _RECEIVED.labels(_CHANNEL).inc(events)


def count_queued(events: int) -> None:
    """Count the events of a batch that the broker confirmed."""
    _QUEUED.labels(_CHANNEL).inc(events)


def count_parked() -> None:
    """Count a message that was set aside."""
    _PARKED.labels(_CHANNEL).inc()
