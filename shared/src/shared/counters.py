"""What every edge service counts: received = stored + duplicate + conflict + refused + queued + unknown.

An event is counted once, when it is answered, and in the tally alone. The receipts that `etlpay audit` compares with
the ledger take its counts by source and hour. Prometheus reads its totals by channel only, because labels are bounded.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from prometheus_client import REGISTRY
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from shared.contracts.event import Channel, Envelope, now
from shared.contracts.receipt import KEYS_MAX, OTHER_SOURCES, UNCONFIRMED_MAX, Count, Unconfirmed, hour_of, start_of
from shared.contracts.result import ResultKind

_PLACES: Final = len(ResultKind) + 1  # the first kind is 1
_UNLISTED: Final = _PLACES
_CHANNELS: Final = range(max(Channel) + 1)
_HOUR: Final = timedelta(hours=1)


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
        # By the number of the channel: to look an enumeration up in a dictionary takes longer than all else here.
        self._numbers: list[dict[tuple[str, int], list[int]]] = [{} for _ in _CHANNELS]
        self._totals = [[0] * _PLACES for _ in _CHANNELS]
        # The hour in which the last event came in: most come in the same.
        self._hour = 0
        self._hour_begins = self._hour_ends = datetime.min.replace(tzinfo=UTC)
        self._unconfirmed: list[Unconfirmed] = []
        self.in_hand = InHand(began_at or now())
        """Holds what begins now, until the next `take`."""
        self._older: list[InHand] = []

    def add(self, channel: Channel, kind: ResultKind, source: str, received_at: datetime, number: int = 1) -> None:
        """Count events of one source that came in at one moment and were answered alike."""
        self._of(source, channel, received_at)[kind] += number
        self._totals[channel][kind] += number

    def add_unconfirmed(self, source: str, event: Unconfirmed) -> None:
        """Count an event as unknown, and list it, so that the audit can look for it."""
        self.add(event.channel, ResultKind.UNKNOWN, source, event.received_at)
        if len(self._unconfirmed) < self._unconfirmed_max:
            self._unconfirmed.append(event)
        else:
            self._of(source, event.channel, event.received_at)[_UNLISTED] += 1

    def totals(self) -> dict[Channel, tuple[int, ...]]:
        """Return all that was ever counted, by channel and in the order of `ResultKind`; `take` leaves it as it is."""
        return {channel: tuple(numbers[1:]) for channel in Channel if any(numbers := self._totals[channel])}

    def take(self, at: datetime) -> Taken:
        """Return what was counted since the last time, and begin again; `at` is the present moment."""
        taken, self._numbers = self._numbers, [{} for _ in _CHANNELS]
        unconfirmed, self._unconfirmed = self._unconfirmed, []
        # Of the intervals before this one only those stay in which something began that is not counted yet.
        self._older = [each for each in (*self._older, self.in_hand) if each.number]
        self.in_hand = InHand(at)
        open_since = self._older[0].began_at if self._older else at
        counts = (
            _count(source, channel, hour, numbers)
            for channel in Channel
            for (source, hour), numbers in taken[channel].items()
        )
        return Taken(tuple(counts), tuple(unconfirmed), open_since)

    def _of(self, source: str, channel: Channel, received_at: datetime) -> list[int]:
        if not self._hour_begins <= received_at < self._hour_ends:
            self._hour = hour_of(received_at)
            self._hour_begins = start_of(self._hour)
            self._hour_ends = self._hour_begins + _HOUR
        key = (source, self._hour)
        of_channel = self._numbers[channel]
        numbers = of_channel.get(key)
        if numbers is None:
            if sum(map(len, self._numbers)) >= self._keys_max:
                key = (OTHER_SOURCES, self._hour)
            numbers = of_channel.setdefault(key, [0] * (_PLACES + 1))
        return numbers


def _count(source: str, channel: Channel, hour: int, numbers: Sequence[int]) -> Count:
    _, stored, duplicate, conflict, refused, queued, unknown, unlisted = numbers
    return Count(source, channel, hour, (stored, duplicate, conflict, refused, queued, unknown), unlisted)


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
