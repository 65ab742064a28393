"""What every edge service counts: received = stored + duplicate + conflict + refused + queued + unknown.

An event is counted once, when it is answered, and in the tally alone. The receipts that `etlpay audit` compares with
the ledger take its counts by source and hour. Prometheus reads its totals by channel only, because labels are bounded.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Final, NamedTuple

from prometheus_client import REGISTRY
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from shared.contracts.event import Channel, Envelope, now
from shared.contracts.receipt import KEYS_MAX, OTHER_SOURCES, UNCONFIRMED_MAX, Count, Unconfirmed, hour_of
from shared.contracts.result import ResultKind

_PLACES: Final = len(ResultKind) + 1  # the first kind is 1
_UNLISTED: Final = _PLACES


class Taken(NamedTuple):
    """What was counted since the last time; `open_since`: see `Progress`."""

    counts: tuple[Count, ...]
    unconfirmed: tuple[Unconfirmed, ...]
    open_since: datetime


class InHand:
    """What began in one interval and is not counted yet. Begin before events get their moment, end when counted."""

    __slots__ = ("began_at", "number")

    def __init__(self, began_at: datetime) -> None:
        """Begin with none."""
        self.began_at = began_at
        self.number = 0

    def begin(self) -> None:
        """Add one."""
        self.number += 1

    def end(self) -> None:
        """Remove it: what is to be counted of it is counted."""
        self.number -= 1

    def __enter__(self) -> None:
        """Begin."""
        self.number += 1

    def __exit__(self, *_: object) -> None:
        """End."""
        self.number -= 1


class Tally:
    """Counts results: in all, and by source, channel and hour until they are taken.

    It is bounded: sources beyond the limit count together, unconfirmed events beyond theirs as `unlisted`.
    """

    def __init__(
        self, keys_max: int = KEYS_MAX, *, unconfirmed_max: int = UNCONFIRMED_MAX, began_at: datetime | None = None
    ) -> None:
        """Keep up to `keys_max` sources, channels and hours apart, and list up to `unconfirmed_max` events."""
        self._keys_max = keys_max
        self._unconfirmed_max = unconfirmed_max
        self._numbers: dict[tuple[str, Channel, int], list[int]] = {}
        self._totals: dict[Channel, list[int]] = {}
        self._unconfirmed: list[Unconfirmed] = []
        self.in_hand = InHand(began_at or now())
        """Holds what begins now, until the next `take`."""
        self._older: list[InHand] = []

    def add(self, channel: Channel, kind: ResultKind, source: str, received_at: datetime, number: int = 1) -> None:
        """Count events of one source that came in at one moment and were answered alike."""
        self._of(source, channel, hour_of(received_at))[kind] += number
        totals = self._totals.get(channel)
        if totals is None:
            totals = self._totals[channel] = [0] * _PLACES
        totals[kind] += number

    def add_unconfirmed(self, source: str, event: Unconfirmed) -> None:
        """Count an event as unknown, and list it, so that the audit can look for it."""
        self.add(event.channel, ResultKind.UNKNOWN, source, event.received_at)
        if len(self._unconfirmed) < self._unconfirmed_max:
            self._unconfirmed.append(event)
        else:
            self._of(source, event.channel, hour_of(event.received_at))[_UNLISTED] += 1

    def totals(self) -> dict[Channel, tuple[int, ...]]:
        """Return all that was ever counted, by channel and in the order of `ResultKind`; `take` leaves it as it is."""
        return {channel: tuple(numbers[1:]) for channel, numbers in self._totals.items()}

    def take(self, at: datetime) -> Taken:
        """Return what was counted since the last time, and begin again; `at` is the present moment."""
        taken, self._numbers = self._numbers, {}
        unconfirmed, self._unconfirmed = self._unconfirmed, []
        # Of the intervals before this one only those stay in which something began that is not counted yet.
        self._older = [each for each in (*self._older, self.in_hand) if each.number]
        self.in_hand = InHand(at)
        open_since = self._older[0].began_at if self._older else at
        counts = (_count(key, numbers) for key, numbers in taken.items())
        return Taken(tuple(counts), tuple(unconfirmed), open_since)

    def _of(self, source: str, channel: Channel, hour: int) -> list[int]:
        key = (source, channel, hour)
        numbers = self._numbers.get(key)
        if numbers is None:
            if len(self._numbers) >= self._keys_max:
                key = (OTHER_SOURCES, channel, hour)
            numbers = self._numbers.setdefault(key, [0] * (_PLACES + 1))
        return numbers


def _count(key: tuple[str, Channel, int], numbers: Sequence[int]) -> Count:
    _, stored, duplicate, conflict, refused, queued, unknown, unlisted = numbers
    return Count(*key, (stored, duplicate, conflict, refused, queued, unknown), unlisted)


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
    """Reads the totals of a tally, by channel, when Prometheus asks."""

    def __init__(self, tally: Tally) -> None:
        """Nothing is copied before that."""
        self._tally = tally

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Yield one counter for all that came, and one for each kind of result."""
        totals = self._tally.totals()
        received = CounterMetricFamily("etlpay_events_received", "Events that came in.", labels=["channel"])
        for channel, numbers in totals.items():
            received.add_metric([channel.label], sum(numbers))
        yield received
        for kind, (name, description) in _METRICS.items():
            counter = CounterMetricFamily(name, description, labels=["channel"])
            for channel, numbers in totals.items():
                counter.add_metric([channel.label], numbers[kind - 1])
            yield counter


REGISTRY.register(TotalsCollector(TALLY))


def count(channel: Channel, kind: ResultKind, *, source: str, received_at: datetime, number: int = 1) -> None:
    """Count events of one source that came in at one moment and were answered alike."""
    if number:
        TALLY.add(channel, kind, source, received_at, number)


def count_unconfirmed(channel: Channel, events: Iterable[Envelope]) -> None:
    """Count events that were handed over and never confirmed; each is listed, so that the audit can look for it."""
    for event in events:
        TALLY.add_unconfirmed(event.source, Unconfirmed(event.event_id, event.received_at, channel))


def in_hand() -> InHand:
    """Return what to begin before an event gets its moment of arrival, and to end when it is counted.

    A receipt says since when something is in hand: what came in before that is counted.
    """
    return TALLY.in_hand
