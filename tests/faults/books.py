"""The doors' books after a case: what they acknowledged is stored, by the judgement of `etlpay audit`."""

import asyncio
from datetime import timedelta
from typing import Final

import httpx2

from etlpay_cli.audit import audit, connect_to
from etlpay_cli.errors import StackError
from etlpay_cli.judgement import Verdict as Books
from faults.checks import Verdict
from faults.journal import Journal
from faults.world import HOST, Place

# Two receipts of ten seconds, and some time.
_SETTLED_SECONDS_MAX: Final = 45.0
_SINCE: Final = timedelta(hours=1)


async def balance(world: Place, journal: Journal, verdict: Verdict, *, parked: int) -> None:
    """Note what does not balance in the books of a case of which `parked` events ended among the parked."""
    sources = sorted({sent.source for sent in journal.events})
    async with connect_to(f"http://{HOST}:{world.ports['http']}", "") as http:
        try:
            books = await asyncio.gather(*(_audit(http, source) for source in sources))
        except StackError as error:
            verdict.fault(f"the books cannot be had: {error}")
            return
    for problem in imbalance(books, stored=verdict.stored, parked=parked):
        verdict.fault(problem)


async def _audit(http: httpx2.AsyncClient, source: str) -> Books:
    return await audit(
        http,
        since=_SINCE,
        until=timedelta(),
        source=source,
        wait_seconds=_SETTLED_SECONDS_MAX,
        progress=lambda _: None,
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
