"""What every door counts, in one place: received = stored + duplicate + conflict + refused + queued + unknown.

An event is counted when it is answered, with its arrival and its fate at once. The counters for Prometheus are by
channel alone, because labels are bounded; the tally beside them also tells sources and hours apart, for the receipts
that `etlpay audit` compares with the ledger. Both are what this process has counted.
"""

from collections.abc import Sequence
from datetime import datetime
from functools import cache
from typing import Final

from prometheus_client import Counter

from shared.contracts.event import Channel
from shared.contracts.receipt import Answered, Fate, Tally

RECEIVED: Final = Counter("etlpay_events_received", "Events that came to a door.", ["channel"])
STORED: Final = Counter("etlpay_events_stored", "Events answered as stored.", ["channel"])
DUPLICATE: Final = Counter("etlpay_events_duplicate", "Events answered as stored before.", ["channel"])
CONFLICT: Final = Counter("etlpay_events_conflict", "Events answered as conflicting.", ["channel"])
REFUSED: Final = Counter("etlpay_events_refused", "Events refused; nothing of them was stored.", ["channel"])
QUEUED: Final = Counter("etlpay_events_queued", "Events answered as accepted: durable in the queue.", ["channel"])
UNKNOWN: Final = Counter("etlpay_events_unknown", "Events not taken, or not confirmed in time.", ["channel"])

TALLY: Final = Tally()

_OF_FATE: Final = {
    Fate.STORED: STORED,
    Fate.DUPLICATE: DUPLICATE,
    Fate.CONFLICT: CONFLICT,
    Fate.REFUSED: REFUSED,
    Fate.QUEUED: QUEUED,
    Fate.UNKNOWN: UNKNOWN,
}


def count_answers(channel: Channel, answered: Sequence[Answered]) -> None:
    """Count the events of a batch."""
    TALLY.add(channel, answered)
    numbers: dict[Fate, int] = {}
    for answer in answered:
        numbers[answer.fate] = numbers.get(answer.fate, 0) + answer.number
    _of_channel(RECEIVED, channel).inc(sum(numbers.values()))
    for fate, number in numbers.items():
        _of_channel(_OF_FATE[fate], channel).inc(number)


@cache
def _of_channel(counter: Counter, channel: Channel) -> Counter:
    return counter.labels(channel.label)


def count_answer(channel: Channel, fate: Fate, *, source: str, received_at: datetime, number: int = 1) -> None:
    """Count events of one source that were answered alike."""
    if number:
        count_answers(channel, [Answered(source, received_at, fate, number)])
