"""Compares what was acknowledged with what is stored: pure arithmetic over the lines of `GET /api/audit`.

Nothing is netted. Events that are stored, but in no receipt, may hide as many lost events. So may a process that was
killed before it sent its last receipt. Such a line is not vouched for, and never balanced.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final
from uuid import UUID

import msgspec

from shared.contracts.audit import AuditLine, AuditPage, AuditSeries
from shared.contracts.receipt import LATE_INTERVALS, SILENT_INTERVALS, SILENT_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

OTHER_SOURCES: Final = "*"

_MUST_BE_EMPTY: Final = ("etlpay.ingest", "etlpay.ingest.slow", "etlpay.receipts")
# A process that was frozen, or cut off, sends its receipts when it is back.
_GIVEN_UP_INTERVALS: Final = 12
_NOT_SUMMED: Final = ("source", "channel", "moved_at")


class Doubt(msgspec.Struct, frozen=True, kw_only=True):
    """Why no line of a channel is vouched for in an hour; `instance` is the process that is the reason, if one is."""

    hour: datetime
    channel: str
    reason: str
    instance: UUID | None = None


class Discrepancy(msgspec.Struct, frozen=True, kw_only=True):
    """A line, and by how much it does not balance. `missing`: at least so many. `surplus`: stored, but in no receipt.

    `doubts` say why the line cannot be vouched for: then events may be missing unseen.
    """

    hour: datetime
    line: AuditLine
    missing: int
    surplus: int
    without_record: int
    moving: bool
    doubts: list[str]

    @property
    def balanced(self) -> bool:
        """True where nothing that was acknowledged is seen to be missing, and every event has its record."""
        return not (self.missing or self.without_record)


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The lines of all hours, the doubts about whole channels, the queues, and why it is too early to tell."""

    findings: list[Discrepancy]
    doubts: list[Doubt]
    queues: dict[str, int] | None
    unsettled: list[str]
    may_clear: bool
    """Whether a process that is silent may still come back."""

    @property
    def wrong(self) -> list[Discrepancy]:
        """The lines that do not balance."""
        return [finding for finding in self.findings if not finding.balanced]

    @property
    def settled_wrong(self) -> list[Discrepancy]:
        """Those of them that waiting will not change: they are quiet, and nothing is under way."""
        under_way = self.queues is None or any(self.queues.get(name, 0) for name in _MUST_BE_EMPTY)
        return [] if under_way else [finding for finding in self.wrong if not finding.moving]

    @property
    def unvouched(self) -> list[Discrepancy]:
        """The lines that cannot be vouched for."""
        return [finding for finding in self.findings if finding.doubts]

    @property
    def vouched(self) -> bool:
        """True where nothing can be missing without being seen."""
        return not (self.doubts or self.unvouched)


def reconcile(pages: Sequence[AuditPage]) -> Report:
    """Return the report. Pages of one hour, or of parts of it, count together."""
    hours: dict[datetime, list[AuditPage]] = defaultdict(list)
    for page in pages:
        hours[page.hour].append(page)
    findings: list[Discrepancy] = []
    doubts: list[Doubt] = []
    late: dict[UUID, str] = {}
    for hour, of_hour in hours.items():
        of_this_hour = [*_overflows(hour, of_hour), *_silences(hour, of_hour, late)]
        doubts += of_this_hour
        findings += _find(hour, of_hour, of_this_hour)
    queues = _deepest(pages)
    unsettled = [*_waiting_in(queues), *late.values()]
    if moving := sum(finding.moving for finding in findings):
        unsettled.append(f"{moving} lines moved within the time that receipts take")
    return Report(
        findings=findings,
        doubts=doubts,
        queues=queues,
        unsettled=unsettled,
        may_clear=any(_may_come_back(page.as_of, series) for page in pages for series in page.series),
    )


def _find(hour: datetime, pages: Sequence[AuditPage], doubts: Sequence[Doubt]) -> list[Discrepancy]:
    quiet_since = min(page.as_of - timedelta(seconds=LATE_INTERVALS * page.receipt_seconds) for page in pages)
    lines = _summed(line for page in pages for line in page.items)
    surplus = _surplus_by_channel(lines)
    return [
        Discrepancy(
            hour=hour,
            line=line,
            missing=max(0, line.acknowledged - line.accounted - _owed(line, surplus)),
            surplus=max(0, line.accounted - line.acknowledged),
            without_record=line.events - line.success - line.failed - line.held,
            moving=line.moved_at > quiet_since,
            doubts=[*_doubts_of(line), *(doubt.reason for doubt in doubts if doubt.channel == line.channel)],
        )
        for line in lines
    ]


def _summed(lines: Iterable[AuditLine]) -> list[AuditLine]:
    """Return one line for each source and channel: the parts of an hour add up to it."""
    sums: dict[tuple[str, str], AuditLine] = {}
    for line in lines:
        key = (line.source, line.channel)
        sums[key] = _add(sums[key], line) if key in sums else line
    return list(sums.values())


def _add(first: AuditLine, second: AuditLine) -> AuditLine:
    numbers = {
        name: getattr(first, name) + getattr(second, name)
        for name in AuditLine.__struct_fields__
        if name not in _NOT_SUMMED
    }
    moved_at = max(first.moved_at, second.moved_at)
    return AuditLine(source=first.source, channel=first.channel, moved_at=moved_at, **numbers)


def _doubts_of(line: AuditLine) -> list[str]:
    """Return what casts doubt on this line alone."""
    doubts = []
    if (surplus := line.accounted - line.acknowledged) > 0:
        doubts.append(f"{surplus} more are stored than was acknowledged, which may hide as many that are missing")
    if line.unlisted:
        doubts.append(f"{line.unlisted} without a confirmation were counted and not listed")
    return doubts


def _owed(line: AuditLine, surplus: Mapping[str, int]) -> int:
    """Sources beyond a process's limit were counted together, and are stored under their own names.

    So this much of what is counted together may be there, and the rest is missing.
    """
    return surplus[line.channel] if line.source == OTHER_SOURCES else 0


def _surplus_by_channel(lines: Sequence[AuditLine]) -> Mapping[str, int]:
    surplus: dict[str, int] = defaultdict(int)
    for line in lines:
        surplus[line.channel] += max(0, line.accounted - line.acknowledged)
    return surplus


def _overflows(hour: datetime, pages: Sequence[AuditPage]) -> list[Doubt]:
    reason = "a process met more sources than it counts separately: which of them lack events is not known"
    channels = {channel for page in pages for channel in page.overflowed}
    return [Doubt(hour=hour, channel=channel, reason=reason) for channel in sorted(channels)]


def _silences(hour: datetime, pages: Sequence[AuditPage], late: dict[UUID, str]) -> list[Doubt]:
    """Return the doubts because of processes that sent no more receipts; add to `late` those that still may."""
    doubts: dict[tuple[UUID, bool], Doubt] = {}
    for page in pages:
        for series in page.series:
            if not series.missing_receipts and not _is_silent(page.as_of, series):
                if _is_late(page.as_of, series):
                    late[series.instance] = f"{series.service} ({series.instance}) is late with what it counted"
                continue
            doubts[series.instance, bool(series.missing_receipts)] = Doubt(
                hour=hour, channel=series.channel, reason=_reason(series), instance=series.instance
            )
    return list(doubts.values())


def _reason(series: AuditSeries) -> str:
    name = f"{series.service} ({series.instance})"
    if series.missing_receipts:
        return f"{series.missing_receipts} receipts of {name} are missing"
    return f"{name} ended without a receipt of what it had answered since {series.reported_at:%Y-%m-%d %H:%M:%S} UTC"


def _is_late(as_of: datetime, series: AuditSeries) -> bool:
    return as_of - series.reported_at > timedelta(seconds=LATE_INTERVALS * series.interval_seconds)


def _is_silent(as_of: datetime, series: AuditSeries) -> bool:
    seconds = SILENT_INTERVALS * series.interval_seconds + SILENT_SECONDS
    return as_of - series.reported_at > timedelta(seconds=seconds)


def _may_come_back(as_of: datetime, series: AuditSeries) -> bool:
    given_up = timedelta(seconds=_GIVEN_UP_INTERVALS * series.interval_seconds)
    return _is_silent(as_of, series) and as_of - series.reported_at < given_up


def _deepest(pages: Sequence[AuditPage]) -> dict[str, int] | None:
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
