"""Sends events of an example to a running stack, in turn as HTTP batches and as files, and waits for their records."""

import asyncio
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import asyncpg
import httpx2
import msgspec

from benchmarks.system import System
from exact.totals import Example, Totals
from shared.contracts.result import RecordStatus
from support.stack import until

_PORTION_EVENTS: Final = 5_000
_REQUEST_SECONDS_MAX: Final = 60.0
# Of no events, and how many more are stored in a second at least.
_STORED_SECONDS_MAX: Final = 60.0
_EVENTS_A_SECOND: Final = 1_000
_PROBE_SECONDS: Final = 0.5
_COUNT: Final = """
    SELECT status, count(*) AS number FROM processed_records
    WHERE source_id = (SELECT id FROM ingestion_sources WHERE name = $1) GROUP BY 1
"""
_VERSION: Final = """
    SELECT pipeline_id FROM processed_records
    WHERE source_id = (SELECT id FROM ingestion_sources WHERE name = $1) ORDER BY processed_at DESC, id DESC LIMIT 1
"""


class Sender:
    """Sends events of examples to one stack."""

    def __init__(self, system: System, owner: asyncpg.Connection, http: httpx2.AsyncClient) -> None:
        """`owner` is a connection of the owner of the ledger."""
        self._stack = system.stack
        self._owner = owner
        self._http = http

    async def send(self, example: Example, events: int, *, seed: int) -> Totals:
        """Send about so many events; return what must be shown once it is stored, which it is then.

        Raises:
            RuntimeError: not every event became a SUCCESS.
        """
        await self._wait_until_it_runs(example)
        before = await self._counts(example)
        totals, sent = Totals(), 0
        for number, portion in enumerate(_portions(example, events, totals, seed)):
            sent += len(portion)
            if example.header or number % 2:
                await asyncio.to_thread(self._drop, example, f"portion-{seed}-{number}", portion)
            else:
                await self._post(example, f"{seed}-{number}", portion)

        async def added() -> dict[int, int]:
            counts = await self._counts(example)
            return {status: number - before.get(status, 0) for status, number in counts.items()}

        found = await until(
            added,
            lambda counts: sum(counts.values()) >= sent,
            seconds_max=_STORED_SECONDS_MAX + sent / _EVENTS_A_SECOND,
            pause_seconds=1,
        )
        if {status: number for status, number in found.items() if number} != {RecordStatus.SUCCESS: sent}:
            raise RuntimeError(f"{example.name}: {sent} events sent, records by status: {found}")
        return totals

    async def _wait_until_it_runs(self, example: Example) -> None:
        """Send events without content until one meets the pipeline. They make no row."""

        async def version() -> int | None:
            await self._http.post("/api/ingest", json={"source_name": example.source, "payload": {}})
            return await self._owner.fetchval(_VERSION, example.source)  # type: ignore[no-any-return] # of asyncpg

        if await until(version, lambda found: found is not None, pause_seconds=_PROBE_SECONDS) is None:
            raise RuntimeError(f"no pipeline takes events of {example.source}")

    async def _counts(self, example: Example) -> dict[int, int]:
        return {row["status"]: row["number"] for row in await self._owner.fetch(_COUNT, example.source)}

    async def _post(self, example: Example, name: str, portion: Sequence[bytes]) -> None:
        documents = [
            b'{"source_name":"%b","id":"%b-%d","payload":%b}' % (example.source.encode(), name.encode(), number, event)
            for number, event in enumerate(portion)
        ]
        answer = await self._http.post(
            "/api/ingest/batch",
            content=b"\n".join(documents),
            headers={"Content-Type": "application/x-ndjson"},
            timeout=_REQUEST_SECONDS_MAX,
        )
        results = msgspec.json.decode(answer.content)["results"] if answer.status_code == httpx2.codes.OK else []
        if [result["status"] for result in results] != ["SUCCESS"] * len(portion):
            raise RuntimeError(f"{example.name}: a batch was answered with {answer.status_code}")

    def _drop(self, example: Example, name: str, portion: Sequence[bytes]) -> None:
        lines = [example.header, *portion] if example.header else portion
        content = b"".join(line + b"\n" for line in lines)
        self._stack.drop(example.source, f"{name}.{'csv' if example.header else 'ndjson'}", content)


def _portions(example: Example, events: int, totals: Totals, seed: int) -> Iterator[list[bytes]]:
    """Yield the events in portions of whole objects."""
    chance = random.Random(seed)  # noqa: S311 - seeded events, no secret
    portion: list[bytes] = []
    left = events
    for number in range(example.objects_max):
        if left <= 0:
            break
        of_object = example.make(chance, number, totals)
        left -= len(of_object)
        portion += of_object
        if len(portion) >= _PORTION_EVENTS:
            yield portion
            portion = []
    if portion:
        yield portion


async def apply_examples(system: System, folder: Path) -> None:
    """Apply every example of a folder."""
    await asyncio.to_thread(system.stack.run_etlpay, "pipeline", "apply", str(folder), "--yes")
