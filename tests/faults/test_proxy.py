"""A proxy reports what it did to traffic, and nothing where there was none."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import asdict

import pytest

from support.proxy import Proxy, Touched
from support.waiting import until_true


class Call:
    """A client that talks with a server, which echoes, over a proxy."""

    def __init__(self, proxy: Proxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.proxy = proxy
        self.reader = reader
        self.writer = writer

    async def say(self, *, until: str) -> None:
        """Say something, and wait until the proxy has counted it there."""
        self.writer.write(b"hello")
        await until_true(lambda: asdict(self.proxy.touched)[until] > 0, 2)


@pytest.fixture
async def call() -> AsyncIterator[Call]:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while chunk := await reader.read(100):
                writer.write(chunk)
        writer.close()

    async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
        proxy = Proxy("127.0.0.1", server.sockets[0].getsockname()[1])
        await proxy.open()
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"warm")
        assert await reader.read(100) == b"warm"
        yield Call(proxy, reader, writer)
        writer.transport.abort()
        await proxy.close()
        await until_true(lambda: proxy.connections == 0, 2)


async def test_a_proxy_on_which_nobody_talks_is_not_touched_by_holding_and_slowing_it(call: Call) -> None:
    call.proxy.hold()
    call.proxy.slow_down(0.01)
    await asyncio.sleep(0.05)

    assert call.proxy.touched == Touched()


async def test_what_is_held_is_counted_and_arrives_in_the_end(call: Call) -> None:
    call.proxy.hold(requests=False)
    await call.say(until="held_answers_bytes")
    held = call.proxy.touched.held_answers_bytes
    call.proxy.heal()

    assert (held, await call.reader.read(100)) == (5, b"hello")


@pytest.mark.parametrize("direction", ["requests", "answers"])
async def test_what_is_held_on_a_connection_that_is_reset_is_lost(call: Call, direction: str) -> None:
    call.proxy.hold(requests=direction == "requests", answers=direction == "answers")
    await call.say(until=f"held_{direction}_bytes")
    call.proxy.reset_connections()
    call.proxy.reset_connections()

    expected = Touched(cut_connections=1, **{f"held_{direction}_bytes": 5, f"lost_{direction}_bytes": 5})
    assert call.proxy.touched == expected


async def test_what_is_slowed_down_is_counted(call: Call) -> None:
    call.proxy.slow_down(0.01)
    await call.say(until="delayed_bytes")
    answer = await call.reader.read(100)

    assert (answer, call.proxy.touched.delayed_bytes) == (b"hello", 10)


async def test_a_connection_that_is_refused_while_the_proxy_is_cut_counts_as_cut(call: Call) -> None:
    call.proxy.cut()
    call.proxy.touched = Touched()
    _, writer = await asyncio.open_connection("127.0.0.1", call.proxy.port)
    await until_true(lambda: call.proxy.touched.cut_connections > 0, 2)
    writer.transport.abort()

    assert call.proxy.touched.cut_connections == 1
