"""`etlpay audit` asks for as much of an hour at a time as the gateway can answer, and reports on the whole."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import msgspec
import pytest

from etlpay_cli.audit import audit, exit_code
from etlpay_cli.errors import UNAVAILABLE, StackError
from etlpay_cli.reconcile import Report

NUMBERS = (
    "received", "stored", "duplicate", "conflict", "refused", "queued", "unknown", "unlisted", "events", "success",
    "failed", "settled_duplicate", "settled_conflict", "unconfirmed",
)  # fmt: skip
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)
TOO_LARGE = httpx2.Response(503, json={"type": "/docs/problems#audit-too-large"})
BUSY = httpx2.Response(503, json={"type": "/docs/problems#overloaded"})


class Gateway:
    """Holds one event of each second, and answers so many of them at once."""

    def __init__(self, *, seconds_max: float = 3_600, refusals: list[httpx2.Response] | None = None) -> None:
        self._part_max = timedelta(seconds=seconds_max)
        self._refusals = refusals or []
        self.answered: list[timedelta] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        if self._refusals:
            return self._refusals.pop()
        hour, since, until = (datetime.fromisoformat(request.url.params[name]) for name in ("hour", "from", "to"))
        if until - since > self._part_max:
            return TOO_LARGE
        self.answered.append(until - since)
        seconds = int((until - hour).total_seconds()) - int((since - hour).total_seconds())
        line = self._line(stored=3_600 if since == hour else 0, events=seconds, success=seconds)
        page = {
            "hour": hour, "as_of": datetime.now(UTC), "items": [line], "next": None, "series": [], "overflowed": [],
            "queues": {}, "receipt_seconds": 10.0,
        }  # fmt: skip
        return httpx2.Response(200, content=msgspec.json.encode(page))

    @staticmethod
    def _line(**numbers: int) -> dict[str, Any]:
        zeros = dict.fromkeys(NUMBERS, 0)
        return {"source": "shop", "channel": "http", "moved_at": LONG_AGO} | zeros | numbers


async def ask(answer: Callable[[httpx2.Request], httpx2.Response]) -> Report:
    transport = httpx2.MockTransport(answer)
    async with httpx2.AsyncClient(transport=transport, base_url="http://gateway") as http, asyncio.timeout(20):
        return await audit(
            http,
            since=timedelta(hours=2),
            until=timedelta(hours=1),
            source=None,
            wait_seconds=0,
            progress=lambda _: None,
        )


async def test_an_hour_that_is_too_large_is_asked_for_in_parts() -> None:
    gateway = Gateway(seconds_max=300)

    report = await ask(gateway)

    assert exit_code(report) == 0
    assert {finding.line.events for finding in report.findings} == {3_600}
    # What was found out in the first hour is known in the next one.
    assert set(gateway.answered) == {timedelta(seconds=225)}
    assert len(gateway.answered) == len(report.findings) * 16


async def test_where_even_a_second_is_too_much_it_says_so() -> None:
    with pytest.raises(StackError, match="within a second") as raised:
        await ask(lambda _: TOO_LARGE)

    assert raised.value.exit_code == UNAVAILABLE


async def test_another_audit_that_runs_is_waited_for() -> None:
    gateway = Gateway(refusals=[BUSY, httpx2.Response(503, text="a proxy says so")])

    report = await ask(gateway)

    assert exit_code(report) == 0
