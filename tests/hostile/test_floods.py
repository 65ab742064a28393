"""Much of what is large, at once: each service stays within its memory, and what does not fit waits or is refused."""

import asyncio
from collections import Counter
from contextlib import AsyncExitStack

import aio_pika
import grpc
import grpc.aio
import pytest

from etlpay_client.etlpay_pb2 import IngestBatchRequest, IngestRequest
from support.amqp import publish
from support.hostile import CANARY
from support.stack import Stack, until
from support.witness import Witness

MIB = 1024 * 1024
MESSAGES = 50
CALLS = 256
STREAMS = 30
# What one address may have of 12.
STREAMS_MAX = 9
UNLIMITED = (("grpc.max_send_message_length", -1), ("grpc.use_local_subchannel_pool", 1))


async def count(stack: Stack, source: str) -> int:
    [row] = await stack.fetch("SELECT count(*) AS count FROM events WHERE source = $1", source)
    found: int = row["count"]
    return found


async def test_a_queue_of_messages_of_8_mib(stack: Stack, source: str) -> None:
    """A prefetch of 200 of them would be gigabytes: what is in hand is counted in bytes, and the rest stays there."""
    witness = Witness(stack)

    bodies = (b'{"n": %d, "mark": "%b", "fill": "' % (number, CANARY.encode()) for number in range(MESSAGES))
    await publish(
        stack.amqp,
        (
            aio_pika.Message(body + b"x" * (8 * MIB - len(body) - 2) + b'"}', headers={"source": source})
            for body in bodies
        ),
    )
    found = await until(lambda: count(stack, source), lambda stored: stored >= MESSAGES, seconds_max=50)

    assert found == MESSAGES
    witness.check(CANARY.encode())


@pytest.mark.parametrize("size", [2_000_000, 4_000_000], ids=["2 MB", "4 MB"])
async def test_streams_of_large_batches(stack: Stack, source: str, size: int) -> None:
    """As many as fit are served, and the others are refused; a batch that is too large is refused."""
    witness = Witness(stack)
    event = IngestRequest(source_name=source, payload_json=f'{{"mark": "{CANARY}", "fill": "{"x" * (size // 1_000)}"}}')
    events = (size - size // 10) // event.ByteSize()
    batch = IngestBatchRequest(requests=[event] * events).SerializeToString()

    ended = Counter(await asyncio.gather(*(_send(stack, [batch] * 3) for _ in range(STREAMS))))

    served = STREAMS_MAX if size < 2 * MIB else 0
    assert ended.pop("OK", 0) == served
    # A client that still sends when it is refused may read the end of the stream before the reason.
    assert set(ended) <= {"RESOURCE_EXHAUSTED", "INTERNAL"}
    assert await count(stack, source) == served * 3 * events
    witness.check(CANARY.encode())


async def test_calls_with_a_megabyte_each(stack: Stack, source: str) -> None:
    """Each is stored or refused."""
    witness = Witness(stack)
    fill = "x" * (MIB - 1_000)
    request = IngestRequest(source_name=source, payload_json=f'{{"mark": "{CANARY}", "fill": "{fill}"}}')

    async with AsyncExitStack() as opened:
        channels = [
            await opened.enter_async_context(grpc.aio.insecure_channel(stack.grpc, options=UNLIMITED)) for _ in range(8)
        ]
        codes = Counter(
            await asyncio.gather(*(_call(channels[number % 8], request.SerializeToString()) for number in range(CALLS)))
        )

    assert set(codes) <= {"OK", "RESOURCE_EXHAUSTED", "UNAVAILABLE"}
    assert codes["OK"] > 0
    assert await count(stack, source) >= codes["OK"]
    witness.check(CANARY.encode())


async def test_pages_that_nobody_reads(stack: Stack, source: str) -> None:
    """60 clients ask for what is large and do not read it: they are given up, and others are served meanwhile."""
    witness = Witness(stack)
    fill = "x" * (MIB - 1_000)
    async with stack.client() as client:
        for _ in range(9):
            payload = {"mark": CANARY, "fill": fill}
            stored = await client.post("/api/ingest", json={"source_name": source, "payload": payload})
            assert stored.status_code == 201
    paths = [f"/api/processed-records?source={source}&limit=500", "/docs/assets/swagger-ui-bundle.js", "/metrics"]

    opened = [await _ask(stack, paths[number % 3]) for number in range(60)]
    async with stack.client() as client:
        answers = [await client.get("/livez")]
        answers += [await client.get("/api/sources") for _ in range(5)]
    given_up = await asyncio.gather(*(_is_given_up(writer) for _, writer in opened))

    assert {answer.status_code for answer in answers} <= {200, 503}
    assert answers[0].status_code == 200
    assert all(given_up)
    witness.check(CANARY.encode())


async def _ask(stack: Stack, path: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Ask for the same several times, and read nothing: more than the sockets hold."""
    host, port = stack.http.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=1)
    writer.write(b"GET %b HTTP/1.1\r\nhost: localhost\r\n\r\n" % path.encode() * 50)
    return reader, writer


async def _is_given_up(writer: asyncio.StreamWriter) -> bool:
    """Tell whether the server closes the connection of a client that reads nothing."""
    try:
        async with asyncio.timeout(30):
            while True:
                writer.write(b"\r\n")
                await writer.drain()
                await asyncio.sleep(0.2)
    except TimeoutError:
        return False
    except ConnectionError:
        return True
    finally:
        writer.transport.abort()


async def test_batches_with_as_many_results_as_there_may_be(stack: Stack, source: str) -> None:
    """Results are kept until the request is read: those of all requests together have a limit."""
    witness = Witness(stack)
    lines = b"".join(b'{"source_name":"%b","payload":{"n":%d}}\n' % (source.encode(), n) for n in range(100_000))
    refused = b'{"source":1,"paylod":2,"a":[],"b":3}\n' * 100_000
    headers = {"Content-Type": "application/x-ndjson"}

    async with stack.client() as client:
        answers = await asyncio.gather(
            *(
                client.post("/api/ingest/batch", content=body, headers=headers, timeout=120)
                for body in (lines, refused, refused)
            )
        )

    assert {answer.status_code for answer in answers} <= {200, 503}
    counts = answers[0].json()["counts"]
    assert counts["stored"] + counts["accepted"] > 0
    witness.check()


async def _call(grpc_channel: grpc.aio.Channel, request: bytes) -> str:
    unary: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = grpc_channel.unary_unary("/etlpay.EtlService/Ingest")
    try:
        await unary(request, timeout=30)
    except grpc.aio.AioRpcError as error:
        return error.code().name
    return "OK"


async def _send(stack: Stack, batches: list[bytes]) -> str:
    async with grpc.aio.insecure_channel(stack.grpc, options=UNLIMITED) as channel:
        many: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(
            "/etlpay.EtlService/IngestStream"
        )
        try:
            answers = [answer async for answer in many(iter(batches))]
        except grpc.aio.AioRpcError as error:
            return error.code().name
    return "OK" if len(answers) == len(batches) else "CUT"
