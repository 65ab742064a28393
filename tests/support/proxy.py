"""A TCP edge between a client and a server that a test can cut or freeze."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_CHUNK_BYTES = 64 * 1024


class Proxy:
    """Forwards bytes both ways while it is neither cut nor frozen."""

    def __init__(self, host: str, port: int) -> None:
        """`host` and `port` are the server's."""
        self._target = (host, port)
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._open = True
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0
        """Where clients connect, on 127.0.0.1."""

    def cut(self) -> None:
        """End every connection and accept none, as a server that died."""
        self._open = False
        for writer in self._writers:
            writer.transport.abort()

    def freeze(self) -> None:
        """Keep every connection and let nothing through, as a black hole on the way."""
        self._flowing.clear()

    def restore(self) -> None:
        """Accept and forward again; what was frozen goes on its way."""
        self._open = True
        self._flowing.set()

    @asynccontextmanager
    async def listen(self) -> AsyncIterator["Proxy"]:
        """Serve until the block ends."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            self.restore()
            self.cut()
            await server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._open:
            writer.transport.abort()
            return
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, far_writer}
        async with asyncio.TaskGroup() as group:
            group.create_task(self._pump(reader, far_writer))
            group.create_task(self._pump(far_reader, writer))
        self._writers -= {writer, far_writer}

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while chunk := await reader.read(_CHUNK_BYTES):
                await self._flowing.wait()
                writer.write(chunk)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.transport.abort() if not self._open else writer.close()
