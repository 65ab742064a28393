"""The answer of `GET /api/audit`: what was answered, beside what the ledger holds."""

from datetime import datetime
from uuid import UUID

import msgspec

from shared.contracts.event import ChannelName


class AuditLine(msgspec.Struct, frozen=True, kw_only=True):
    """The events of one source and one channel, as they were answered and as the ledger has them.

    received = stored + duplicate + conflict + refused + queued + unknown; events = success + failed + held. What was
    acknowledged, stored + queued, is accounted for by events + settled_duplicate + settled_conflict: what was queued
    and turned out to be stored before is settled as such. `unconfirmed` of those were acknowledged to nobody: they were
    handed over without a confirmation, and listed. `unlisted` events of `unknown` may be in the ledger and were not
    listed. `source` is empty where it could not be read, `*` for sources beyond what a process counts apart.
    """

    source: str
    channel: ChannelName
    received: int
    stored: int
    duplicate: int
    conflict: int
    refused: int
    queued: int
    unknown: int
    unlisted: int
    events: int
    success: int
    failed: int
    settled_duplicate: int
    settled_conflict: int
    unconfirmed: int
    moved_at: datetime
    held: int = 0

    @property
    def acknowledged(self) -> int:
        """Events that were answered as stored or queued."""
        return self.stored + self.queued

    @property
    def accounted(self) -> int:
        """Acknowledged events that the ledger holds, or settled as the same as, or in conflict with, one it holds.

        Events that a process listed as unconfirmed do not count.
        """
        return self.events + self.settled_duplicate + self.settled_conflict - self.unconfirmed


class AuditSeries(msgspec.Struct, frozen=True, kw_only=True):
    """A process of which not all may be counted that it answered between `since` and `until`.

    It has not ended in order, or `missing_receipts` of it are not here. A process that is alive is among these, and
    reports every `interval_seconds` what it has counted; `reported_at` is when it did so last.
    """

    service: str
    instance: UUID
    channel: ChannelName
    since: datetime
    until: datetime
    reported_at: datetime
    interval_seconds: float
    missing_receipts: int


class AuditPage(msgspec.Struct, frozen=True, kw_only=True):
    """The counts of one hour, or of a part of it; `next` is the cursor of the next page, null on the last.

    `series` are the processes whose counts may be incomplete, `overflowed` the channels in which more sources came than
    a process counts apart: both are of the whole hour.

    `queues` says how many messages wait in each queue between the services, null where RabbitMQ cannot be asked. Counts
    are reported every `receipt_seconds`.
    """

    hour: datetime
    as_of: datetime
    items: list[AuditLine]
    next: str | None
    series: list[AuditSeries]
    overflowed: list[ChannelName]
    queues: dict[str, int] | None = None
    receipt_seconds: float = 0
