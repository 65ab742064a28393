"""Clients that take what they can get and give nothing back, beside producers who want to be served."""

import asyncio
import contextlib
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import httpx2
import msgspec

from faults.case import Case, Context
from faults.memory import watched_memory
from faults.unfair import KINDS
from faults.waiting import until_true
from faults.world import HOST

_TESTS: Final = Path(__file__).resolve().parents[1]
_PAUSE_SECONDS: Final = 1.0
_HELD_SECONDS: Final = 8.0
_TAKEN_SECONDS_MAX: Final = 15.0
_LARGE: Final = 90
_LARGE_AT_ONCE: Final = 5
_LARGE_BYTES: Final = 1_000_000
_TINY_BATCHES: Final = 5
_LARGE_SECONDS_MAX: Final = 60.0


@contextlib.asynccontextmanager
async def _unfair(context: Context) -> AsyncIterator[set[str]]:
    """Let unfair clients call until the block ends; give the kinds of places that they hold, or held."""
    ports = context.world.ports
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "faults.unfair", str(ports["http"]), str(ports["grpc"]),
        stdout=asyncio.subprocess.PIPE, cwd=_TESTS,
    )  # fmt: skip
    held: set[str] = set()

    async def listen() -> None:
        if process.stdout is not None:
            async for line in process.stdout:
                held.add(line.decode().strip())

    async with asyncio.TaskGroup() as group:
        group.create_task(listen())
        try:
            yield held
        finally:
            process.kill()
            await process.wait()


async def _unfair_clients(context: Context) -> bool:
    """Whatever unfair clients hold, honest producers are served meanwhile, and memory stays flat."""
    async with watched_memory(context), _unfair(context) as held:
        is_held = await until_true(lambda: held == KINDS, _TAKEN_SECONDS_MAX)
        await asyncio.sleep(_HELD_SECONDS / 2)
        before = _taken(context)
        await asyncio.sleep(_HELD_SECONDS / 2)
        # Nobody is told twice: what was taken before is no sign of anything.
        served = await until_true(
            lambda: all(count > before[channel] for channel, count in _taken(context).items()), _TAKEN_SECONDS_MAX
        )
    if not served:
        shut = [channel for channel, count in _taken(context).items() if count == before[channel]]
        context.problems.append(f"nothing was taken beside unfair clients over {' and '.join(shut)}")
    return is_held


def _taken(context: Context) -> dict[str, int]:
    """Return how many events were acknowledged over each channel."""
    journal = context.load.journal
    sources = Counter(sent.source for sent in journal.acknowledged())
    return {channel: sources[f"{journal.source}.{channel}"] for channel in sorted(context.load.channels)}


async def _large_firsts(context: Context) -> bool:
    """Tiny batches against ids whose first bodies are large: each is a conflict, and memory stays flat."""
    # Not one of the case's own sources: nobody wants to read all of it again and again.
    source = f"{context.load.journal.source}-large"
    address = f"http://{HOST}:{context.world.ports['http']}"
    async with (
        httpx2.AsyncClient(base_url=address, timeout=_LARGE_SECONDS_MAX) as client,
        watched_memory(context),
    ):
        for first in range(0, _LARGE, _LARGE_AT_ONCE):
            async with asyncio.TaskGroup() as group:
                for number in range(first, first + _LARGE_AT_ONCE):
                    group.create_task(_until_stored(client, _document(source, number, "x" * _LARGE_BYTES)))
        told: Counter[str] = Counter()
        for turn in range(_TINY_BATCHES):
            told += await _send_batch(client, [_document(source, number, f"{turn}") for number in range(_LARGE)])
    unexpected = {status for status in told if status not in ("CONFLICT", "ACCEPTED", "UNKNOWN")}
    if unexpected:
        context.problems.append(f"another content under ids that are taken is {' and '.join(sorted(unexpected))}")
    await _expect_firsts(context, source)
    return told["CONFLICT"] > 0


def _document(source: str, number: int, fill: str) -> bytes:
    return msgspec.json.encode({"source_name": source, "id": f"large-{number}", "payload": {"fill": fill}})


async def _until_stored(client: httpx2.AsyncClient, document: bytes) -> None:
    async with asyncio.timeout(_LARGE_SECONDS_MAX):
        while True:
            with contextlib.suppress(httpx2.TransportError):
                headers = {"Content-Type": "application/json"}
                answer = await client.post("/api/ingest", content=document, headers=headers)
                if answer.status_code in (200, 201):
                    return
            await asyncio.sleep(_PAUSE_SECONDS / 4)


async def _send_batch(client: httpx2.AsyncClient, documents: list[bytes]) -> Counter[str]:
    headers = {"Content-Type": "application/x-ndjson"}
    answer = await client.post("/api/ingest/batch", content=b"\n".join(documents), headers=headers)
    if answer.status_code != 200:
        return Counter()
    return Counter(result["status"] for result in msgspec.json.decode(answer.content)["results"])


async def _expect_firsts(context: Context, source: str) -> None:
    """Note where other than the first contents are stored."""
    async with context.world.owner() as owner:
        lengths = await owner.fetch(
            "SELECT octet_length(body) > $2 AS is_large, count(*) AS count FROM raw_events"
            " WHERE source_id = (SELECT id FROM ingestion_sources WHERE name = $1) GROUP BY 1",
            source,
            _LARGE_BYTES,
        )
    if [(row["is_large"], row["count"]) for row in lengths] != [(True, _LARGE)]:
        context.problems.append("not each of the large bodies is stored once")


CASES: Final = [
    Case("unfair clients beside honest producers", _unfair_clients),
    Case("tiny batches against large first bodies", _large_firsts),
]
