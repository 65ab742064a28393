"""A gateway's HTTP protocol without a socket: what is sent to it, and what it writes."""

import asyncio
from collections.abc import Iterable

import httptools
import httpx2
import uvicorn
from uvicorn.server import ServerState

from api_gateway.app import Gateway
from api_gateway.http.protocol import BoundedProtocol
from api_gateway.service import server_config
from api_gateway.settings import GatewaySettings

_TURNS = 60
_PAUSES_MAX = 50


class Connection(asyncio.Transport):
    """A client's connection that notes what is written to it. While it is `full` the client reads nothing."""

    def __init__(self, protocol: BoundedProtocol) -> None:
        super().__init__({"peername": ("127.0.0.1", 40_000), "sockname": ("127.0.0.1", 8_000)})
        self._protocol = protocol
        self.written = b""
        self.segments = 0
        self.closed = False
        self.full = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.segments += 1
        self.written += data

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self.write(b"".join(list_of_data))

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = close

    def can_write_eof(self) -> bool:
        return False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """All is written at once."""

    def get_write_buffer_size(self) -> int:
        return int(self.full)

    def pause_reading(self) -> None:
        """What the tests send is read."""

    def resume_reading(self) -> None:
        """As above."""


class Talk:
    """A connection to a gateway."""

    def __init__(self, app: Gateway, settings: GatewaySettings, *, whole: bool = True) -> None:
        """Without `whole` every request takes the ASGI way."""
        config = server_config(app, settings)
        config.load()
        chosen = config.http_protocol_class
        assert isinstance(chosen, type)
        protocol_class = chosen if whole else chosen.__mro__[2]
        self.state = ServerState()
        self.state.default_headers = [(b"date", b"today")]
        self.protocol = _made(protocol_class, config, self.state)
        self.connection = Connection(self.protocol)
        self.protocol.connection_made(self.connection)

    async def send(self, *pieces: bytes) -> bytes:
        """Send bytes piece by piece; return what was written until nothing more happens."""
        before = len(self.connection.written)
        for piece in pieces:
            if not self.connection.closed:
                self.protocol.data_received(piece)
            await turns()
            await self._answered()
        return self.connection.written[before:]

    async def _answered(self) -> None:
        """Wait for what runs in a thread: the framework's answers. A request that is not complete is not waited for."""
        for _ in range(_PAUSES_MAX):
            cycle = self.protocol.cycle
            if cycle is None or cycle.response_complete or cycle.more_body or self.connection.closed:
                break
            await asyncio.sleep(0.001)


def _made(protocol_class: type, config: uvicorn.Config, state: ServerState) -> BoundedProtocol:
    made: BoundedProtocol = protocol_class(config=config, server_state=state, app_state={})
    return made


async def turns(number: int = _TURNS) -> None:
    """Let the loop turn, so that everything that needs no time happens."""
    for _ in range(number):
        await asyncio.sleep(0)


class _Response:
    """Reads one response."""

    def __init__(self) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = b""
        self.parser = httptools.HttpResponseParser(self)

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))

    def on_body(self, body: bytes) -> None:
        self.body += body


def transport_of(app: Gateway, settings: GatewaySettings) -> httpx2.AsyncBaseTransport:
    """Return what sends each request of a client as a whole, over a connection of its own."""

    async def answer(request: httpx2.Request) -> httpx2.Response:
        talk = Talk(app, settings)
        head = [b"%b %b HTTP/1.1" % (request.method.encode(), request.url.raw_path)]
        head += [b"%b: %b" % header for header in request.headers.raw]
        body = request.content
        if "transfer-encoding" in request.headers:
            body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        talk.protocol.data_received(b"\r\n".join(head) + b"\r\n\r\n" + body)
        while talk.protocol.cycle is None or not talk.protocol.cycle.response_complete:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.001)
        response = _Response()
        response.parser.feed_data(talk.connection.written)
        return httpx2.Response(response.parser.get_status_code(), headers=response.headers, content=response.body)

    return httpx2.MockTransport(answer)
