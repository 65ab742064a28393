"""gRPC that is too much, or is none: what a client may do to the running service.

Its errors and their details stand in tests/integration/grpc_ingest/test_grpc.py.
"""

import asyncio
import random
import struct
from contextlib import suppress

import grpc
import grpc.aio
import pytest

from etlpay_client.etlpay_pb2 import IngestBatchRequest, IngestRequest
from support.hostile import CANARY
from support.stack import Stack, until

MIB = 1024 * 1024
# What one address may have of 12.
STREAMS_MAX = 9
HANDSHAKE_SECONDS_MAX = 5
METHODS = ("Ingest", "IngestBatch", "IngestStream")
UNLIMITED = (("grpc.max_send_message_length", -1), ("grpc.max_metadata_size", 64 * MIB))
OF_EACH_METHOD = pytest.mark.parametrize("method", METHODS)

Code = grpc.StatusCode
Stream = grpc.aio.StreamStreamCall[bytes, bytes]


def event(source: str, key: str = "", *, fill: int = 0) -> IngestRequest:
    payload = f'{{"mark": "{CANARY}", "fill": "{"x" * fill}"}}'
    return IngestRequest(source_name=source, payload_json=payload, id=key)


def open_stream(grpc_channel: grpc.aio.Channel, requests: list[bytes] | None = None, **options: object) -> Stream:
    """Return a stream that sends these requests, or that is written to."""
    many: grpc.aio.StreamStreamMultiCallable[bytes, bytes]
    many = grpc_channel.stream_stream("/etlpay.EtlService/IngestStream")
    return many(None if requests is None else iter(requests), **options)  # type: ignore[arg-type]  # options of any type


async def call(grpc_channel: grpc.aio.Channel, method: str, request: bytes, **options: object) -> tuple[Code, str]:
    """Return the code of a call with one request of any bytes, and everything that its answer says."""
    path = f"/etlpay.EtlService/{method}"
    try:
        if method == "IngestStream":
            answers = [answer async for answer in open_stream(grpc_channel, [request], **options)]
        else:
            unary: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = grpc_channel.unary_unary(path)
            answers = [await unary(request, **options)]  # type: ignore[arg-type]  # as above
    except grpc.aio.AioRpcError as error:
        return error.code(), f"{error.details()}{error.trailing_metadata()}"
    return Code.OK, repr(answers)


async def stored(stack: Stack, source: str) -> int:
    [row] = await stack.fetch("SELECT count(*) AS count FROM events WHERE source = $1", source)
    count: int = row["count"]
    return count


@OF_EACH_METHOD
async def test_a_message_of_100_mb(stack: Stack, source: str, method: str) -> None:
    async with grpc.aio.insecure_channel(stack.grpc, options=UNLIMITED) as channel:
        code, told = await call(channel, method, event(source, fill=100 * MIB).SerializeToString())
        again, _ = await call(channel, "Ingest", event(source).SerializeToString())

    assert code is Code.RESOURCE_EXHAUSTED
    assert CANARY not in told
    assert again is Code.OK
    assert await stored(stack, source) == 1


async def test_a_payload_that_is_too_large_in_a_message_that_is_not(stack: Stack, source: str) -> None:
    request = event(source, fill=MIB)
    batch = IngestBatchRequest(requests=[event(source), request, event(source)]).SerializeToString()

    async with grpc.aio.insecure_channel(stack.grpc) as channel:
        alone, told = await call(channel, "Ingest", request.SerializeToString())
        among, answers = await call(channel, "IngestBatch", batch)

    assert (alone, among) == (Code.INVALID_ARGUMENT, Code.OK)
    assert CANARY not in told + answers
    assert answers.count("SUCCESS") == 2
    assert answers.count("REFUSED") == 1
    assert await stored(stack, source) == 2


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
@OF_EACH_METHOD
async def test_a_compressed_bomb_is_not_unpacked(
    stack: Stack, source: str, method: str, compression: grpc.Compression
) -> None:
    bomb = event(source, fill=100 * MIB).SerializeToString()

    async with grpc.aio.insecure_channel(stack.grpc, options=UNLIMITED, compression=compression) as channel:
        code, told = await call(channel, method, bomb)

    assert code is Code.RESOURCE_EXHAUSTED
    assert "Decompressed message larger than max" in told
    assert CANARY not in told
    assert await stored(stack, source) == 0


@OF_EACH_METHOD
async def test_garbage_is_refused_or_means_nothing(stack: Stack, source: str, method: str) -> None:
    """Random bytes, and a good message with one byte changed: protobuf reads some as messages, which may be stored."""
    dice = random.Random(8)  # noqa: S311 - the same bytes each time
    good = IngestBatchRequest(requests=[event(source)]).SerializeToString()
    good = event(source).SerializeToString() if method == "Ingest" else good
    requests = [dice.randbytes(dice.randrange(200)) for _ in range(200)]
    requests += [
        good[:place] + bytes([good[place] ^ 1 << dice.randrange(8)]) + good[place + 1 :] for place in range(len(good))
    ]

    async with grpc.aio.insecure_channel(stack.grpc) as channel:
        answers = [await call(channel, method, request) for request in requests]

    assert {code for code, _ in answers} <= {Code.INVALID_ARGUMENT, Code.OK}
    assert [told for code, told in answers if code is Code.INVALID_ARGUMENT and CANARY in told] == []


async def test_streams_that_never_close(stack: Stack, source: str) -> None:
    """A few are served, the others are told at once that it is too much, and who calls without a stream is served."""
    apart = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.aio.insecure_channel(stack.grpc, options=apart) for _ in range(16)]
    batch = IngestBatchRequest(requests=[event(source, "one")]).SerializeToString()
    try:
        streams = [open_stream(channel) for channel in channels for _ in range(125)]
        refused = await until(lambda: _ended(streams), lambda ended: len(ended) == len(streams) - STREAMS_MAX)
        codes = {await stream.code() for stream in refused}
        held = [stream for stream in streams if not stream.done()]
        alone, _ = await call(channels[-1], "Ingest", event(source).SerializeToString())
        served = await asyncio.gather(*(_first_answer(stream, batch) for stream in held))
        for stream in held:
            stream.cancel()
    finally:
        await asyncio.gather(*(channel.close() for channel in channels))

    # A reset may overtake the status that explains it.
    assert Code.RESOURCE_EXHAUSTED in codes
    assert codes <= {Code.RESOURCE_EXHAUSTED, Code.CANCELLED}
    assert alone is Code.OK
    assert served == [True] * STREAMS_MAX
    assert await stored(stack, source) == 2


async def test_streams_that_say_nothing_end_and_make_room(stack: Stack, source: str) -> None:
    """Those that hold every place lose it, and with it nobody's batch."""
    batch = IngestBatchRequest(requests=[event(source)]).SerializeToString()

    async with grpc.aio.insecure_channel(stack.grpc) as channel:
        silent = [open_stream(channel) for _ in range(STREAMS_MAX)]
        served = await asyncio.gather(*(_first_answer(stream, batch) for stream in silent[1:]))
        beyond, _ = await call(channel, "IngestStream", batch)
        ended = await until(lambda: _ended(silent), lambda done: len(done) == STREAMS_MAX, seconds_max=90)
        codes = {await stream.code() for stream in ended}
        after, _ = await call(channel, "IngestStream", batch)

    assert served == [True] * (STREAMS_MAX - 1)
    # The library says INTERNAL where the refusal came before it had sent the message.
    assert beyond in {Code.RESOURCE_EXHAUSTED, Code.INTERNAL}
    assert codes == {Code.UNAVAILABLE}
    assert after is Code.OK
    assert await stored(stack, source) == STREAMS_MAX


async def test_ten_thousand_streams(stack: Stack, source: str) -> None:
    """More than anybody has use for, at once: none is served that should not be, and the next caller is."""
    apart = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.aio.insecure_channel(stack.grpc, options=apart) for _ in range(80)]
    try:
        streams = [open_stream(channel) for channel in channels for _ in range(125)]
        refused = await until(lambda: _ended(streams), lambda ended: len(ended) >= len(streams) - STREAMS_MAX)
        codes = {await stream.code() for stream in refused}
        for stream in streams:
            stream.cancel()
    finally:
        await asyncio.gather(*(channel.close() for channel in channels))

    assert len(refused) >= len(streams) - STREAMS_MAX
    assert codes <= {Code.RESOURCE_EXHAUSTED, Code.CANCELLED, Code.UNAVAILABLE}
    async with grpc.aio.insecure_channel(stack.grpc) as channel:
        request = event(source, "one").SerializeToString()
        await until(lambda: call(channel, "Ingest", request), lambda answer: answer[0] is Code.OK)
    assert await stored(stack, source) == 1


async def _ended(streams: list[Stream]) -> list[Stream]:
    return [stream for stream in streams if stream.done()]


async def _first_answer(stream: Stream, batch: bytes) -> bool:
    await stream.write(batch)
    return isinstance(await stream.read(), bytes)


async def _count(stream: Stream) -> int:
    return len([answer async for answer in stream])


async def test_deadlines_of_a_millisecond(stack: Stack, source: str) -> None:
    """Whatever such a client got to know: sent again with its id, each event is stored once."""
    requests = [event(source, str(number)).SerializeToString() for number in range(500)]

    async with grpc.aio.insecure_channel(stack.grpc) as channel:
        hasty = await asyncio.gather(*(call(channel, "Ingest", each, timeout=0.001) for each in requests))
        patient = await asyncio.gather(*(_until_taken(channel, each) for each in requests))

    assert Code.DEADLINE_EXCEEDED in {code for code, _ in hasty}
    assert set(patient) == {Code.OK}
    assert await stored(stack, source) == 500


async def _until_taken(grpc_channel: grpc.aio.Channel, request: bytes) -> Code:
    """Repeat as a client should where the server has too many streams that ended early still in its books."""
    answer = await until(
        lambda: call(grpc_channel, "Ingest", request, timeout=15), lambda answer: answer[0] is not Code.UNAVAILABLE
    )
    return answer[0]


@pytest.mark.parametrize(
    "metadata",
    [
        [("x-large", "x" * MIB)],
        [(f"x-{number}", "x") for number in range(5_000)],
        [("prefer", "x" * 30_000)],
        [("x-bin", bytes(MIB))],
        [("authorization", "Bearer " + CANARY * 1_000)],
    ],
    ids=["one", "many", "prefer", "binary", "authorization"],
)
@OF_EACH_METHOD
async def test_huge_metadata(stack: Stack, source: str, method: str, metadata: list[tuple[str, str | bytes]]) -> None:
    async with grpc.aio.insecure_channel(stack.grpc, options=UNLIMITED) as channel:
        code, told = await call(channel, method, event(source).SerializeToString(), metadata=metadata)

    assert code is Code.RESOURCE_EXHAUSTED
    assert CANARY not in told
    assert await stored(stack, source) == 0


async def test_streams_that_are_cancelled_in_the_middle(stack: Stack, source: str) -> None:
    batches = [
        IngestBatchRequest(requests=[event(source, f"{batch}-{n}") for n in range(50)]).SerializeToString()
        for batch in range(40)
    ]
    async with grpc.aio.insecure_channel(stack.grpc) as channel:
        for place, batch in enumerate(batches):
            stream = open_stream(channel)
            # One that comes before its forerunners have ended may be one too many.
            with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                await stream.write(batch)
            if place % 2:
                await asyncio.sleep(0.01)
            stream.cancel()

        await until(lambda: call(channel, "IngestStream", batches[0]), lambda answer: answer[0] is Code.OK)
        again = await _count(open_stream(channel, batches))

    assert again == len(batches)
    assert await stored(stack, source) == 2_000


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, SETTINGS, HEADERS, CONTINUATION, RST_STREAM, PING, GOAWAY = 0, 4, 1, 9, 3, 6, 7


def frame(kind: int, body: bytes = b"", *, flags: int = 0, stream: int = 0) -> bytes:
    return struct.pack(">I", len(body))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + body


NO_GRPC = {
    "nothing": b"",
    "HTTP/1.1": b"GET / HTTP/1.1\r\nhost: x\r\n\r\n" * 100,
    "TLS": b"\x16\x03\x01" + bytes(range(256)) * 400,
    "a preface alone": PREFACE,
    "garbage": PREFACE + b"\xff" * 100_000,
    "pings": PREFACE + frame(SETTINGS) + frame(PING, bytes(8)) * 20_000,
}
# Too much of it, and yet HTTP/2: such a connection ends when it is old.
TOO_MUCH = {
    "settings": PREFACE + frame(SETTINGS) * 100_000,
    "headers without end": PREFACE
    + frame(SETTINGS)
    + frame(HEADERS, stream=1)
    + frame(CONTINUATION, b"\x00\x01x\x01y" * 3_000, stream=1) * 500,
}


@pytest.mark.parametrize("sent", NO_GRPC.values(), ids=NO_GRPC)
async def test_what_is_not_grpc_is_closed(stack: Stack, sent: bytes) -> None:
    assert await _is_closed(stack, sent, seconds_max=HANDSHAKE_SECONDS_MAX + 5)


@pytest.mark.parametrize("sent", TOO_MUCH.values(), ids=TOO_MUCH)
async def test_frames_without_end_harm_nobody(stack: Stack, source: str, sent: bytes) -> None:
    async with asyncio.TaskGroup() as group, grpc.aio.insecure_channel(stack.grpc) as channel:
        group.create_task(_is_closed(stack, sent, seconds_max=3))
        code, _ = await call(channel, "Ingest", event(source).SerializeToString(), timeout=3)

    assert code is Code.OK


async def test_answers_that_nobody_reads_cost_their_connection(stack: Stack, source: str) -> None:
    """HTTP/2 lets a client hold answers back for ever: such calls end, and those of others are served meanwhile."""
    no_window = frame(SETTINGS, struct.pack(">HI", 4, 0))
    calls = [
        frame(HEADERS, INGEST, flags=4, stream=stream) + frame(DATA, _message(event(source)), flags=1, stream=stream)
        for stream in range(1, 201, 2)
    ]

    async with asyncio.TaskGroup() as group, grpc.aio.insecure_channel(stack.grpc) as channel:
        sent = PREFACE + no_window + b"".join(calls)
        unread = group.create_task(_is_closed(stack, sent, seconds_max=30))
        await asyncio.sleep(2)
        code, _ = await call(channel, "Health", b"", timeout=5)
        served = await until(
            lambda: call(channel, "Ingest", event(source).SerializeToString(), timeout=5),
            lambda answer: answer[0] is Code.OK,
        )

    assert unread.result()
    assert code is Code.UNIMPLEMENTED
    assert served[0] is Code.OK


def _literal(name: bytes, value: bytes) -> bytes:
    return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value


INGEST = b"".join(
    (
        _literal(b":method", b"POST"),
        _literal(b":scheme", b"http"),
        _literal(b":path", b"/etlpay.EtlService/Ingest"),
        _literal(b":authority", b"x"),
        _literal(b"te", b"trailers"),
        _literal(b"content-type", b"application/grpc"),
    )
)


def _message(request: IngestRequest) -> bytes:
    sent = request.SerializeToString()
    return b"\x00" + struct.pack(">I", len(sent)) + sent


async def test_what_a_peer_says_when_it_goes_is_in_no_log(stack: Stack) -> None:
    """The library would write it as it is: a line of anybody's own."""
    said = bytes(7) + b"\x02" + CANARY.encode() + b"\nERROR forged"

    await _is_closed(stack, PREFACE + frame(SETTINGS) + frame(GOAWAY, said), seconds_max=2)


async def _is_closed(stack: Stack, sent: bytes, *, seconds_max: float) -> bool:
    """Send it, and tell whether the server closes the connection in time, whatever it says before."""
    host, port = stack.grpc.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(sent)
        async with asyncio.timeout(seconds_max):
            while await reader.read(65_536):
                pass
    except TimeoutError:
        return False
    except ConnectionError:
        return True
    finally:
        writer.transport.abort()
    return True
