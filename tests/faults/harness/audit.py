"""The doors' books after a case: what they acknowledged is stored, by the judgement of `etlpay audit`."""

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from datetime import timedelta
from typing import Final
from uuid import UUID

import httpx2

from etlpay_cli.audit import audit, connect_to, exit_code
from etlpay_cli.errors import ERROR, UNVOUCHED, StackError
from etlpay_cli.judgement import Page, judge
from etlpay_cli.judgement import Verdict as Books
from faults.harness.checks import Sign, Verdict
from faults.harness.journal import Journal
from faults.harness.world import HOST, Place

# Two receipts, what makes a silent process count as dead, and some time.
_SETTLED_SECONDS_MAX: Final = 45.0
_AGAIN_SECONDS: Final = 1.0
_SINCE: Final = timedelta(hours=1)

Judge = Callable[[Sequence[Page]], Books]


async def balance(  # noqa: PLR0913 - what a case was, and what was before it
    world: Place, journal: Journal, verdict: Verdict, *, parked: int, killed: bool, dead: set[UUID]
) -> None:
    """Note what does not balance in the books of a case of which `parked` events ended among the parked.

    `killed`: a process that takes events in was killed, and only then may anything be not vouched for. `dead` are the
    processes that were killed before; those of this case are added.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _SETTLED_SECONDS_MAX
    while True:
        try:
            books = await _books(world, journal, judge)
        except StackError as error:
            verdict.fault(f"the books cannot be had: {error}")
            return
        doubts = [] if killed else unvouched(books, dead)
        # A process that was cut off may not have told yet.
        if not doubts or loop.time() > deadline:
            break
        await asyncio.sleep(_AGAIN_SECONDS)
    dead |= _instances(books)
    for problem in (*imbalance(books, stored=verdict.stored, parked=parked), *doubts):
        verdict.fault(problem)


async def confront(world: Place, journal: Journal, verdict: Verdict, *, judge: Judge, dead: set[UUID]) -> None:
    """Note what the books say, by this judgement, of a case in which acknowledged events were lost on purpose."""
    books = await _books(world, journal, judge)
    dead |= _instances(books)
    codes = {exit_code(book) for book in books}
    if verdict.lost and codes & {ERROR, UNVOUCHED}:
        verdict.fault(Sign.TOLD.value)
    if verdict.lost and codes == {0}:
        verdict.fault(Sign.UNTOLD.value)


async def _books(world: Place, journal: Journal, judge: Judge) -> list[Books]:
    sources = sorted({sent.source for sent in journal.events})
    async with connect_to(f"http://{HOST}:{world.ports['http']}", "") as http:
        return [await _audit(http, source, judge) for source in sources]


async def _audit(http: httpx2.AsyncClient, source: str, judge: Judge) -> Books:
    return await audit(
        http,
        since=_SINCE,
        until=timedelta(),
        source=source,
        wait_seconds=_SETTLED_SECONDS_MAX,
        progress=lambda _: None,
        judge=judge,
    )


def imbalance(books: list[Books], *, stored: int, parked: int) -> list[str]:
    """Return what is wrong with the books of a case's sources, of which the ledger holds `stored` events."""
    findings = [finding for book in books for finding in book.findings]
    missing = sum(finding.missing for finding in findings)
    without_record = sum(finding.without_record for finding in findings)
    events = sum(finding.line.events for finding in findings)
    checks = (
        (missing != parked, f"the books miss {missing} acknowledged events, and {parked} are parked"),
        (without_record > 0, f"the books have {without_record} events without a record"),
        (events != stored, f"the books have {events} events, and the ledger {stored}"),
    )
    unsettled = [f"the books do not settle: {reason}" for book in books for reason in book.unsettled]
    return unsettled + [problem for wrong, problem in checks if wrong]


def unvouched(books: list[Books], dead: Collection[UUID]) -> list[str]:
    """Return what the books do not vouch for, but for what is so because of processes that are known to be dead."""
    reasons: Counter[str] = Counter()
    for book in books:
        of_channels = {doubt.reason for doubt in book.doubts}
        reasons.update({doubt.reason for doubt in book.doubts if doubt.instance not in dead})
        for finding in book.findings:
            reasons.update(reason for reason in finding.doubts if reason not in of_channels)
    return [f"the books cannot be vouched for: {reason}" for reason in sorted(reasons)]


def _instances(books: list[Books]) -> set[UUID]:
    return {doubt.instance for book in books for doubt in book.doubts if doubt.instance is not None}
