"""Readers: what the API gateway answers to queries while things die behind it."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

import httpx2
import msgspec

from faults.harness.deadlines import CLIENT_SECONDS_MAX, timed
from faults.harness.journal import Answer
from faults.harness.world import HOST
from shared.contracts.event import identify

if TYPE_CHECKING:
    from faults.harness.load import Load

_PAUSE_SECONDS: Final = 0.25
_PROBLEM: Final = "application/problem+json"


class Reader:
    """Asks for events that were sent, and for the newest records, as long as producers send."""

    def __init__(self, load: "Load") -> None:
        self._load = load
        self._journal = load.journal
        # Its own generator: what the producers send must not depend on when a reader reads.
        self._random = random.Random(load.journal.source)  # noqa: S311 - a seeded test, not a secret

    async def run(self) -> None:
        """Return when there was enough, after one question of each kind at least."""
        address = f"http://{HOST}:{self._load.world.ports['http']}"
        async with (
            httpx2.AsyncClient(base_url=address, timeout=CLIENT_SECONDS_MAX) as client,
            asyncio.TaskGroup() as group,
        ):
            for ask in (self._ask_for_event, self._ask_for_records):
                group.create_task(self._repeat(client, ask))

    async def _repeat(self, client: httpx2.AsyncClient, ask: Callable[[httpx2.AsyncClient], Awaitable[None]]) -> None:
        while True:
            await ask(client)
            if self._load.enough.is_set():
                return
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _ask_for_event(self, client: httpx2.AsyncClient) -> None:
        events = self._journal.events[-100:]
        sent = self._random.choice(events) if events else None
        if sent is None or not sent.key:
            return
        stored = sent.first.answer is Answer.STORED
        answer = await self._get(client, f"/api/events/{identify(sent.source, sent.key)}")
        if answer is not None and answer.status_code == 404 and stored:
            self._journal.calls["unexpected answer: an event that was stored is not found"] += 1
        elif answer is not None and answer.status_code != 404:
            self._expect(answer, "event_id")

    async def _ask_for_records(self, client: httpx2.AsyncClient) -> None:
        answer = await self._get(client, "/api/processed-records?limit=5")
        if answer is not None:
            self._expect(answer, "items")

    async def _get(self, client: httpx2.AsyncClient, path: str) -> httpx2.Response | None:
        try:
            with timed(self._load.world, self._journal, "reading", seconds_max=self._load.reading_seconds_max):
                return await client.get(path)
        # The service has died, or its answer was too late, and that is noted.
        except httpx2.TransportError:
            return None

    def _expect(self, answer: httpx2.Response, member: str) -> None:
        """Note an answer that is neither the result nor a problem with a time to try again."""
        kind = answer.headers.get("content-type", "")
        later = answer.status_code == 503 and kind == _PROBLEM and "retry-after" in answer.headers
        found = answer.status_code == 200 and member in msgspec.json.decode(answer.content)
        if not later and not found:
            self._journal.calls[f"unexpected answer to a question: HTTP {answer.status_code} {kind}"] += 1
