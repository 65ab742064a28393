"""Ids and names that would be commands, markup or line ends elsewhere: data here, on every channel, or refused."""

import asyncio
import hashlib
from pathlib import Path
from urllib.parse import quote

import aio_pika
import grpc
import grpc.aio
import msgspec
import pytest

from etlpay_cli.local.services import DEMO_QUEUE_SOURCE
from etlpay_client.etlpay_pb2 import IngestRequest
from etlpay_client.etlpay_pb2_grpc import EtlServiceStub
from shared.contracts.event import SOURCE_CHARS_MAX
from support.amqp import publish
from support.hostile import CANARY, SURROGATE_BYTES, SURROGATE_ESCAPED, TEXTS, Text
from support.stack import Stack, until

PROBLEM = "application/problem+json"
HEADER_CHARS_MAX = 120_000
OF_BODY = "SELECT source, idempotency_key, status FROM events WHERE body = $1"
of_each_text = pytest.mark.parametrize("text", TEXTS, ids=lambda text: text.name)
of_each_id = pytest.mark.parametrize("text", [text for text in TEXTS if text.is_id], ids=lambda text: text.name)


async def ids(stack: Stack, source: str) -> list[tuple[str, str]]:
    rows = await stack.fetch("SELECT idempotency_key, type FROM events WHERE source = $1", source)
    return [(row["idempotency_key"] or "", row["type"] or "") for row in rows]


@of_each_text
async def test_an_id_and_a_type_over_http(stack: Stack, source: str, text: Text) -> None:
    event = {"source_name": source, "payload": {}, "id": text.text, "type": text.text}

    async with stack.client() as client:
        first = await client.post("/api/ingest", json=event)
        again = await client.post("/api/ingest", json=event)

    refused = 413 if len(text.text) > 500_000 else 422
    assert (first.status_code, again.status_code) == ((201, 200) if text.is_id else (refused, refused))
    assert text.is_id or (first.headers["Content-Type"], text.text in first.text) == (PROBLEM, False)
    assert await ids(stack, source) == ([(text.text, text.text)] if text.is_id else [])


@of_each_text
async def test_a_source_over_http(stack: Stack, text: Text) -> None:
    async with stack.client() as client:
        answer = await client.post("/api/ingest", json={"source_name": text.text, "payload": {}})

    assert answer.status_code == (201 if text.is_source else 422)
    assert text.is_source or answer.headers["Content-Type"] == PROBLEM
    assert text.text not in answer.text
    assert "set-cookie" not in answer.headers


@of_each_text
async def test_a_member_over_http(stack: Stack, source: str, text: Text) -> None:
    body = msgspec.json.encode({"source_name": source, "payload": {}, text.text: 1})

    async with stack.client() as client:
        answer = await client.post("/api/ingest", content=body)

    assert answer.status_code in (413, 422)
    assert text.text not in answer.text


@of_each_text
async def test_a_query_parameter(stack: Stack, text: Text) -> None:
    if len(text.text) > 10_000:
        pytest.skip("no URL is so long: test_http.py, a head that is none")
    written = quote(text.text, safe="")
    async with stack.client() as client:
        answers = [
            await client.get(f"/api/{path}{written}")
            for path in (
                "processed-records?source=",
                "processed-records?status=",
                "processed-records?from=",
                "processed-records?cursor=",
                "sources?cursor=",
                "sources?limit=",
                "audit?hour=",
                "audit?source=",
                "events/",
                "processed-records/",
            )
        ]

    assert {answer.status_code for answer in answers} <= {200, 404, 422}
    assert {answer.headers["Content-Type"] for answer in answers if answer.is_error} == {PROBLEM}
    # What is found is data; what is refused is not repeated.
    assert [answer.text for answer in answers if answer.is_error and text.text in answer.text] == []


@pytest.mark.parametrize("header", ["Idempotency-Key", "Prefer", "Authorization", "User-Agent", "X-Request-Id"])
@of_each_id
async def test_a_header_over_http(stack: Stack, source: str, text: Text, header: str) -> None:
    """UTF-8 in a header is not ours to guess: refused where it would be an id, ignored elsewhere."""
    event = {"source_name": source, "payload": {}}
    value = text.text.encode()

    async with stack.client() as client:
        answer = await client.post("/api/ingest", json=event, headers={header.encode(): value})

    taken = header != "Idempotency-Key" or (text.text.isascii() and " " not in text.text)
    assert answer.status_code == (201 if taken else 400)
    key = text.text if taken and header == "Idempotency-Key" else ""
    assert [found for found, _ in await ids(stack, source)] in ([[key]] if taken else [[]])


@of_each_text
async def test_an_id_and_a_source_over_grpc(stack: Stack, source: str, text: Text) -> None:
    async with grpc.aio.insecure_channel(stack.grpc) as channel:
        stub = EtlServiceStub(channel)
        by_id = await _code(stub, IngestRequest(source_name=source, payload_json="{}", id=text.text, type=text.text))
        by_source = await _code(stub, IngestRequest(source_name=text.text, payload_json="{}"))

    assert by_id[0] == ("SUCCESS" if text.is_id else "INVALID_ARGUMENT")
    assert by_source[0] == ("SUCCESS" if text.is_source else "INVALID_ARGUMENT")
    assert text.text not in by_id[1] + by_source[1]
    assert await ids(stack, source) == ([(text.text, text.text)] if text.is_id else [])


async def _code(stub: EtlServiceStub, request: IngestRequest) -> tuple[str, str]:
    try:
        return (await stub.Ingest(request)).status, ""
    except grpc.aio.AioRpcError as error:
        return error.code().name, f"{error.details()}{error.trailing_metadata()}"


@of_each_text
async def test_an_id_in_a_file(stack: Stack, source: str, text: Text) -> None:
    row = msgspec.json.encode({"id": text.text})

    stack.drop(source, "a.ndjson", row + b'\n{"id": "last"}\n')

    found = await stack.events_of(source, count=2 if text.is_id else 1)
    assert {event["idempotency_key"] for event in found} == {"last", *([text.text] if text.is_id else [])}


@of_each_text
async def test_an_id_and_a_source_in_a_queue_message(stack: Stack, source: str, text: Text) -> None:
    """What was taken is kept: under id and source, or under the id's hash; FAILED where the source cannot be kept."""
    body = msgspec.json.encode({"source": source})
    # All headers of a message stand in one frame, so AMQP itself knows no text of a megabyte there.
    written = text.text[:HEADER_CHARS_MAX]
    named = aio_pika.Message(body, headers={"source": source, "ce-id": written})
    typed = aio_pika.Message(body, headers={"source": source, "ce-id": written, "ce-type": written[: -len(source)]})
    typed = typed if len(written) < HEADER_CHARS_MAX else named
    other = aio_pika.Message(body, headers={"source": written})

    await publish(stack.amqp, [named, typed, other])

    rows = await until(lambda: stack.fetch(OF_BODY, body), lambda found: len(found) >= 2)
    found = {(row["source"], row["status"]) for row in rows}
    assert found == {
        (source, "SUCCESS"),
        (text.text, "SUCCESS") if text.is_source else (DEMO_QUEUE_SOURCE, "FAILED"),
    }
    [key] = [row["idempotency_key"] for row in rows if row["source"] == source]
    assert key == (text.text if text.is_id else f"sha256:{hashlib.sha256(written.encode()).hexdigest()}")


async def test_a_lone_surrogate_over_http(stack: Stack, source: str) -> None:
    """As an escape, as bytes, and in the header: no text, so no id, no type and no source."""
    good = b'{"source_name": "%b", "payload": {}, "id": "%b", "type": "%b"}'
    name = source.encode()
    async with stack.client() as client:
        answers = [
            await client.post("/api/ingest", content=good % parts)
            for text in (SURROGATE_ESCAPED, SURROGATE_BYTES)
            for parts in ((name, text, b"a"), (name, b"a", text), (text, b"a", b"a"))
        ]
        headers = {b"Idempotency-Key": SURROGATE_BYTES}
        answers.append(await client.post("/api/ingest", content=good % (name, b"a", b"a"), headers=headers))

    assert {answer.status_code for answer in answers} <= {400, 422}
    assert {answer.headers["Content-Type"] for answer in answers} == {PROBLEM}
    assert [answer.text for answer in answers if CANARY in answer.text] == []
    assert await ids(stack, source) == []


async def test_a_lone_surrogate_over_grpc(stack: Stack, source: str) -> None:
    """A string of protobuf is UTF-8: bytes that are none are no message."""
    good = IngestRequest(source_name=source, payload_json="{}", id="12345", type="12345").SerializeToString()
    bad = [good.replace(b"12345", b"12\xed\xa0\x80", 1), good[::-1].replace(b"54321", b"\x80\xa0\xed21", 1)[::-1]]
    bad.append(
        IngestRequest(source_name="abcde", payload_json="{}").SerializeToString().replace(b"cde", b"\xed\xa0\x80")
    )

    async with grpc.aio.insecure_channel(stack.grpc) as channel:
        raw: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/etlpay.EtlService/Ingest")
        codes = []
        for request in bad:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await raw(request)
            codes.append(refused.value.code())

    assert codes == [grpc.StatusCode.INVALID_ARGUMENT] * 3
    assert await ids(stack, source) == []


@pytest.mark.parametrize("text", [SURROGATE_ESCAPED, SURROGATE_BYTES], ids=["escaped", "bytes"])
async def test_a_lone_surrogate_in_a_file(stack: Stack, source: str, text: bytes) -> None:
    """The row is rejected, the others are stored. In a CSV file an escape is an id like any other."""
    stack.drop(source, "a.ndjson", b'{"id": "%b"}\n{"id": "lines"}\n' % text)
    stack.drop(source, "a.csv", b"id,n\n%b,1\nrows,2\n" % text)

    good = {"lines", "rows"} | ({text.decode()} if text.isascii() else set())
    found = await stack.events_of(source, count=len(good))
    assert {event["idempotency_key"] for event in found} == good


async def test_a_lone_surrogate_in_a_queue_message(stack: Stack, source: str) -> None:
    """Kept under a hash that is its own; as a source it is none, and FAILED."""
    body = msgspec.json.encode({"source": source})
    keys = [SURROGATE_BYTES, SURROGATE_BYTES.replace(b"\x80", b"\x81")]
    messages = [aio_pika.Message(body, headers={"source": source, "ce-id": bytearray(key)}) for key in keys]

    await publish(
        stack.amqp,
        [*messages, *messages, aio_pika.Message(body, headers={"source": bytearray(SURROGATE_BYTES)})],
    )

    rows = await until(lambda: stack.fetch(OF_BODY, body), lambda found: len(found) >= 3)
    expected = [(source, "SUCCESS"), (source, "SUCCESS"), (DEMO_QUEUE_SOURCE, "FAILED")]
    assert sorted((row["source"], row["status"]) for row in rows) == sorted(expected)
    kept = {row["idempotency_key"] for row in rows if row["source"] == source}
    assert len(kept) == 2
    assert all(key.startswith("sha256:") for key in kept)


async def test_an_empty_id_and_an_empty_source(stack: Stack, source: str) -> None:
    """JSON can leave an id out, so an empty one is a mistake; where empty means absent, the event has no id."""
    body = msgspec.json.encode({"source": source})
    async with stack.client() as client:
        by_id = await client.post("/api/ingest", json={"source_name": source, "payload": {}, "id": ""})
        by_source = await client.post("/api/ingest", json={"source_name": "", "payload": {}})
        by_header = await client.post(
            "/api/ingest", json={"source_name": source, "payload": {}}, headers={"Idempotency-Key": ""}
        )
    async with grpc.aio.insecure_channel(stack.grpc) as channel:
        stub = EtlServiceStub(channel)
        grpc_id = await _code(stub, IngestRequest(source_name=source, payload_json="{}", id=""))
        grpc_source = await _code(stub, IngestRequest(source_name="", payload_json="{}"))
    stack.drop(source, "a.ndjson", b'{"id": ""}\n{"id": "line"}\n')
    stack.drop(source, "a.csv", b"id,n\n,1\nrow,2\n")
    await publish(
        stack.amqp,
        [
            aio_pika.Message(body, headers={"source": source, "ce-id": ""}),
            aio_pika.Message(body, headers={"source": ""}),
        ],
    )

    assert (by_id.status_code, by_source.status_code, by_header.status_code) == (422, 422, 400)
    assert (grpc_id[0], grpc_source[0]) == ("SUCCESS", "INVALID_ARGUMENT")
    by_queue = await until(lambda: stack.fetch(OF_BODY, body), lambda found: len(found) >= 2)
    assert sorted(row["source"] for row in by_queue) == sorted([source, DEMO_QUEUE_SOURCE])
    # By gRPC one; of the files both rows of the CSV file, and the line that has an id; by the queue one.
    found = await stack.events_of(source, count=5)
    keys = sorted((row["channel"], (row["idempotency_key"] or "").partition(":")[0]) for row in found)
    assert keys == [("file", "file"), ("file", "line"), ("file", "row"), ("grpc", ""), ("queue", "mid")]


# Names of folders are told in the log, so there is no canary in them; no name holds a slash or a NUL.
NAMES = {text.text.replace(CANARY, "odd")[:201]: text.is_id for text in TEXTS if not {"/", "\0"} & {*text.text}}
FOLDERS = sorted((name, printable and len(name) <= SOURCE_CHARS_MAX) for name, printable in NAMES.items())


@pytest.mark.parametrize(("name", "is_source"), FOLDERS, ids=range(len(FOLDERS)))
async def test_a_folder_of_any_name(stack: Stack, name: str, is_source: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """A printable name is the source of its files; under any other they end in failed/, and nothing is stored."""
    folder = stack.inbox / name
    folder.mkdir()
    (folder / "a.json").write_bytes(b'{"mark": "%b"}' % CANARY.encode())

    ended = stack.inbox.parent / ("done" if is_source else "failed") / name / "a.json"
    assert await until(lambda: _there(ended), bool)
    await stack.events_of(name, count=1 if is_source else 0)
    if not is_source:
        [reject] = (ended.parent / "a.json.rejects.ndjson").read_bytes().splitlines()
        assert CANARY.encode() not in reject


async def test_a_file_that_lies_in_no_folder(stack: Stack, source: str) -> None:
    (stack.inbox / f"{source}.json").write_bytes(b'{"mark": "%b"}' % CANARY.encode())

    ended = stack.inbox.parent / "failed" / f"{source}.json"
    assert await until(lambda: _there(ended), bool)
    assert b"folder" in ended.with_name(f"{source}.json.rejects.ndjson").read_bytes()


async def _there(path: Path) -> bool:
    return await asyncio.to_thread(path.exists)


async def test_the_tables_are_still_there(stack: Stack) -> None:
    [row] = await stack.fetch("SELECT count(*) AS count FROM raw_events")

    assert row["count"] > 0
