"""Receipts: what an edge service has answered, by source, channel and hour. The audit compares them with the ledger."""

import uuid
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from shared.contracts.event import Channel
from shared.contracts.result import ResultKind

KEYS_MAX: Final = 10_000
# So many add 350 kB to a receipt.
UNCONFIRMED_MAX: Final = 10_000
# A process that has sent no receipt for so many intervals is late, or silent: it is dead, or a receipt is lost. The
# seconds are for a publish that waits for its confirmation.
LATE_INTERVALS: Final = 2
SILENT_INTERVALS: Final = 3
SILENT_SECONDS: Final = 5
# Neither can be the name of a source.
UNREADABLE_SOURCE: Final = ""
OTHER_SOURCES: Final = "*"

_HOUR_SECONDS: Final = 3600
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Unconfirmed(msgspec.Struct, frozen=True, gc=False):
    """An event that was handed over and never confirmed: it may be in the ledger, and its sender does not know."""

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
        """Return how many events were answered with this kind of result."""
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

    `progress` is None in a receipt of an older release.
    """

    service: str
    instance: uuid.UUID
    number: int
    counts: tuple[Count, ...]
    unconfirmed: tuple[Unconfirmed, ...] = ()
    progress: Progress | None = None


def hour_of(moment: datetime) -> int:
    """Return the hour that an aware moment is in, counted from 1970-01-01T00Z."""
    return int(moment.timestamp()) // _HOUR_SECONDS


def start_of(hour: int) -> datetime:
    """Return when an hour begins, in UTC. Raises OverflowError beyond the year 9999."""
    return _EPOCH + timedelta(hours=hour)
