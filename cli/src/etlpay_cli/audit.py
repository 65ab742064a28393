"""`etlpay audit`: asks the gateway for the books hour by hour, and again until they are settled or the time is up."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import httpx2
import msgspec

from etlpay_cli.errors import ERROR, UNAVAILABLE, StackError
from etlpay_cli.judgement import Page, Verdict, judge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_HOUR: Final = timedelta(hours=1)
_PAGE_LINES: Final = 5_000
_PAUSE_SECONDS: Final = 1.0
# An hour is one query, which the gateway bounds itself.
_CALL_SECONDS_MAX: Final = 20.0

_read_page = msgspec.json.Decoder(Page).decode


class _UnavailableError(StackError):
    """Later it may."""


def connect_to(url: str, api_key: str) -> httpx2.AsyncClient:
    """Return a client of a gateway."""
    headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
    return httpx2.AsyncClient(base_url=url, timeout=_CALL_SECONDS_MAX, headers=headers)


async def audit(  # noqa: PLR0913 - what an operator can ask for
    http: httpx2.AsyncClient,
    *,
    since: timedelta,
    until: timedelta,
    source: str | None,
    wait_seconds: float,
    progress: Callable[[str], None],
) -> Verdict:
    """Return the verdict over the hours from `since` to `until` ago, once it is settled or `wait_seconds` have passed.

    What is missing is given that time to come, too: a processor may have it in hand, where no queue shows it. And so is
    a gateway that cannot answer now.

    Raises:
        StackError: the gateway cannot answer.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + wait_seconds
    while True:
        now = datetime.now(UTC)
        try:
            hours = hours_between(now - since, now - until)
            verdict = judge([page for hour in hours for page in await _pages(http, hour, source)])
        except _UnavailableError as error:
            if loop.time() >= deadline:
                raise
            progress(str(error))
        else:
            if loop.time() >= deadline or not (verdict.unsettled or verdict.wrong):
                return verdict
            progress(f"not settled yet: {'; '.join(verdict.unsettled) or 'something is missing, and may still come'}")
        await asyncio.sleep(_PAUSE_SECONDS)


def exit_code(verdict: Verdict) -> int:
    """Return 0 where everything balances, 1 where it does not, 5 where it is too early to tell."""
    if verdict.settled_wrong:
        return ERROR
    return UNAVAILABLE if verdict.unsettled or verdict.wrong else 0


def hours_between(first: datetime, last: datetime) -> Iterator[datetime]:
    """Yield the beginning of every hour that a stretch of time touches."""
    hour = first.replace(minute=0, second=0, microsecond=0)
    while hour <= last:
        yield hour
        hour += _HOUR


async def _pages(http: httpx2.AsyncClient, hour: datetime, source: str | None) -> list[Page]:
    """Return all pages of one hour."""
    query: dict[str, str | int] = {"hour": hour.isoformat(), "limit": _PAGE_LINES}
    if source is not None:
        query["source"] = source
    pages: list[Page] = []
    while True:
        page = await _page(http, query)
        pages.append(page)
        if page.next is None:
            return pages
        query["cursor"] = page.next


async def _page(http: httpx2.AsyncClient, query: dict[str, str | int]) -> Page:
    try:
        response = await http.get("/api/audit", params=query)
        if response.status_code == httpx2.codes.SERVICE_UNAVAILABLE:
            raise _UnavailableError("the gateway cannot answer now (503)", exit_code=UNAVAILABLE)
        if response.status_code != httpx2.codes.OK:
            raise StackError(f"GET /api/audit answered {response.status_code}", exit_code=UNAVAILABLE)
        return _read_page(response.content)
    except httpx2.TransportError as error:
        raise _UnavailableError(
            f"the gateway cannot be reached ({type(error).__name__})", exit_code=UNAVAILABLE
        ) from error
    except (httpx2.HTTPError, msgspec.DecodeError) as error:
        raise StackError(f"the gateway cannot answer ({type(error).__name__})", exit_code=UNAVAILABLE) from error
