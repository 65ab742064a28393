"""Asks the gateway for the audit hour by hour, and again until the lines are settled or the time is up."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import httpx2
import msgspec

from etlpay_cli.errors import ERROR, UNAVAILABLE, UNVOUCHED, StackError
from etlpay_cli.reconcile import Report, reconcile
from shared.contracts.audit import AuditPage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_HOUR: Final = timedelta(hours=1)
_PAGE_LINES: Final = 5_000
_PAUSE_SECONDS: Final = 1.0
# The gateway answers or refuses within two.
_CALL_SECONDS_MAX: Final = 20.0
# While somebody else's audit runs.
_BUSY_SECONDS_MAX: Final = 10.0
_PART_MIN: Final = timedelta(seconds=1)
_TOO_LARGE: Final = "#audit-too-large"

_read_page = msgspec.json.Decoder(AuditPage).decode


class _UnavailableError(StackError):
    """The gateway cannot answer now."""


class _TooLargeError(StackError):
    """An answer would take too long. One about a part of the time may not."""


class _Problem(msgspec.Struct):
    type: str = ""


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
    reconcile: Callable[[Sequence[AuditPage]], Report] = reconcile,
) -> Report:
    """Return the report of the hours from `since` to `until` ago, once it is settled or `wait_seconds` have passed.

    It also waits for missing events, since a processor may hold them while no queue shows them, and for a gateway that
    cannot answer now.

    Raises:
        StackError: the gateway cannot answer.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + wait_seconds
    lines = _AuditReader(http, source)
    while True:
        now = datetime.now(UTC)
        try:
            hours = hours_between(now - since, now - until)
            report = reconcile([page for hour in hours for page in await lines.pages(hour)])
        except _UnavailableError as error:
            if loop.time() >= deadline:
                raise
            progress(str(error))
        else:
            if loop.time() >= deadline or not (report.unsettled or report.wrong or report.may_clear):
                return report
            progress(f"not settled yet: {'; '.join(report.unsettled) or 'something is missing, and may still come'}")
        await asyncio.sleep(_PAUSE_SECONDS)


def exit_code(report: Report) -> int:
    """Return 0: it balances; 1: it does not; 5: it is too early to tell; 6: it cannot be vouched for."""
    if report.settled_wrong:
        return ERROR
    if report.unsettled or report.wrong:
        return UNAVAILABLE
    return 0 if report.vouched else UNVOUCHED


def hours_between(first: datetime, last: datetime) -> Iterator[datetime]:
    """Yield the beginning of every hour that a stretch of time touches."""
    hour = first.replace(minute=0, second=0, microsecond=0)
    while hour <= last:
        yield hour
        hour += _HOUR


class _AuditReader:
    """Asks for the pages of hours, in parts that are small enough for the gateway to answer."""

    def __init__(self, http: httpx2.AsyncClient, source: str | None) -> None:
        self._http = http
        self._source = source
        # A part that was too large in one hour is too large in the next one.
        self._part = _HOUR

    async def pages(self, hour: datetime) -> list[AuditPage]:
        """Return all pages of one hour. Raises StackError where the gateway cannot answer."""
        pages: list[AuditPage] = []
        since, end = hour, hour + _HOUR
        while since < end:
            until = min(since + self._part, end)
            try:
                pages += await self._pages_of_part(hour, since, until)
            except _TooLargeError:
                if self._part <= _PART_MIN:
                    raise
                self._part /= 2
            else:
                since = until
        return pages

    async def _pages_of_part(self, hour: datetime, since: datetime, until: datetime) -> list[AuditPage]:
        query: dict[str, str | int] = {
            "hour": hour.isoformat(), "from": since.isoformat(), "to": until.isoformat(), "limit": _PAGE_LINES,
        }  # fmt: skip
        if self._source is not None:
            query["source"] = self._source
        pages: list[AuditPage] = []
        while True:
            page = await _page_when_available(self._http, query)
            pages.append(page)
            if page.next is None:
                return pages
            query["cursor"] = page.next


async def _page_when_available(http: httpx2.AsyncClient, query: dict[str, str | int]) -> AuditPage:
    """Return a page; ask again for a while where the gateway cannot answer now, and not for the other pages as well."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _BUSY_SECONDS_MAX
    while True:
        try:
            return await _page(http, query)
        except _UnavailableError:
            if loop.time() >= deadline:
                raise
            await asyncio.sleep(_PAUSE_SECONDS)


async def _page(http: httpx2.AsyncClient, query: dict[str, str | int]) -> AuditPage:
    try:
        response = await http.get("/api/audit", params=query)
        if response.status_code == httpx2.codes.SERVICE_UNAVAILABLE:
            raise _refusal(response.content)
        if response.status_code != httpx2.codes.OK:
            raise StackError(f"GET /api/audit answered {response.status_code}", exit_code=UNAVAILABLE)
        return _read_page(response.content)
    except httpx2.TransportError as error:
        raise _UnavailableError(
            f"the gateway cannot be reached ({type(error).__name__})", exit_code=UNAVAILABLE
        ) from error
    except (httpx2.HTTPError, msgspec.DecodeError) as error:
        raise StackError(f"the gateway cannot answer ({type(error).__name__})", exit_code=UNAVAILABLE) from error


def _refusal(body: bytes) -> StackError:
    """Return why the gateway did not answer, by the type of its problem."""
    try:
        too_large = msgspec.json.decode(body, type=_Problem).type.endswith(_TOO_LARGE)
    except msgspec.DecodeError:
        too_large = False
    if too_large:
        return _TooLargeError("more events came in within a second than the gateway can count", exit_code=UNAVAILABLE)
    return _UnavailableError("the gateway cannot answer now (503)", exit_code=UNAVAILABLE)
