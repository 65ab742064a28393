"""Ids and names that would be commands, markup or line ends elsewhere: data here, at every door, or refused."""

from urllib.parse import quote

import aio_pika
import grpc.aio
import msgspec
import pytest

from shared.rpc.etlpay_pb2 import IngestRequest
from shared.rpc.etlpay_pb2_grpc import EtlServiceStub
from support.hostile import TEXTS, Text
from support.stack import Stack

PROBLEM = "application/problem+json"
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
    """None of them is a source: a source is a name for folders, metrics and addresses too."""
    async with stack.client() as client:
        answer = await client.post("/api/ingest", json={"source_name": text.text, "payload": {}})

    assert (answer.status_code, answer.headers["Content-Type"]) == (422, PROBLEM)
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
    assert [answer.text for answer in answers if text.text in answer.text] == []


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
    assert by_source[0] == "INVALID_ARGUMENT"
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
    """What was taken is kept: under the id, or under its hash; a source that is none is the default one."""
    body = msgspec.json.encode({"source": source})
    named = aio_pika.Message(body, headers={"source": source, "ce-id": text.text, "ce-type": text.text[:50_000]})
    other = aio_pika.Message(body, headers={"source": text.text[:50_000]})
    if len(text.text) > 50_000:
        named.headers["ce-id"] = text.text[:50_000]

    async with await aio_pika.connect(stack.amqp) as connection:
        amqp_channel = await connection.channel()
        for message in (named, named, other):
            await amqp_channel.default_exchange.publish(message, routing_key="etl-queue")

    [event] = await stack.events_of(source, count=1)
    key = event["idempotency_key"]
    assert key == text.text if text.is_id else key.startswith("sha256:")
    rows = await stack.fetch("SELECT source FROM events WHERE body = $1", body)
    assert {row["source"] for row in rows} <= {source, "queue-worker-demo"}


async def test_the_tables_are_still_there(stack: Stack) -> None:
    [row] = await stack.fetch("SELECT count(*) AS count FROM raw_events")

    assert row["count"] > 0
