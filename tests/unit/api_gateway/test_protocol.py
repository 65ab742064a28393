"""The HTTP protocol without a socket: what is written to a connection, and in how many segments."""

import asyncio
from typing import Any

import pytest
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.server import ServerState

from api_gateway.http.protocol import BoundedProtocol, bounded_protocol

GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
LIMITS: Any = {
    "head_seconds_max": 60,
    "head_bytes_max": 16_384,
    "send_seconds_max": 60,
    "answer_seconds_max": 60,
    "connections_max": 10,
    "caller_share_max": 0.75,
}


class Connection(asyncio.Transport):
    """A client's connection that notes what is written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.segments: list[bytes] = []
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.closed
        if data:
            self.segments.append(bytes(data))

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """All is written at once."""

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        """Nothing comes by itself."""

    def resume_reading(self) -> None:
        """As above."""


class Talk:
    """A connection to an application."""

    def __init__(self, app: ASGIApp) -> None:
        protocol_class = bounded_protocol(**LIMITS)
        config = uvicorn.Config(app, http=protocol_class, ws="none", lifespan="off", log_config=None, access_log=False)
        config.load()
        self.protocol: BoundedProtocol = protocol_class(config=config, server_state=ServerState(), app_state={})
        self.connection = Connection()
        self.protocol.connection_made(self.connection)

    async def send(self, data: bytes) -> list[bytes]:
        """Send bytes; return the segments written until the application has nothing more to do with them."""
        del self.connection.segments[:]
        self.protocol.data_received(data)
        for _ in range(20):
            await asyncio.sleep(0)
        return [*self.connection.segments]


def answering(*bodies: bytes, fails: bool = False) -> ASGIApp:
    """Return an application that reads the request and answers with these pieces."""

    async def app(_: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body"):
            pass
        length = str(sum(map(len, bodies))).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
        if fails:
            raise RuntimeError
        for position, body in enumerate(bodies, 1):
            await send({"type": "http.response.body", "body": body, "more_body": position < len(bodies)})

    return app


async def test_an_answer_is_one_segment() -> None:
    talk = Talk(answering(b"abc"))

    for _ in range(2):
        [segment] = await talk.send(GET)
        assert segment.startswith(b"HTTP/1.1 200 OK\r\n")
        assert segment.endswith(b"content-length: 3\r\n\r\nabc")


async def test_more_of_a_body_is_written_as_it_comes() -> None:
    first, *rest = await Talk(answering(b"abc", b"def", b"ghi")).send(GET)

    assert first.endswith(b"\r\n\r\nabc")
    assert rest == [b"def", b"ghi"]


async def test_requests_in_one_breath_get_a_segment_each() -> None:
    assert [segment[-3:] for segment in await Talk(answering(b"abc")).send(GET * 3)] == [b"abc"] * 3


@pytest.mark.parametrize("method", [b"HEAD", b"GET"])
@pytest.mark.parametrize("closes", [True, False])
async def test_an_answer_without_a_body_is_its_head(method: bytes, *, closes: bool) -> None:
    talk = Talk(answering(b""))
    request = GET.replace(b"GET", method)

    [segment] = await talk.send(request.replace(b"host", b"connection: close\r\nhost") if closes else request)

    assert segment.endswith(b"\r\n\r\n")
    assert talk.connection.closed is closes
    if not closes:
        assert len(await talk.send(request)) == 1


async def test_a_client_that_waits_for_it_is_told_to_go_on_before_any_answer() -> None:
    talk = Talk(answering(b"abc"))

    [response] = await talk.send(b"POST / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 1\r\n\r\n")
    [answer] = await talk.send(b"x")

    assert response == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert answer.endswith(b"\r\n\r\nabc")


async def test_an_answer_that_fails_after_its_head_ends_the_connection() -> None:
    talk = Talk(answering(b"abc", fails=True))

    segments = await talk.send(GET)

    assert b"abc" not in b"".join(segments)
    assert talk.connection.closed
