"""A TCP proxy that a test can cut, hold in one or both directions, and slow down."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Final

_CHUNK_BYTES: Final = 64 * 1024
_SLICE_BYTES: Final = 97


@dataclass
class Trap:
    """Cuts a connection when the answer to a certain request is on its way: the server did it, the client never knows.

    `passage` counts the requests that hold `pattern`.
    """

    pattern: bytes
    passage: int
    sprung: asyncio.Event = field(default_factory=asyncio.Event)

    def passes(self, chunk: bytes) -> bool:
        """Return True where this request is the one whose answer nobody will see."""
        if self.sprung.is_set() or self.pattern not in chunk:
            return False
        self.passage -= 1
        return self.passage == 0


@dataclass
class Touched:
    """What was done to the traffic of a proxy, counted where it is done: a fault that met none has tested nothing."""

    cut_connections: int = 0
    held_requests_bytes: int = 0
    held_answers_bytes: int = 0
    lost_requests_bytes: int = 0
    lost_answers_bytes: int = 0
    delayed_bytes: int = 0


class _Connection:
    """Both sides of one connection, and how much of what they say is held."""

    def __init__(self, near: asyncio.StreamWriter, far: asyncio.StreamWriter) -> None:
        self.near = near
        self.far = far
        self.trapped = False
        self.held_requests_bytes = 0
        self.held_answers_bytes = 0

    def abort(self) -> None:
        self.near.transport.abort()
        self.far.transport.abort()


class Proxy:
    """Forwards bytes both ways between clients and one server.

    Held bytes are not lost: they arrive after `heal`, if the connection still exists.
    """

    def __init__(self, host: str, port: int, *, from_host: str | None = None) -> None:
        """`host` and `port` are the server's; `from_host` is the address of this machine that it sees."""
        self._target = (host, port)
        self._local = (from_host, 0) if from_host else None
        self._connections: set[_Connection] = set()
        self._server: asyncio.Server | None = None
        self._requests_flow = asyncio.Event()
        self._answers_flow = asyncio.Event()
        self._accepting = True
        self._delay_seconds = 0.0
        self._slicing = False
        self.trap: Trap | None = None
        self.touched = Touched()
        self.port = 0
        self.heal()

    @contextlib.asynccontextmanager
    async def listen(self) -> AsyncIterator["Proxy"]:
        """Serve until the block ends."""
        await self.open()
        try:
            yield self
        finally:
            await self.close()

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._connections)

    async def open(self) -> None:
        """Listen on a free port of this machine."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """End everything."""
        self.heal()
        if self._server is not None:
            self._server.close()
        self._abort_all()

    def cut(self) -> None:
        """Reset every connection, and each new one at once."""
        self._accepting = False
        self._abort_all()

    def reset_connections(self) -> None:
        """Reset what is open; new connections work."""
        self._abort_all()

    def hold(self, *, requests: bool = True, answers: bool = True) -> None:
        """Let nothing through in these directions, and say nothing about it: a black hole."""
        if requests:
            self._requests_flow.clear()
        if answers:
            self._answers_flow.clear()

    def slow_down(self, delay_seconds: float, *, slicing: bool = False) -> None:
        """Delay every chunk, and cut chunks into small ones."""
        self._delay_seconds = delay_seconds
        self._slicing = slicing

    def heal(self) -> None:
        """Be whole again."""
        self._accepting = True
        self._delay_seconds = 0.0
        self._slicing = False
        self.trap = None
        self._requests_flow.set()
        self._answers_flow.set()

    def _abort_all(self) -> None:
        for connection in self._connections:
            if not connection.near.transport.is_closing():
                self.touched.cut_connections += 1
                self.touched.lost_requests_bytes += connection.held_requests_bytes
                self.touched.lost_answers_bytes += connection.held_answers_bytes
            connection.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._accepting:
            self.touched.cut_connections += 1
            writer.transport.abort()
            return
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._target, local_addr=self._local)
        except OSError:
            writer.transport.abort()
            return
        connection = _Connection(writer, far_writer)
        self._connections.add(connection)
        try:
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(self._pump_requests(reader, connection))
                pumps.create_task(self._pump_answers(far_reader, connection))
        finally:
            self._connections.discard(connection)
            connection.abort()

    async def _pump_requests(self, reader: asyncio.StreamReader, connection: _Connection) -> None:
        with contextlib.suppress(OSError):
            while chunk := await reader.read(_CHUNK_BYTES):
                if not self._requests_flow.is_set():
                    self.touched.held_requests_bytes += len(chunk)
                    connection.held_requests_bytes = len(chunk)
                    await self._requests_flow.wait()
                    connection.held_requests_bytes = 0
                connection.trapped = connection.trapped or (self.trap is not None and self.trap.passes(chunk))
                await self._forward(chunk, connection.far)
        await _end(connection.far)

    async def _pump_answers(self, reader: asyncio.StreamReader, connection: _Connection) -> None:
        with contextlib.suppress(OSError):
            while chunk := await reader.read(_CHUNK_BYTES):
                if not self._answers_flow.is_set():
                    self.touched.held_answers_bytes += len(chunk)
                    connection.held_answers_bytes = len(chunk)
                    await self._answers_flow.wait()
                    connection.held_answers_bytes = 0
                if connection.trapped and self.trap is not None:
                    self.trap.sprung.set()
                    connection.abort()
                    return
                await self._forward(chunk, connection.near)
        await _end(connection.near)

    async def _forward(self, chunk: bytes, writer: asyncio.StreamWriter) -> None:
        if self._delay_seconds:
            self.touched.delayed_bytes += len(chunk)
            await asyncio.sleep(self._delay_seconds)
        pieces = [chunk]
        if self._slicing and len(chunk) < 20 * _SLICE_BYTES:
            pieces = [chunk[start : start + _SLICE_BYTES] for start in range(0, len(chunk), _SLICE_BYTES)]
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            if len(pieces) > 1:
                await asyncio.sleep(0.001)


async def _end(writer: asyncio.StreamWriter) -> None:
    """Pass on that one side has said everything."""
    with contextlib.suppress(OSError, RuntimeError):
        if writer.can_write_eof() and not writer.transport.is_closing():
            writer.write_eof()
