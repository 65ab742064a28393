"""What every edge service counts, in one place: received = stored + duplicate + conflict + refused + queued + unknown.

An event is counted when it is answered, with its arrival and its result at once, and in the tally alone. The receipts
that `etlpay audit` compares with the ledger take from it by source and hour, and Prometheus reads its totals by channel
alone, because labels are bounded. Both are what this process has counted.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Final

from prometheus_client import REGISTRY
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from shared.contracts.event import Channel, Envelope
from shared.contracts.receipt import Answered, InHand, Tally, Unconfirmed
from shared.contracts.result import ResultKind

TALLY: Final = Tally()

_METRICS: Final = {
    ResultKind.STORED: ("etlpay_events_stored", "Events answered as stored."),
    ResultKind.DUPLICATE: ("etlpay_events_duplicate", "Events answered as stored before."),
    ResultKind.CONFLICT: ("etlpay_events_conflict", "Events answered as conflicting."),
    ResultKind.REFUSED: ("etlpay_events_refused", "Events refused; nothing of them was stored."),
    ResultKind.QUEUED: ("etlpay_events_queued", "Events answered as accepted: durable in the queue."),
    ResultKind.UNKNOWN: ("etlpay_events_unknown", "Events not taken, or not confirmed in time."),
}


class TotalsCollector(Collector):
    """Tells Prometheus the totals of a tally, by channel, when it asks."""

    def __init__(self, tally: Tally) -> None:
        """Nothing is copied before that."""
        self._tally = tally

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Yield one counter for all that came, and one for each kind of result."""
        totals = self._tally.totals()
        received = CounterMetricFamily(
            "etlpay_events_received", "Events that an edge service has answered.", labels=["channel"]
        )
        for channel, numbers in totals.items():
            received.add_metric([channel.label], sum(numbers))
        yield received
        for kind, (name, description) in _METRICS.items():
            counter = CounterMetricFamily(name, description, labels=["channel"])
            for channel, numbers in totals.items():
                counter.add_metric([channel.label], numbers[kind - 1])
            yield counter


REGISTRY.register(TotalsCollector(TALLY))


def count_answers(channel: Channel, answered: Sequence[Answered]) -> None:
    """Count the events of a batch."""
    TALLY.add(channel, answered)


def count_answer(channel: Channel, kind: ResultKind, *, source: str, received_at: datetime, number: int = 1) -> None:
    """Count events of one source that were answered alike."""
    if number:
        TALLY.add(channel, (Answered(source, received_at, kind, number),))


def count_unconfirmed(channel: Channel, events: Iterable[Envelope]) -> None:
    """Count events that were handed over and never confirmed; each is listed, so that the audit can look for it."""
    for event in events:
        TALLY.add_unconfirmed(event.source, Unconfirmed(event.event_id, event.received_at, channel))


def in_hand() -> InHand:
    """Return what to begin before an event gets its moment of arrival, and to end when it is counted.

    A receipt says since when something is in hand: what came in before that is counted.
    """
    return TALLY.in_hand
