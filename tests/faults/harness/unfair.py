"""Unfair clients: `python -m faults.harness.unfair HTTP_PORT GRPC_PORT` holds places at both until it is killed.

A process of its own, so that it takes nothing from the honest producers but what the services give it. It says the name
of each kind of place when a client holds the first one.
"""

import asyncio
import contextlib
import sys
from typing import Final, NamedTuple

import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from faults.harness.world import HOST
from support.proxy import Proxy

# As other machines do they call from an address of their own: behind one address only keys are distinguished.
_UNFAIR_HOST: Final = "127.0.0.2"
_PAUSE_SECONDS: Final = 1.0
# Some more than there may be, of all callers together.
_WATCHES: Final = 160


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
KINDS: Final = frozenset({_WATCHING, *(hold.kind for hold in _HOLDS)})


class _Held:
    """Says once of each kind that it is held: where one is not, nothing is in the way."""

    def __init__(self) -> None:
        self._kinds: set[str] = set()

    def note(self, kind: str) -> None:
        """Note that a client holds a place."""
        if kind not in self._kinds:
            self._kinds.add(kind)
            print(kind, flush=True)  # noqa: T201 - what whoever started this waits for


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
    """Return whether there is an answer or the end of the connection: the request can only be refused."""
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


async def _call(http_port: int, grpc_port: int) -> None:
    """Hold places for ever."""
    held, proxy = _Held(), Proxy(HOST, grpc_port, from_host=_UNFAIR_HOST)
    await proxy.open()
    async with asyncio.TaskGroup() as clients:
        for hold in _HOLDS:
            for _ in range(hold.clients):
                clients.create_task(_hold(http_port, hold, held))
        for _ in range(_WATCHES):
            clients.create_task(_watch(proxy.port, held))


if __name__ == "__main__":
    asyncio.run(_call(int(sys.argv[1]), int(sys.argv[2])))
