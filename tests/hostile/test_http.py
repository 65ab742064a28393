"""HTTP that is too much, or is none: what no client library would send, to the running gateway.

What its limits do in small (lengths, heads, deadlines) stands in tests/integration/api_gateway/test_http.py.
"""

import asyncio
import bz2
import gzip
import re
import socket
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import repeat

import pytest
import zstandard

from support.hostile import CANARY
from support.stack import Stack

MIB = 1024 * 1024
HUNDRED_MB = 100_000_000
PROBLEM = b"application/problem+json"
EVENT = b'{"source_name": "%b", "payload": {"mark": "%b"}}'
PACKED: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "bzip2": bz2.compress,
    "zstd": zstandard.ZstdCompressor().compress,
}
CHUNKED = b"transfer-encoding: chunked"
BOTH_PATHS = pytest.mark.parametrize("path", ["/api/ingest", "/api/ingest/batch"])


def head(*lines: bytes, path: str = "/api/ingest") -> bytes:
    """Return the head of a request; it is for JSON unless a line says something else."""
    kind = () if any(line.startswith(b"content-type:") for line in lines) else (b"content-type: application/json",)
    return b"\r\n".join((b"POST %b HTTP/1.1" % path.encode(), b"host: localhost", *kind, *lines)) + b"\r\n\r\n"


def event(source: str) -> bytes:
    return EVENT % (source.encode(), CANARY.encode())


def chunk(body: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(body), body)


async def send(
    stack: Stack, parts: Iterable[bytes], *, half_close: bool = False, seconds_max: float = 20, pause: float = 0
) -> bytes:
    """Send the parts, reading meanwhile, and return all that came until the server closed; fail when it does not.

    On the bare socket: a stream of asyncio forgets what has come as soon as writing fails.
    """
    host, port = stack.http.removeprefix("http://").split(":")
    loop = asyncio.get_running_loop()
    found = b""
    with socket.socket() as client:
        client.settimeout(0)
        await loop.sock_connect(client, (host, int(port)))
        sending = asyncio.ensure_future(_write(client, parts, half_close=half_close, pause=pause))
        try:
            async with asyncio.timeout(seconds_max):
                with suppress(ConnectionError):
                    while piece := await loop.sock_recv(client, 65_536):
                        found += piece
        finally:
            sending.cancel()
            await asyncio.wait([sending])
    return found


async def _write(client: socket.socket, parts: Iterable[bytes], *, half_close: bool, pause: float) -> None:
    with suppress(ConnectionError):
        for part in parts:
            await asyncio.get_running_loop().sock_sendall(client, part)
            await asyncio.sleep(pause)
        if half_close:
            client.shutdown(socket.SHUT_WR)


def statuses(found: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", found)]


def assert_problem(found: bytes, *expected: int) -> None:
    assert statuses(found) == list(expected)
    assert found.count(b"content-type: " + PROBLEM) == len(expected)
    assert CANARY.encode() not in found


async def stored(stack: Stack, source: str) -> int:
    [row] = await stack.fetch("SELECT count(*) AS count FROM events WHERE source = $1", source)
    count: int = row["count"]
    return count


@BOTH_PATHS
@pytest.mark.parametrize("with_length", [True, False], ids=["length", "chunks"])
async def test_a_body_of_100_mb(stack: Stack, path: str, *, with_length: bool) -> None:
    body = b'[{"a":"' if path.endswith("batch") else b'{"a":"'
    pieces = [body, *repeat(b"x" * MIB, HUNDRED_MB // MIB)]
    announced = b"content-length: %d" % sum(map(len, pieces)) if with_length else CHUNKED

    # Nothing behind a body of a known length: it would be the beginning of another request.
    sent = pieces if with_length else [*map(chunk, pieces), b"0\r\n\r\n"]
    found = await send(stack, [head(announced, b"connection: close", path=path), *sent])

    # Of a batch that does not tell its length, the first item that is too large ends the reading.
    assert_problem(found, 413 if with_length or path == "/api/ingest" else 400)


async def test_a_batch_of_100_mb_is_taken_to_the_limit_and_says_how_far(stack: Stack, source: str) -> None:
    item = event(source)
    item = chunk(item[:-2] + b',"fill":"' + b"x" * (MIB - len(item) - 20) + b'"}},\n')
    parts = [
        head(CHUNKED, b"connection: close", path="/api/ingest/batch"),
        chunk(b"["),
        *repeat(item, 100),
        chunk(b"]"),
        b"0\r\n\r\n",
    ]

    found = await send(stack, parts, seconds_max=60)

    assert statuses(found) == [200]
    assert b'"complete":false' in found
    answered = found.count(b'"status":"SUCCESS"')
    assert 60 <= answered <= 64
    assert await stored(stack, source) == answered


@pytest.mark.parametrize(
    "forever",
    [chunk(b"x") * 10_000, chunk(b" " * 60_000), chunk(b"[" * 60_000)],
    ids=["of one byte", "of blanks", "of brackets"],
)
@BOTH_PATHS
async def test_chunks_without_end(stack: Stack, path: str, forever: bytes) -> None:
    found = await send(stack, _endlessly(head(CHUNKED, path=path), forever))

    # A batch is read as it comes: what cannot be one is refused before the limit is reached, and blanks still can.
    assert_problem(found, 413 if path == "/api/ingest" or b" " in forever else 400)


@pytest.mark.parametrize(
    "forever",
    [b"1;" + b"x" * 65_536, b"0\r\nx-a: " + b"x" * 65_536, b"0\r\n" + b"x-a: x\r\n" * 8_192, b"0" * 65_536],
    ids=["extension", "trailer", "trailers", "length"],
)
async def test_what_surrounds_chunks_without_end(stack: Stack, source: str, forever: bytes) -> None:
    """Nothing of it is kept, however fast it comes."""
    rest = forever[-65_536:]

    found = await send(stack, _endlessly(head(CHUNKED) + chunk(event(source)) + forever, rest), seconds_max=5)

    assert_problem(found, 400)
    assert await stored(stack, source) == 0


def _endlessly(first: bytes, rest: bytes) -> Iterator[bytes]:
    yield first
    yield from repeat(rest)


@pytest.mark.parametrize(
    "lines",
    [
        (b"content-length: +60",),
        (b"content-length: 6_0",),
        (b"content-length: 0x3c",),
        (b"content-length: 60, 60",),
        (b"content-length: 99999999999999999999999999",),
        (b"transfer-encoding: chunked, identity",),
        (b"transfer-encoding: xchunked",),
        (b"transfer-encoding : chunked",),
        (b"content-length: 60", b"transfer-encoding: \x0bchunked"),
        (b"content-length: 60", b" folded: 1"),
        (b"content-length: 60", b"x\x00y: 1"),
        (b"content-length: 60", b"x y: 1"),
        (b"content-length: 60", b"idempotency-key: a\x00b"),
        (b"content-length: 60", b"idempotency-key: a\rset-cookie: b"),
    ],
    ids=lambda lines: lines[-1].decode("latin-1"),
)
async def test_a_head_that_two_servers_may_read_in_two_ways(
    stack: Stack, source: str, lines: tuple[bytes, ...]
) -> None:
    body = event(source)

    found = await send(stack, [head(*lines).replace(b"60", b"%d" % len(body)) + body], half_close=True)

    assert_problem(found, 400)
    assert await stored(stack, source) == 0


async def test_a_length_that_is_too_small_cuts_the_event_and_ends_the_connection(stack: Stack, source: str) -> None:
    found = await send(stack, [head(b"content-length: 30") + event(source)])

    assert statuses(found)[0] == 400
    assert set(statuses(found)) == {400}
    assert await stored(stack, source) == 0


async def test_a_length_that_is_too_large_stores_nothing(stack: Stack, source: str) -> None:
    body = event(source)

    found = await send(stack, [head(b"content-length: %d" % (len(body) + 1)) + body], half_close=True)

    # The client has gone before the request was whole: there is nobody to answer.
    assert found == b""
    assert await stored(stack, source) == 0


async def test_a_client_that_closes_its_half_has_sent_an_event(stack: Stack, source: str) -> None:
    body = event(source)

    found = await send(stack, [head(b"content-length: %d" % len(body)) + body], half_close=True)

    [row] = await stack.events_of(source, count=1)
    # The server takes the half for the whole and closes, so whether the answer still comes is a race.
    assert statuses(found) in ([], [201])
    assert not found or b'"raw_event_id":%d' % row["raw_event_id"] in found


async def test_line_feeds_in_a_value_make_no_header_of_the_answer(stack: Stack, source: str) -> None:
    """CR LF ends a value, so what follows is a header of the request, and only of that."""
    body = event(source)
    key = b"idempotency-key: one\r\nset-cookie: stolen=1\r\nprefer: respond-async\x0b, wait=1"

    found = await send(stack, [head(b"content-length: %d" % len(body), key, b"connection: close") + body])

    # A vertical tab is no part of any header's value.
    assert_problem(found, 400)
    assert await stored(stack, source) == 0
    assert b"set-cookie" not in found.lower()
    assert b"stolen" not in found


@pytest.mark.parametrize("coding", PACKED)
@BOTH_PATHS
async def test_a_compressed_bomb_is_not_unpacked(stack: Stack, path: str, coding: str) -> None:
    bomb = PACKED[coding](b'{"a":"' + bytes(HUNDRED_MB) + b'"}')
    announced = (b"content-length: %d" % len(bomb), b"content-encoding: " + coding.encode(), b"connection: close")

    found = await send(stack, [head(*announced, path=path) + bomb])

    assert_problem(found, 415)
    assert b"accept-encoding: identity" in found


async def test_a_bomb_in_the_transfer_coding_is_not_unpacked(stack: Stack) -> None:
    bomb = gzip.compress(bytes(HUNDRED_MB))

    found = await send(stack, [head(b"transfer-encoding: gzip, chunked") + chunk(bomb) + b"0\r\n\r\n"], half_close=True)

    assert_problem(found, 400)


@pytest.mark.parametrize(
    "content_type",
    [
        b"text/plain",
        b"application/xml",
        b"multipart/form-data; boundary=x",
        b"application/x-www-form-urlencoded",
        b"application/json; charset=utf-16",
        b"application/json, text/html",
        b"application/" + b"x" * 8_000,
        b"../../etc/passwd",
        b"\xff\xfe",
    ],
)
@BOTH_PATHS
async def test_a_content_type_that_is_not_ours(stack: Stack, source: str, path: str, content_type: bytes) -> None:
    body = event(source)
    lines = (b"content-length: %d" % len(body), b"connection: close", b"content-type: " + content_type)

    assert_problem(await send(stack, [head(*lines, path=path) + body]), 415)
    assert await stored(stack, source) == 0


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (head(*(b"x-%d: 1" % number for number in range(5_000))), 431),
        (head(b"idempotency-key: " + b"x" * MIB), 431),
        (b"GET /api/sources?cursor=" + b"x" * MIB + b" HTTP/1.1\r\nhost: localhost\r\n\r\n", 431),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"GET /livez HTTP/9.9\r\nhost: localhost\r\n\r\n", 400),
        (b"\x00" * 65_536, 400),
        (b"X" * MIB, 400),
    ],
    ids=["many headers", "one header", "query", "HTTP/2", "HTTP/9.9", "NULs", "a method"],
)
async def test_a_head_that_is_none(stack: Stack, request_bytes: bytes, status: int) -> None:
    assert_problem(await send(stack, [request_bytes]), status)


async def test_slow_clients_end_at_the_deadline_and_slow_nobody_down(stack: Stack, source: str) -> None:
    """200 that drip a head, 200 that drip a body: the others are served meanwhile, and then these are gone."""
    drops = [bytes([byte]) for byte in head(b"content-length: 1000") * 3]
    slow_heads = [send(stack, drops, pause=0.5) for _ in range(200)]
    slow_bodies = [send(stack, [head(b"content-length: 1000"), *[b" "] * 40], pause=0.5) for _ in range(200)]
    slow = asyncio.gather(*slow_heads, *slow_bodies)

    await asyncio.sleep(2)
    async with asyncio.timeout(5), stack.client() as client:
        served = [await client.post("/api/ingest", content=event(source)) for _ in range(20)]
    ended = await slow

    assert [answer.status_code for answer in served] == [201] * 20
    assert set(ended[:200]) == {b""}
    assert [statuses(found) for found in ended[200:]] == [[408]] * 200
