"""What the books of the audit say: pure arithmetic over the lines that the gateway answers."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

OTHER_SOURCES: Final = "*"

# A receipt may have been taken just before an event was counted, and must then travel itself.
_RECEIPTS_TO_WAIT_FOR: Final = 2
_MUST_BE_EMPTY: Final = ("etlpay.ingest", "etlpay.ingest.slow", "etlpay.receipts")


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """A line of `GET /api/audit`."""

    source: str
    channel: str
    received: int
    stored: int
    duplicate: int
    conflict: int
    refused: int
    queued: int
    unknown: int
    events: int
    success: int
    failed: int
    settled_duplicate: int
    settled_conflict: int
    moved_at: datetime

    @property
    def acknowledged(self) -> int:
        """Events whose sender was told that they are safe."""
        return self.stored + self.queued

    @property
    def accounted(self) -> int:
        """Events that the ledger holds, or settled as the same as, or in conflict with, one that it holds."""
        return self.events + self.settled_duplicate + self.settled_conflict


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """An answer of `GET /api/audit`."""

    hour: datetime
    as_of: datetime
    items: list[Line]
    next: str | None
    queues: dict[str, int] | None
    receipt_seconds: float


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """A line with what it means. `surplus`: stored and never acknowledged, which is normal where a door was killed."""

    hour: datetime
    line: Line
    missing: int
    surplus: int
    without_record: int
    moving: bool

    @property
    def balanced(self) -> bool:
        """True where nothing that was acknowledged is missing, and every event has its record."""
        return not (self.missing or self.without_record)


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The findings of all hours, the queues, and why it is too early to tell, where it is."""

    findings: list[Finding]
    queues: dict[str, int] | None
    unsettled: list[str]

    @property
    def wrong(self) -> list[Finding]:
        """The lines that do not balance."""
        return [finding for finding in self.findings if not finding.balanced]

    @property
    def settled_wrong(self) -> list[Finding]:
        """Those of them that waiting will not change: they are quiet, and nothing is under way."""
        under_way = self.queues is None or any(self.queues.get(name, 0) for name in _MUST_BE_EMPTY)
        return [] if under_way else [finding for finding in self.wrong if not finding.moving]


def judge(pages: Sequence[Page]) -> Verdict:
    """Return what the books say."""
    findings = [finding for page in pages for finding in _find(page, _surplus_by_channel(pages, page.hour))]
    queues = _deepest(pages)
    unsettled = _waiting_in(queues)
    moving = sum(finding.moving for finding in findings)
    if moving:
        unsettled.append(f"{moving} lines moved within the time that receipts take")
    return Verdict(findings=findings, queues=queues, unsettled=unsettled)


def _find(page: Page, surplus: Mapping[str, int]) -> list[Finding]:
    quiet_since = page.as_of - timedelta(seconds=_RECEIPTS_TO_WAIT_FOR * page.receipt_seconds)
    return [
        Finding(
            hour=page.hour,
            line=line,
            missing=max(0, line.acknowledged - line.accounted - _owed(line, surplus)),
            surplus=max(0, line.accounted - line.acknowledged),
            without_record=line.events - line.success - line.failed,
            moving=line.moved_at > quiet_since,
        )
        for line in page.items
    ]


def _owed(line: Line, surplus: Mapping[str, int]) -> int:
    """Sources beyond a door's limit were counted together, and are stored under their own names."""
    return surplus[line.channel] if line.source == OTHER_SOURCES else 0


def _surplus_by_channel(pages: Sequence[Page], hour: datetime) -> Counter[str]:
    surplus: Counter[str] = Counter()
    for page in pages:
        if page.hour == hour:
            for line in page.items:
                surplus[line.channel] += max(0, line.accounted - line.acknowledged)
    return surplus


def _deepest(pages: Sequence[Page]) -> dict[str, int] | None:
    """Return the greatest depth that was seen of each queue; None where one answer had none."""
    deepest: dict[str, int] = {}
    for page in pages:
        if page.queues is None:
            return None
        for name, depth in page.queues.items():
            deepest[name] = max(depth, deepest.get(name, 0))
    return deepest


def _waiting_in(queues: Mapping[str, int] | None) -> list[str]:
    if queues is None:
        return ["RabbitMQ cannot be asked what is still on its way"]
    return [f"{queues[name]} messages wait in {name}" for name in _MUST_BE_EMPTY if queues.get(name)]
