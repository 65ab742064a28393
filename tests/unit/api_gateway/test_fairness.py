"""What one caller may take of the gateway: a part of each limit, so that the others are served."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest
from starlette.types import Message

from shared.auth.authenticator import Access
from shared.auth.keys import generate_key
from support.gateway import Gateway, GatewayMaker
from support.keys import write_keys

EVENT = {"source_name": "s", "payload": {"value": 1}}
JSON = {"content-type": "application/json"}
HEADERS = [(b"host", b"127.0.0.1"), (b"content-type", b"application/json")]
GREEDY, OTHER = ("192.0.2.1", 1), ("192.0.2.2", 1)


@asynccontextmanager
async def client_at(gateway: Gateway, address: tuple[str, int]) -> AsyncIterator[httpx2.AsyncClient]:
    """Return a client that calls from an address."""
    transport = httpx2.ASGITransport(gateway.app, raise_app_exceptions=False, client=address)
    async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1", headers=JSON) as client:
        yield client


async def drip(go_on: asyncio.Event, first: bytes = b"[") -> AsyncIterator[bytes]:
    """Send the beginning of a body, and the rest when it may."""
    yield first
    await go_on.wait()
    yield b"]"


async def test_batches_of_one_caller_that_do_not_come_leave_room_for_another(gateway: GatewayMaker) -> None:
    go_on = asyncio.Event()
    async with (
        gateway() as g,
        client_at(g, GREEDY) as greedy,
        client_at(g, OTHER) as other,
        asyncio.TaskGroup() as group,
    ):
        slow = [group.create_task(greedy.post("/api/ingest/batch", content=drip(go_on))) for _ in range(8)]
        await asyncio.sleep(0.05)
        answer = await other.post("/api/ingest/batch", json=[EVENT])
        go_on.set()

    assert answer.status_code == 200
    assert sorted(call.result().status_code for call in slow) == [200] * 3 + [503] * 5


async def test_callers_with_keys_are_told_apart_by_their_names(gateway: GatewayMaker, tmp_path: Path) -> None:
    """Behind a proxy they share an address."""
    keys = [generate_key(), generate_key()]
    access = Access(write_keys(tmp_path / "keys.toml", (keys[0], "greedy", "*"), (keys[1], "other", "*")))
    headers = [{"Authorization": f"Bearer {key}"} for key in keys]
    go_on = asyncio.Event()
    async with gateway(access=access) as g, asyncio.TaskGroup() as group:
        for _ in range(8):
            group.create_task(g.client.post("/api/ingest/batch", content=drip(go_on), headers=headers[0]))
        await asyncio.sleep(0.05)
        answer = await g.client.post("/api/ingest/batch", json=[EVENT], headers=headers[1])
        go_on.set()

    assert answer.status_code == 200


async def test_bodies_of_one_caller_that_do_not_come_leave_room_for_another(gateway: GatewayMaker) -> None:
    go_on = asyncio.Event()
    async with (
        gateway() as g,
        client_at(g, GREEDY) as greedy,
        client_at(g, OTHER) as other,
        asyncio.TaskGroup() as group,
    ):
        slow = [group.create_task(greedy.post("/api/ingest", content=drip(go_on, b"{"))) for _ in range(520)]
        await asyncio.sleep(0.3)
        answer = await other.post("/api/ingest", json=EVENT)
        go_on.set()

    assert answer.status_code == 201
    assert {call.result().status_code for call in slow} == {400, 503}


async def test_503_where_bodies_in_hand_leave_too_little_for_another(gateway: GatewayMaker) -> None:
    document = msgspec.json.encode(EVENT)
    go_on = asyncio.Event()
    async with gateway(bodies_bytes_max=len(document)) as g, asyncio.TaskGroup() as group:
        group.create_task(g.client.post("/api/ingest", content=drip(go_on, b"{")))
        await asyncio.sleep(0.05)
        answer = await g.client.post("/api/ingest", content=document)
        go_on.set()

    assert (answer.status_code, answer.json()["type"]) == (503, "/docs/problems#overloaded")
    assert answer.headers["retry-after"].isdigit()


async def test_what_an_event_takes_is_taken_until_its_answer_is_read(gateway: GatewayMaker) -> None:
    """The answer repeats the payload, so a client that does not read it holds as much."""
    document = msgspec.json.encode({"source_name": "s", "payload": {"fill": "x" * 100_000}})
    reads = asyncio.Event()
    incoming: list[Message] = [{"type": "http.request", "body": document, "more_body": False}]

    async def receive() -> Message:
        return incoming.pop(0)

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            await reads.wait()

    scope = {"type": "http", "method": "POST", "path": "/api/ingest", "headers": HEADERS, "client": GREEDY}
    async with gateway(bodies_bytes_max=len(document)) as g, asyncio.TaskGroup() as group:
        group.create_task(g.app(scope, receive, send))
        await asyncio.sleep(0.1)
        before = await g.client.post("/api/ingest", content=document)
        reads.set()
        await asyncio.sleep(0.1)
        after = await g.client.post("/api/ingest", content=document)

    assert (before.status_code, after.status_code) == (503, 201)


async def test_slow_queries_of_one_caller_leave_room_for_another(gateway: GatewayMaker) -> None:
    async with (
        gateway() as g,
        client_at(g, GREEDY) as greedy,
        client_at(g, OTHER) as other,
        asyncio.TaskGroup() as group,
    ):
        g.ledger.answers_pages.clear()
        calls = [group.create_task(greedy.get("/api/processed-records")) for _ in range(20)]
        async with asyncio.timeout(10):
            while len(g.ledger.asked) < 6:  # noqa: ASYNC110 - the ledger tells nobody
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        asked = len(g.ledger.asked)
        answer = await other.get("/api/sources")
        g.ledger.answers_pages.set()

    assert asked == 6
    assert answer.status_code == 200
    assert {call.result().status_code for call in calls} == {200}


async def test_a_query_that_waits_too_long_gets_503(gateway: GatewayMaker) -> None:
    async with gateway(queries_max=1, query_wait_seconds_max=0.05) as g, asyncio.TaskGroup() as group:
        g.ledger.answers_pages.clear()
        group.create_task(g.client.get("/api/processed-records"))
        await asyncio.sleep(0.05)
        answer = await g.client.get("/api/sources")
        g.ledger.answers_pages.set()

    assert answer.status_code == 503
    assert answer.headers["retry-after"].isdigit()


@pytest.mark.parametrize("settings", [{"rate_per_key": 5}, {"rate_per_key": 1_000, "queries_rate_per_key": 5}])
async def test_queries_over_the_rate_get_429_and_those_of_others_do_not(
    gateway: GatewayMaker, settings: dict[str, Any]
) -> None:
    async with gateway(**settings) as g, client_at(g, GREEDY) as greedy, client_at(g, OTHER) as other:
        answers = [await greedy.get("/api/sources") for _ in range(60)]
        answer = await other.get("/api/sources")

    refused = [found for found in answers if found.status_code == 429]
    assert len(refused) > 40
    assert refused[0].headers["ratelimit-policy"] == '"queries";q=5;w=1'
    assert int(refused[0].headers["retry-after"]) >= 1
    assert answer.status_code == 200


async def test_without_keys_each_address_has_a_rate_of_its_own(gateway: GatewayMaker) -> None:
    async with (
        gateway(access=Access(None, rate=2)) as g,
        client_at(g, GREEDY) as greedy,
        client_at(g, OTHER) as other,
    ):
        answers = [await greedy.post("/api/ingest", json=EVENT) for _ in range(10)]
        answer = await other.post("/api/ingest", json=EVENT)

    assert (answers[-1].status_code, answer.status_code) == (429, 201)


async def test_documents_that_nobody_reads_leave_room_for_others_and_for_health(gateway: GatewayMaker) -> None:
    reads = asyncio.Event()
    sent = 0

    async def receive() -> Message:
        await reads.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        nonlocal sent
        sent += len(message.get("body", b""))
        await reads.wait()

    path = "/docs/assets/swagger-ui-bundle.js"
    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [],
    }
    async with gateway(http_pages_max=4) as g, client_at(g, OTHER) as other, asyncio.TaskGroup() as group:
        for _ in range(10):
            group.create_task(g.app(scope | {"client": GREEDY}, receive, send))
        await asyncio.sleep(0.1)
        page = await other.get("/docs")
        async with client_at(g, GREEDY) as greedy:
            more = await greedy.get("/docs")
            health = await greedy.get("/livez")
        reads.set()

    assert (page.status_code, more.status_code, health.status_code) == (200, 503, 200)
    # In pieces: what nobody reads is not handed to the server whole.
    assert sent >= 1_000_000
