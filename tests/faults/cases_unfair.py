"""Clients that take what they can get and give nothing back, beside producers who want to be served.

They call from an address of their own, as other machines do: behind one address only keys are told apart.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from typing import Final, NamedTuple

import grpc.aio
import httpx2
import msgspec
from grpc_health.v1 import health_pb2, health_pb2_grpc

from faults.case import Case, Context
from faults.edges import Edge
from faults.memory import watched_memory
from faults.waiting import until_true
from faults.world import HOST

_UNFAIR_HOST: Final = "127.0.0.2"
_PAUSE_SECONDS: Final = 1.0
_HELD_SECONDS: Final = 8.0
_TAKEN_SECONDS_MAX: Final = 15.0
# Some more than there may be of each, of all callers together.
_WATCHES: Final = 160
_LARGE: Final = 90
_LARGE_BYTES: Final = 1_000_000
_TINY_BATCHES: Final = 5
_LARGE_SECONDS_MAX: Final = 60.0


class _Hold(NamedTuple):
    """A request over HTTP that holds a place. `more` is said again and again; `reads`: it ends with its answer."""

    kind: str
    clients: int
    request: bytes
    more: bytes = b""
    reads: bool = True


_HOLDS: Final = (
    _Hold(
        "batches that drip",
        8,
        b"POST /api/ingest/batch HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n",
        more=b"1\r\n \r\n",
    ),
    _Hold(
        "bodies that never come",
        520,
        b"POST /api/ingest HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n",
    ),
    _Hold(
        "pages that nobody reads",
        40,
        b"GET /api/processed-records?limit=500 HTTP/1.1\r\nHost: x\r\n\r\n" * 50,
        more=b"\r\n",
        reads=False,
    ),
)
_WATCHING: Final = "health streams"


class _Held:
    """Which kinds of places are held, or were: where one was not, nothing was in the way."""

    def __init__(self) -> None:
        self._kinds: set[str] = set()

    def note(self, kind: str) -> None:
        """Note that a client holds a place."""
        self._kinds.add(kind)

    def has_all(self) -> bool:
        """Return True where each kind was held by some client at least."""
        return self._kinds == {_WATCHING, *(hold.kind for hold in _HOLDS)}


async def _hold(port: int, hold: _Hold, held: _Held) -> None:
    """Hold a place, and the next one as soon as it was taken away."""
    while True:
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection(HOST, port, local_addr=(_UNFAIR_HOST, 0), limit=1)
            try:
                writer.write(hold.request)
                while not (hold.reads and await _is_answered(reader)) and not writer.transport.is_closing():
                    writer.write(hold.more)
                    await asyncio.sleep(_PAUSE_SECONDS)
                    held.note(hold.kind)
            finally:
                writer.transport.abort()
        await asyncio.sleep(_PAUSE_SECONDS)


async def _is_answered(reader: asyncio.StreamReader) -> bool:
    """Tell whether there is an answer, or the end: nothing was asked that could have another than a refusal."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.1):
            await reader.read(1)
            return True
    return False


async def _watch(port: int, held: _Held) -> None:
    """Keep a stream of the health service open, and the next one as soon as it has ended."""
    # A connection for each: of one connection a server takes no more than a hundred calls.
    async with grpc.aio.insecure_channel(f"{HOST}:{port}", options=(("grpc.use_local_subchannel_pool", 1),)) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        while True:
            with contextlib.suppress(grpc.aio.AioRpcError):
                call = stub.Watch(health_pb2.HealthCheckRequest())
                if await call.read() is not grpc.aio.EOF:
                    held.note(_WATCHING)
                    await call.read()
            await asyncio.sleep(_PAUSE_SECONDS)


@contextlib.asynccontextmanager
async def _unfair(context: Context) -> AsyncIterator[_Held]:
    """Let unfair clients call until the block ends."""
    ports, held = context.world.ports, _Held()
    edge = Edge(HOST, ports["grpc"], from_host=_UNFAIR_HOST)
    await edge.open()
    clients = [_hold(ports["http"], hold, held) for hold in _HOLDS for _ in range(hold.clients)]
    clients += [_watch(edge.port, held) for _ in range(_WATCHES)]
    async with asyncio.TaskGroup() as group:
        calling = [group.create_task(client) for client in clients]
        try:
            yield held
        finally:
            for task in calling:
                task.cancel()
            await asyncio.wait(calling)
            await edge.close()


async def _unfair_clients(context: Context) -> bool:
    """Whatever unfair clients hold, honest producers are served meanwhile, and memory stays flat."""
    async with watched_memory(context), _unfair(context) as held:
        is_held = await until_true(held.has_all, _TAKEN_SECONDS_MAX)
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
        for number in range(_LARGE):
            await _until_stored(client, _document(source, number, "x" * _LARGE_BYTES))
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
