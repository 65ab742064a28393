"""Receipts: what an edge service has answered, by source, channel and hour. They are compared with what is stored."""

import uuid
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

import msgspec

from shared.contracts.event import Channel, now
from shared.contracts.result import ResultKind

KEYS_MAX: Final = 10_000
# A receipt that lists so many has 350 kB more.
UNCONFIRMED_MAX: Final = 10_000
# A process that has told nothing for so many intervals between receipts is late, or silent: its last words were lost,
# or it is dead. The seconds are for a publish that waits for its confirmation.
LATE_INTERVALS: Final = 2
SILENT_INTERVALS: Final = 3
SILENT_SECONDS: Final = 5
# Neither can be the name of a source.
UNREADABLE_SOURCE: Final = ""
OTHER_SOURCES: Final = "*"

_UNLISTED: Final = len(ResultKind) + 1  # the place after those of the kinds, of which the first is 1
_HOUR_SECONDS: Final = 3600
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Answered(msgspec.Struct, frozen=True, gc=False):
    """Events of one source that came in at one moment and were answered alike."""

    source: str
    received_at: datetime
    kind: ResultKind
    number: int = 1


class Unconfirmed(msgspec.Struct, frozen=True, gc=False):
    """An acceptance that was handed over and never confirmed: it may be in the ledger, and nobody was told so."""

    event_id: uuid.UUID
    received_at: datetime
    channel: Channel


class Count(msgspec.Struct, frozen=True, gc=False):
    """How many events of a source came in through a channel in an hour (UTC, since 1970), in the order of `ResultKind`.

    `unlisted`: how many of `unknown` may be in the ledger and are not listed as `Unconfirmed`.
    """

    source: str
    channel: Channel
    hour: int
    results: tuple[int, int, int, int, int, int]
    unlisted: int = 0

    def number(self, kind: ResultKind) -> int:
        """Return how many were answered so."""
        return self.results[kind - 1]


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far the receipts of a process, which began at `began_at`, have come, by its own clock.

    Every event that came in before `open_since` is counted in this receipt or in one before it. The next receipt
    follows `interval_seconds` after `taken_at`, unless this is the last one: `closing`.
    """

    channel: Channel
    began_at: datetime
    open_since: datetime
    taken_at: datetime
    interval_seconds: float
    closing: bool = False


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """What one process of an edge service has answered since its last receipt. `(instance, number)` names it for ever.

    `progress` is None where the code before wrote it.
    """

    service: str
    instance: uuid.UUID
    number: int
    counts: tuple[Count, ...]
    unconfirmed: tuple[Unconfirmed, ...] = ()
    progress: Progress | None = None


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
        """Take one more in hand."""
        self.number += 1

    def end(self) -> None:
        """Give it back: what is to be counted of it is counted."""
        self.number -= 1

    def __enter__(self) -> None:
        """Begin."""
        self.number += 1

    def __exit__(self, *_: object) -> None:
        """End."""
        self.number -= 1


class Tally:
    """Counts answers: in all, and by source, channel and hour until they are taken.

    Sources beyond its limit count together, and acceptances beyond theirs as `unlisted`, so it never grows beyond that.
    """

    def __init__(
        self, keys_max: int = KEYS_MAX, *, unconfirmed_max: int = UNCONFIRMED_MAX, began_at: datetime | None = None
    ) -> None:
        """Keep up to `keys_max` sources, channels and hours apart, and list up to `unconfirmed_max` acceptances."""
        self._keys_max = keys_max
        self._unconfirmed_max = unconfirmed_max
        self._numbers: dict[tuple[str, Channel, int], list[int]] = {}
        self._totals: dict[Channel, list[int]] = {}
        self._unconfirmed: list[Unconfirmed] = []
        self.in_hand = InHand(began_at or now())
        """Holds what begins now, until the next `take`."""
        self._older: list[InHand] = []

    def add(self, channel: Channel, answered: Iterable[Answered]) -> None:
        """Count answers."""
        totals = self._totals.setdefault(channel, [0] * (len(ResultKind) + 1))
        for each in answered:
            self._of(each.source, channel, hour_of(each.received_at))[each.kind] += each.number
            totals[each.kind] += each.number

    def add_unconfirmed(self, source: str, acceptance: Unconfirmed) -> None:
        """Count an acceptance as unknown, and list it: where it is in the ledger after all it is found by that."""
        self.add(acceptance.channel, (Answered(source, acceptance.received_at, ResultKind.UNKNOWN),))
        if len(self._unconfirmed) < self._unconfirmed_max:
            self._unconfirmed.append(acceptance)
        else:
            self._of(source, acceptance.channel, hour_of(acceptance.received_at))[_UNLISTED] += 1

    def totals(self) -> dict[Channel, tuple[int, ...]]:
        """Return all that was ever counted, by channel and in the order of `ResultKind`; taking leaves it as it is."""
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
            numbers = self._numbers.setdefault(key, [0] * (_UNLISTED + 1))
        return numbers


def _count(key: tuple[str, Channel, int], numbers: Sequence[int]) -> Count:
    _, stored, duplicate, conflict, refused, queued, unknown, unlisted = numbers
    return Count(*key, (stored, duplicate, conflict, refused, queued, unknown), unlisted)


def hour_of(moment: datetime) -> int:
    """Return the hour that an aware moment is in, counted from 1970-01-01T00Z."""
    return int(moment.timestamp()) // _HOUR_SECONDS


def start_of(hour: int) -> datetime:
    """Return when an hour begins, in UTC. Raises OverflowError beyond the year 9999."""
    return _EPOCH + timedelta(hours=hour)
