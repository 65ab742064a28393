"""The audit after a case: `etlpay audit` finds every acknowledged event stored."""

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import httpx2

from etlpay_cli.audit import audit, connect_to, exit_code
from etlpay_cli.errors import ERROR, UNVOUCHED, StackError
from etlpay_cli.reconcile import Report, reconcile
from faults.harness.checks import Sign, Verdict
from faults.harness.journal import Journal
from faults.harness.world import HOST, Place
from shared.contracts.audit import AuditPage

# Two receipts, what makes a silent process count as dead, and some time.
_SETTLED_SECONDS_MAX: Final = 45.0
_AGAIN_SECONDS: Final = 1.0
_SINCE: Final = timedelta(hours=1)

Reconcile = Callable[[Sequence[AuditPage]], Report]


async def balance(  # noqa: PLR0913 - what a case was, and what was before it
    world: Place, journal: Journal, verdict: Verdict, *, parked: int, killed: bool, began_at: datetime, dead: set[UUID]
) -> None:
    """Note what does not balance in the audit of a case of which `parked` events were parked.

    `killed`: a process that takes events in was killed, and only then may anything be not vouched for. `dead` are the
    processes that were killed before; those of this case are added. A process that sent its last receipt before
    `began_at` was killed too: the audit had not missed it yet when its own case ended.
    """

    def reconcile_noting_dead(pages: Sequence[AuditPage]) -> Report:
        dead.update(series.instance for page in pages for series in page.series if series.reported_at < began_at)
        return reconcile(pages)

    loop = asyncio.get_running_loop()
    deadline = loop.time() + _SETTLED_SECONDS_MAX
    while True:
        try:
            reports = await _reports(world, journal, reconcile_noting_dead)
        except StackError as error:
            verdict.fault(f"the audit failed: {error}")
            return
        doubts = [] if killed else unvouched(reports, dead)
        # A process that was cut off may not have sent its receipt yet.
        if not doubts or loop.time() > deadline:
            break
        await asyncio.sleep(_AGAIN_SECONDS)
    dead |= _instances(reports)
    for problem in (*imbalance(reports, stored=verdict.stored, parked=parked), *doubts):
        verdict.fault(problem)


async def expect_report(
    world: Place, journal: Journal, verdict: Verdict, *, reconcile: Reconcile, dead: set[UUID]
) -> None:
    """Note whether the audit reports a loss that the case made on purpose."""
    reports = await _reports(world, journal, reconcile)
    dead |= _instances(reports)
    codes = {exit_code(report) for report in reports}
    if verdict.lost and codes & {ERROR, UNVOUCHED}:
        verdict.fault(Sign.REPORTED.value)
    if verdict.lost and codes == {0}:
        verdict.fault(Sign.UNREPORTED.value)


async def _reports(world: Place, journal: Journal, reconcile: Reconcile) -> list[Report]:
    sources = sorted({sent.source for sent in journal.events})
    async with connect_to(f"http://{HOST}:{world.ports['http']}", "") as http:
        return [await _audit(http, source, reconcile) for source in sources]


async def _audit(http: httpx2.AsyncClient, source: str, reconcile: Reconcile) -> Report:
    return await audit(
        http,
        since=_SINCE,
        until=timedelta(),
        source=source,
        wait_seconds=_SETTLED_SECONDS_MAX,
        progress=lambda _: None,
        reconcile=reconcile,
    )


def imbalance(reports: list[Report], *, stored: int, parked: int) -> list[str]:
    """Return what is wrong in the reports on a case's sources, of which the ledger holds `stored` events."""
    findings = [finding for report in reports for finding in report.findings]
    missing = sum(finding.missing for finding in findings)
    without_record = sum(finding.without_record for finding in findings)
    events = sum(finding.line.events for finding in findings)
    checks = (
        (missing != parked, f"the audit misses {missing} acknowledged events, and {parked} are parked"),
        (without_record > 0, f"the audit finds {without_record} events without a record"),
        (events != stored, f"the audit finds {events} events, and the ledger {stored}"),
    )
    unsettled = [f"the audit does not settle: {reason}" for report in reports for reason in report.unsettled]
    return unsettled + [problem for wrong, problem in checks if wrong]


def unvouched(reports: list[Report], dead: Collection[UUID]) -> list[str]:
    """Return what the reports do not vouch for, except because of processes that are known to be dead."""
    reasons: Counter[str] = Counter()
    for report in reports:
        of_channels = {doubt.reason for doubt in report.doubts}
        reasons.update({doubt.reason for doubt in report.doubts if doubt.instance not in dead})
        for finding in report.findings:
            reasons.update(reason for reason in finding.doubts if reason not in of_channels)
    return [f"the audit does not vouch for it: {reason}" for reason in sorted(reasons)]


def _instances(reports: list[Report]) -> set[UUID]:
    return {doubt.instance for report in reports for doubt in report.doubts if doubt.instance is not None}
