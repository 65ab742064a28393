"""The HTTP server with its limits, on a real socket, over fakes: what a client gets that breaks the rules."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from api_gateway.service import server_config
from api_gateway.settings import GatewaySettings
from shared.runtime.ops import HttpServer
from shared.runtime.service import running
from support.gateway import run_gateway

EVENT = b'{"source_name":"s","payload":{"value":1}}'
HEAD = b"POST /api/ingest HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
LIMITS = {
    "http_head_seconds_max": 0.5,
    "http_body_seconds_max": 0.5,
    "http_keep_alive_seconds": 1,
    "body_bytes_max": 100_000,
}


class HttpApi:
    """A running server."""

    def __init__(self, port: int, stored: Callable[[], int]) -> None:
        self.port = port
        self.stored = stored

    async def send(self, *parts: bytes, pause: float = 0) -> bytes:
        """Send the parts and return everything until the server closes; b"...open" where it does not for 3 s."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        found = b""
        try:
            for part in parts:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(pause)
            async with asyncio.timeout(3):
                while chunk := await reader.read(65_536):
                    found += chunk
        except TimeoutError:
            found += b"...open"
        except ConnectionError:
            pass
        finally:
            writer.close()
        return found


ApiMaker = Callable[..., AbstractAsyncContextManager[HttpApi]]


@asynccontextmanager
async def run_api(**settings: object) -> AsyncIterator[HttpApi]:
    chosen = {**LIMITS, **settings}
    async with run_gateway(**chosen) as gateway:  # type: ignore[arg-type]  # as below
        config = server_config(gateway.app, GatewaySettings(http_port=0, **chosen))  # type: ignore[arg-type]  # settings of any type
        async with running(HttpServer(config)) as server:
            while server.port is None:  # noqa: ASYNC110 - the server tells nobody
                await asyncio.sleep(0.01)
            yield HttpApi(server.port, lambda: len(gateway.processing.events))


@pytest.fixture
def api() -> ApiMaker:
    """Return what starts an API; its arguments are settings."""
    return run_api


def post(body: bytes = EVENT, *headers: bytes, path: bytes = b"/api/ingest") -> bytes:
    head = [
        b"POST %b HTTP/1.1" % path,
        b"host: localhost",
        b"content-type: application/json",
        b"content-length: %d" % len(body),
        *headers,
    ]
    return b"\r\n".join(head) + b"\r\n\r\n" + body


def statuses(found: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", found)]


async def test_requests_sent_together_are_answered_in_order(api: ApiMaker) -> None:
    async with api() as d:
        found = await d.send(post() + post(b"{") + post())

        assert statuses(found) == [201, 400, 201]
        assert d.stored() == 2


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"\x16\x03\x01 not http\r\n\r\n", 400),
        (HEAD + b"content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (HEAD + b"content-length: 2\r\ncontent-length: 3\r\n\r\n{}{}", 400),
        (HEAD + b"content-length: -2\r\n\r\n{}", 400),
        (b"POST /api/ingest HTTP/1.1\nhost: localhost\ncontent-length: 2\n\n{}", 400),
        (HEAD + b"transfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n", 400),
        (b"CONNECT elsewhere:1 HTTP/1.1\r\nhost: localhost\r\n\r\n", 400),
        (b"GET /livez HTTP/1.1\r\nhost: localhost\r\nx-a: " + b"a" * 20_000 + b"\r\n\r\n", 431),
        (b"GET /livez HTTP/1.1\r\nhost: localhost\r\nx-a: " + b"a" * 1_000_000, 431),
        (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nhost: localhost\r\n\r\n", 431),
    ],
)
async def test_what_is_not_http_is_a_problem_and_the_end(api: ApiMaker, request_bytes: bytes, status: int) -> None:
    async with api() as d:
        found = await d.send(request_bytes)

        assert statuses(found) == [status]
        assert b"content-type: application/problem+json" in found
        assert not found.endswith(b"...open")
        assert d.stored() == 0


async def test_rubbish_after_a_request_does_not_take_its_answer_away(api: ApiMaker) -> None:
    """A 400 would say that nothing was stored."""
    async with api() as d:
        found = await d.send(post() + b"\x00rubbish\r\n\r\n")

        assert statuses(found)[0] == 201
        assert d.stored() == 1
        assert not found.endswith(b"...open")


async def test_a_batch_that_breaks_on_the_wire_gets_no_answer_that_could_be_wrong(api: ApiMaker) -> None:
    async with api(http_batch_request_group_events=1) as d:
        head = HEAD.replace(b"ingest", b"ingest/batch") + b"transfer-encoding: chunked\r\n\r\n"
        item = b"[" + EVENT + b","

        found = await d.send(head + b"%x\r\n%b\r\n" % (len(item), item), b"zz\r\n", pause=0.2)

        assert found == b""
        assert d.stored() == 1


@pytest.mark.parametrize(
    "parts", [(b"",), (b"POST /api/ingest HT",), (b"GET /livez HTTP/1.1\r\nhost: localhost\r\nx-a:",), (b"\r\n",)]
)
async def test_a_head_that_does_not_come_closes_the_connection(api: ApiMaker, parts: tuple[bytes, ...]) -> None:
    async with api() as d:
        assert await d.send(*parts) == b""


async def test_a_head_that_drips_closes_the_connection(api: ApiMaker) -> None:
    async with api() as d:
        drops = [bytes([byte]) for byte in b"POST /api/ingest HTTP/1.1\r\n"]

        assert await d.send(*drops, pause=0.05) == b""


async def test_a_body_that_does_not_come_is_408(api: ApiMaker) -> None:
    async with api() as d:
        found = await d.send(HEAD + b"content-length: 10\r\n\r\n{")

        assert statuses(found) == [408]
        assert not found.endswith(b"...open")


async def test_blank_lines_do_not_keep_a_connection_open(api: ApiMaker) -> None:
    async with api() as d:
        found = await d.send(post(), b"\r\n", pause=0.1)

        assert statuses(found) == [201]
        assert not found.endswith(b"...open")


@pytest.mark.parametrize("chunked", [True, False])
async def test_a_large_body_is_413_and_the_client_can_read_it(api: ApiMaker, *, chunked: bool) -> None:
    async with api() as d:
        size = 20_000_000
        chunk = b"10000\r\n" + b"x" * 65_536 + b"\r\n"
        head = b"transfer-encoding: chunked" if chunked else b"content-length: %d" % size
        body = chunk * 300 + b"0\r\n\r\n" if chunked else b"x" * size

        found = await d.send(HEAD + head + b"\r\n\r\n", body)

        assert statuses(found) == [413]


async def test_a_client_that_asks_first_is_not_asked_for_what_is_too_large(api: ApiMaker) -> None:
    async with api() as d:
        head = HEAD + b"expect: 100-continue\r\ncontent-length: %d\r\n\r\n"

        assert statuses(await d.send(head % 10_000_000)) == [413]
        assert statuses(await d.send(head % len(EVENT), EVENT, pause=0.1)) == [100, 201]


@pytest.mark.parametrize("wish", [b"h2c", b"websocket"])
async def test_a_request_that_would_like_an_upgrade_is_served_as_it_is(api: ApiMaker, wish: bytes) -> None:
    """Some HTTP/2 clients send this with every first request, body included."""
    async with api() as d:
        request = post(EVENT, b"connection: Upgrade, HTTP2-Settings", b"upgrade: " + wish, b"http2-settings: AA")

        whole = await d.send(request)
        apart = await d.send(request[:-10], request[-10:], pause=0.1)

        assert statuses(whole) == statuses(apart) == [201]
        assert d.stored() == 2


@pytest.mark.parametrize(
    "broken", [b"NONSENSE\r\n\r\n", HEAD + b"transfer-encoding: chunked\r\n\r\nzz\r\n"], ids=["head", "body"]
)
async def test_a_client_that_goes_on_sending_what_is_refused_still_gets_the_answer(
    api: ApiMaker, broken: bytes
) -> None:
    """Closed at once, the connection would be reset, and the answer lost with it."""
    async with api() as d:
        found = await d.send(broken, *[b"x" * 65_536] * 3, pause=0.1)

    assert statuses(found) == [400]


async def test_what_is_broken_behind_a_request_in_hand_is_not_taken_for_its_answer(api: ApiMaker) -> None:
    """The first may be stored; 400 in its place would say that it is not."""
    async with api() as d:
        found = await d.send(post() + HEAD + b"transfer-encoding: chunked\r\n\r\nzz\r\n")

    assert 400 not in statuses(found)


async def test_connections_beyond_the_limit_get_503_and_those_in_use_are_served(api: ApiMaker) -> None:
    async with api(http_connections_max=1, http_body_seconds_max=5) as d:
        reader, writer = await asyncio.open_connection("127.0.0.1", d.port)
        request = post(EVENT, b"connection: close")
        writer.write(request[:-5])
        await asyncio.sleep(0.05)

        second = await d.send(b"")
        writer.write(request[-5:])
        first = await reader.read()
        writer.close()

        assert statuses(second) == [503]
        assert statuses(first) == [201]


async def test_at_the_limit_the_connection_that_is_idle_for_longest_is_closed_for_another(api: ApiMaker) -> None:
    """One that a pool keeps for later is missed less than one that a client wants now."""
    async with api(http_connections_max=2, caller_share_max=1, http_keep_alive_seconds=60) as d:
        opened = [await asyncio.open_connection("127.0.0.1", d.port) for _ in range(2)]
        for reader, writer in reversed(opened):
            writer.write(post())
            await reader.readuntil(b"}")

        third = await d.send(post(EVENT, b"connection: close"))
        (newer, writer), (older, _) = opened
        at_end = await older.read()
        writer.write(post(EVENT, b"connection: close"))
        again = await newer.read()
        for _, each in opened:
            each.close()

        assert statuses(third) == [201]
        assert statuses(at_end) == []
        assert statuses(again)[-1:] == [201]


async def test_an_idle_connection_is_kept_for_longer_than_pools_keep_theirs() -> None:
    assert GatewaySettings(_env_file=None).http_keep_alive_seconds > 60


async def test_a_client_that_reads_nothing_of_an_answer_is_given_up(api: ApiMaker) -> None:
    """Whoever answers: an event's answer, which repeats it, and a document."""
    event = b'{"source_name":"s","payload":{"fill":"%b"}}' % (b"x" * 90_000)
    requests = [post(event) * 200, b"GET /docs/assets/swagger-ui-bundle.js HTTP/1.1\r\nhost: x\r\n\r\n" * 20]
    async with api(http_send_seconds_max=0.3, http_keep_alive_seconds=60) as d:
        for request in requests:
            reader, writer = await asyncio.open_connection("127.0.0.1", d.port, limit=1)
            writer.write(request)
            async with asyncio.timeout(15):
                with pytest.raises(ConnectionError):
                    await _write_for_ever(writer)
            writer.transport.abort()
            del reader


async def _write_for_ever(writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"\r\n")
        await writer.drain()
        await asyncio.sleep(0.1)


async def test_a_client_that_reads_slowly_gets_a_whole_answer(api: ApiMaker) -> None:
    async with api(http_send_seconds_max=0.5) as d:
        reader, writer = await asyncio.open_connection("127.0.0.1", d.port, limit=65_536)
        writer.write(b"GET /docs/assets/swagger-ui-bundle.js HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        found = b""
        while chunk := await reader.read(100_000):
            found += chunk
            await asyncio.sleep(0.02)
        writer.close()

    assert len(found) > 1_000_000
    assert int(found.partition(b"content-length: ")[2].split(b"\r\n")[0]) == len(found.partition(b"\r\n\r\n")[2])


async def test_stopping_lets_a_request_in_flight_finish(api: ApiMaker) -> None:
    async with api(http_body_seconds_max=5) as d:
        reader, writer = await asyncio.open_connection("127.0.0.1", d.port)
        writer.write(post()[:-5])
        await asyncio.sleep(0.1)

        async def finish() -> bytes:
            await asyncio.sleep(0.3)
            writer.write(EVENT[-5:])
            return await reader.read()

        finishing = asyncio.ensure_future(finish())

    found = await finishing
    writer.close()
    assert statuses(found) == [201]
    assert b"connection: close" in found
