"""Follows what EtlPay stores. It needs the extra `http`: `pip install './client[http]'`."""

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, Self
from uuid import UUID

import msgspec

from etlpay_client.errors import ApiUnavailableError
from etlpay_client.http import LOCAL_URL, SECONDS_MAX, HttpClient

_PAGE_RECORDS: Final = 500
_PAUSE_SECONDS_MIN: Final = 0.1
_PAUSE_SECONDS_MAX: Final = 5.0


class LedgerRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A record of an event, as `GET /api/feed` gives it.

    `status` is SUCCESS, FAILED or HELD; a HELD event gets another record later, with the next `attempt`. Numbers of
    `result_payload` with a fraction are Decimal. `position` leads on after this record.
    """

    id: int
    raw_event_id: int
    event_id: UUID
    source: str
    channel: str
    status: str
    attempt: int
    result_payload: dict[str, Any] | None
    errors: tuple[dict[str, Any], ...]
    idempotency_key: str | None
    type: str | None
    occurred_at: datetime | None
    received_at: datetime
    processed_at: datetime
    pipeline: str | None
    pipeline_version: int | None
    row_count: int | None
    cause: str | None
    position: str


class _Page(msgspec.Struct):
    items: list[LedgerRecord]
    next: str
    more: bool


_read_page = msgspec.json.Decoder(_Page, float_hook=Decimal).decode


class LedgerClient:
    """Reads the ledger over HTTP.

    ```python
    async with LedgerClient("https://gateway.example", api_key="etlp_...") as ledger:
        async for record in ledger.follow(after=position):
            await book(record)
            position = record.position  # keep it where the booking is kept
    ```
    """

    def __init__(self, url: str = LOCAL_URL, *, api_key: str | None = None, seconds_max: float = SECONDS_MAX) -> None:
        """Connect nowhere yet; the parameters are those of `etlpay_client.http.connection_options`."""
        self._http = HttpClient(url, api_key=api_key, seconds_max=seconds_max)

    async def follow(self, after: str | None = None, *, source: str | None = None) -> AsyncIterator[LedgerRecord]:
        """Yield every record after a position, without end; without a position, from the first one.

        Each comes once at least, in the order of the feed. It waits for new ones, and while the API is not available.

        Raises:
            ApiError: the API refuses it. With `problem == "restored"` the position is not of this ledger: begin anew.
        """
        pauses = _Pauses()
        while True:
            try:
                body = await self._http.get("/api/feed", {"after": after, "source": source, "limit": _PAGE_RECORDS})
            except ApiUnavailableError as error:
                await asyncio.sleep(max(error.retry_after_seconds or 0, pauses.next_seconds()))
                continue
            page = _read_page(body)
            for record in page.items:
                yield record
            after = page.next
            if page.items or page.more:
                pauses.reset()
            if not page.more:
                await asyncio.sleep(pauses.next_seconds())

    async def __aenter__(self) -> Self:
        """Return the client."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connections."""
        await self._http.close()


class _Pauses:
    """Random pauses that become longer while nothing is new."""

    def __init__(self) -> None:
        self._limit = _PAUSE_SECONDS_MIN

    def reset(self) -> None:
        """Begin with the shortest."""
        self._limit = _PAUSE_SECONDS_MIN

    def next_seconds(self) -> float:
        """Return how long to pause now."""
        limit, self._limit = self._limit, min(self._limit * 2, _PAUSE_SECONDS_MAX)
        return random.uniform(limit / 2, limit)  # noqa: S311 - jitter, not a secret
