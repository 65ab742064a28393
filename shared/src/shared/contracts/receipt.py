"""Receipts: what a door has answered, by source, channel and hour, so that it can be compared with what is stored."""

import enum
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from shared.contracts.errors import RefusedError, RetryableError
from shared.contracts.event import Channel
from shared.contracts.outcome import Accepted, Disposition, Outcome

KEYS_MAX: Final = 10_000
# Neither can be the name of a source.
UNREADABLE_SOURCE: Final = ""
OTHER_SOURCES: Final = "*"

_HOUR_SECONDS: Final = 3600
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Fate(enum.IntEnum):
    """How a door answered an event; every received event has exactly one. The numbers are places in `Count.fates`."""

    STORED = 0
    DUPLICATE = 1
    CONFLICT = 2
    REFUSED = 3
    QUEUED = 4
    UNKNOWN = 5


_OF_DISPOSITION: Final = {
    Disposition.STORED: Fate.STORED,
    Disposition.DUPLICATE: Fate.DUPLICATE,
    Disposition.CONFLICT: Fate.CONFLICT,
}


def fate_of(answer: Outcome | Accepted | RefusedError | RetryableError) -> Fate:
    """Return how an event was answered."""
    match answer:
        case Outcome():
            return _OF_DISPOSITION[answer.disposition]
        case Accepted():
            return Fate.QUEUED
        case RefusedError():
            return Fate.REFUSED
        case _:
            return Fate.UNKNOWN


class Answered(msgspec.Struct, frozen=True, gc=False):
    """Events of one source that came in at one moment and were answered alike."""

    source: str
    received_at: datetime
    fate: Fate
    number: int = 1


class Count(msgspec.Struct, frozen=True, gc=False):
    """How many events of a source came in through a channel in an hour (UTC, since 1970), by `Fate`."""

    source: str
    channel: Channel
    hour: int
    fates: tuple[int, int, int, int, int, int]


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """What one process of a door has answered since its last receipt. `(instance, number)` names it for ever."""

    service: str
    instance: uuid.UUID
    number: int
    counts: tuple[Count, ...]


class Tally:
    """Counts answers: in all, and by source, channel and hour until they are taken.

    Sources beyond its limit count together, so it never grows beyond that.
    """

    def __init__(self, keys_max: int = KEYS_MAX) -> None:
        """Keep up to `keys_max` sources, channels and hours apart."""
        self._keys_max = keys_max
        self._fates: dict[tuple[str, Channel, int], list[int]] = {}
        self._totals: dict[Channel, list[int]] = {}

    def add(self, channel: Channel, answered: Iterable[Answered]) -> None:
        """Count answers."""
        totals = self._totals.setdefault(channel, [0] * len(Fate))
        for each in answered:
            self._of(each.source, channel, hour_of(each.received_at))[each.fate] += each.number
            totals[each.fate] += each.number

    def totals(self) -> dict[Channel, tuple[int, ...]]:
        """Return all that was ever counted, by channel and `Fate`; taking leaves it as it is."""
        return {channel: tuple(fates) for channel, fates in self._totals.items()}

    def take(self) -> tuple[Count, ...]:
        """Return what was counted since the last time, and begin again."""
        taken, self._fates = self._fates, {}
        return tuple(
            Count(source, channel, hour, (fates[0], fates[1], fates[2], fates[3], fates[4], fates[5]))
            for (source, channel, hour), fates in taken.items()
        )

    def _of(self, source: str, channel: Channel, hour: int) -> list[int]:
        key = (source, channel, hour)
        fates = self._fates.get(key)
        if fates is None:
            if len(self._fates) >= self._keys_max:
                key = (OTHER_SOURCES, channel, hour)
            fates = self._fates.setdefault(key, [0] * len(Fate))
        return fates


def hour_of(moment: datetime) -> int:
    """Return the hour that an aware moment is in, counted from 1970-01-01T00Z."""
    return int(moment.timestamp()) // _HOUR_SECONDS


def start_of(hour: int) -> datetime:
    """Return when an hour begins, in UTC. Raises OverflowError beyond the year 9999."""
    return _EPOCH + timedelta(hours=hour)
