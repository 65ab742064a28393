"""Slow and greedy clients, beside honest producers."""

import asyncio
import contextlib
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import asyncpg
import httpx2
import msgspec

from faults.harness.case import Case, Context
from faults.harness.deadlines import CLIENT_SECONDS_MAX
from faults.harness.memory import watched_memory
from faults.harness.unfair import KINDS
from faults.harness.world import HOST
from support.waiting import until_true

_TESTS: Final = Path(__file__).resolve().parents[2]
_PAUSE_SECONDS: Final = 1.0
_HELD_SECONDS: Final = 8.0
_HELD_SECONDS_MAX: Final = 60.0
_TAKEN_SECONDS_MAX: Final = 15.0
_LARGE: Final = 90
_LARGE_BYTES: Final = 1_000_000
_TINY_BATCHES: Final = 5
_LARGE_SECONDS_MAX: Final = 60.0
_COUNT_LARGE: Final = """
    SELECT count(*) FROM raw_events AS raw JOIN ingestion_sources AS source ON source.id = raw.source_id
    WHERE source.name = $1 AND octet_length(raw.body) > 1000
"""
_COUNT_CONFLICTS: Final = """
    SELECT count(*) FROM conflicts JOIN raw_events AS raw ON raw.id = conflicts.raw_event_id
    JOIN ingestion_sources AS source ON source.id = raw.source_id WHERE source.name = $1
"""


@contextlib.asynccontextmanager
async def _unfair(context: Context) -> AsyncIterator[set[str]]:
    """Let unfair clients call until the block ends; give the kinds of places that they hold, or held."""
    ports = context.world.ports
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "faults.harness.unfair", str(ports["http"]), str(ports["grpc"]),
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
    """Honest producers are served while unfair clients hold what they can, and memory stays flat."""
    async with watched_memory(context), _unfair(context) as held:
        is_held = await until_true(lambda: held == KINDS, _HELD_SECONDS_MAX)
        await asyncio.sleep(_HELD_SECONDS / 2)
        before = _taken(context)
        await asyncio.sleep(_HELD_SECONDS / 2)
        # No event is answered twice: what was taken before proves nothing.
        served = await until_true(
            lambda: all(count > before[channel] for channel, count in _taken(context).items()), _TAKEN_SECONDS_MAX
        )
    if not served:
        shut = [channel for channel, count in _taken(context).items() if count == before[channel]]
        context.problems.append(f"nothing was taken beside unfair clients over {' and '.join(shut)}")
    if not is_held:
        context.problems.append(f"never held: {' and '.join(sorted(KINDS - held))}")
    return is_held


def _taken(context: Context) -> dict[str, int]:
    """Return how many events were acknowledged over each channel."""
    journal = context.load.journal
    sources = Counter(sent.source for sent in journal.acknowledged())
    return {channel: sources[f"{journal.source}.{channel}"] for channel in sorted(context.load.channels)}


async def _large_firsts(context: Context) -> bool:
    """Tiny batches against ids whose first bodies are large: each is a conflict, and memory stays flat."""
    # Not one of the case's own sources, which the checks read again and again.
    source = f"{context.load.journal.source}-large"
    address = f"http://{HOST}:{context.world.ports['http']}"
    async with (
        httpx2.AsyncClient(base_url=address, timeout=CLIENT_SECONDS_MAX) as client,
        context.world.owner() as owner,
        watched_memory(context),
    ):
        for number in range(_LARGE):
            await _until_taken(client, "/api/ingest", "json", _document(source, number, "x" * _LARGE_BYTES))
        stored = await until_true(lambda: _has_all(owner, _COUNT_LARGE, source), _LARGE_SECONDS_MAX)
        for turn in range(_TINY_BATCHES):
            tiny = b"\n".join(_document(source, number, f"{turn}") for number in range(_LARGE))
            await _until_taken(client, "/api/ingest/batch", "x-ndjson", tiny)
        kept = await until_true(lambda: _has_all(owner, _COUNT_CONFLICTS, source, _TINY_BATCHES), _LARGE_SECONDS_MAX)
        if stored and not (kept and await _has_all(owner, _COUNT_LARGE, source)):
            context.problems.append("a large body is not the first any more, or a tiny one is no conflict")
    return stored


def _document(source: str, number: int, fill: str) -> bytes:
    return msgspec.json.encode({"source_name": source, "id": f"large-{number}", "payload": {"fill": fill}})


async def _until_taken(client: httpx2.AsyncClient, path: str, kind: str, body: bytes) -> None:
    """Send until it is stored or on its way; of a batch: until it was read. Raises TimeoutError."""
    headers = {"Content-Type": f"application/{kind}", "Prefer": "respond-async"}
    async with asyncio.timeout(_LARGE_SECONDS_MAX):
        while True:
            with contextlib.suppress(httpx2.TransportError):
                answer = await client.post(path, content=body, headers=headers)
                if answer.status_code in (200, 201, 202):
                    return
            await asyncio.sleep(_PAUSE_SECONDS / 4)


async def _has_all(owner: asyncpg.Connection, count: str, source: str, times: int = 1) -> bool:
    """Return whether there is as much of a source as was sent, `times` of each."""
    return bool(await owner.fetchval(count, source) == _LARGE * times)


CASES: Final = [
    Case("unfair clients beside honest producers", _unfair_clients),
    Case("tiny batches against large first bodies", _large_firsts),
]
