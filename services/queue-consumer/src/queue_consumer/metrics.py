"""Counters of the queue channel: received = queued + refused + unknown. A redelivery counts as received again."""

from collections import Counter as Numbers
from collections.abc import Sequence
from typing import Final

from prometheus_client import Counter

from shared.contracts.event import Channel, Envelope
from shared.contracts.receipt import hour_of
from shared.contracts.result import ResultKind
from shared.counters import count, count_unconfirmed

_PARKED: Final = Counter("etlpay_messages_parked", "Messages set aside because no batch can hold them.", ["channel"])


def count_queued(events: Sequence[Envelope]) -> None:
    """Count events that the broker confirmed."""
    _count(events, ResultKind.QUEUED)


def count_given_up(events: Sequence[Envelope], *, published: bool) -> None:
    """Count events that were not confirmed before the service ended; their message will be delivered again.

    `published`: the broker may hold them nevertheless.
    """
    if published:
        count_unconfirmed(Channel.QUEUE, events)
    else:
        _count(events, ResultKind.UNKNOWN)


def count_parked(events: Sequence[Envelope]) -> None:
    """Count a parked message, and those of its events that were not published."""
    _PARKED.labels(Channel.QUEUE.label).inc()
    _count(events, ResultKind.REFUSED)


def _count(events: Sequence[Envelope], kind: ResultKind) -> None:
    """Count events in their order of arrival. Those of one hour are counted by source at once."""
    if not events:
        return
    first, last = events[0].received_at, events[-1].received_at
    if hour_of(first) == hour_of(last):
        numbers = Numbers([event.source for event in events])
        for source, number in numbers.items():
            count(Channel.QUEUE, kind, source=source, received_at=first, number=number)
    else:
        for event in events:
            count(Channel.QUEUE, kind, source=event.source, received_at=event.received_at)
