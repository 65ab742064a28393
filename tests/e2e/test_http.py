"""The HTTP channel of the running system."""

import asyncio
from uuid import UUID

import httpx2
import pytest

from etlpay_cli import state
from etlpay_cli.layout import Layout
from etlpay_cli.local.services import NAMES
from support.stack import Stack, until

PROBLEM = "application/problem+json"


async def test_an_event_is_answered_with_its_record_and_stored_byte_for_byte(stack: Stack, source: str) -> None:
    body = b'{"source_name": "%s", "payload": {"amount":  1.10, "who": "\\u00e9\xc3\xa9"}}' % source.encode()

    async with stack.client() as client:
        answer = await client.post("/api/ingest", content=body, headers={"Content-Type": "application/json"})

    record = answer.json()
    [row] = await stack.events_of(source, count=1)
    assert answer.status_code == 201
    assert (record["id"], record["raw_event_id"]) == (row["record_id"], row["raw_event_id"])
    assert UUID(record["event_id"]) == row["event_id"]
    assert (record["status"], record["result_payload"]) == ("SUCCESS", {"amount": 1.1, "who": "éé"})
    assert record["processed_at"]
    assert row["body"] == b'{"amount":  1.10, "who": "\\u00e9\xc3\xa9"}'


async def test_the_same_id_answers_the_first_record_again_and_other_content_conflicts(
    stack: Stack, source: str
) -> None:
    event = {"source_name": source, "id": "order-1", "payload": {"amount": 10}}

    async with stack.client() as client:
        first = await client.post("/api/ingest", json=event)
        again = await client.post("/api/ingest", json=event)
        other = await client.post("/api/ingest", json=event | {"payload": {"amount": 11}})

    assert (first.status_code, again.status_code, other.status_code) == (201, 200, 409)
    assert again.json() == first.json()
    assert again.headers["Idempotency-Replayed"] == "true"
    assert other.headers["Content-Type"] == PROBLEM
    [row] = await stack.events_of(source, count=1)
    assert row["body"] == b'{"amount":10}'
    kept = await stack.fetch("SELECT body FROM conflicts WHERE raw_event_id = $1", row["raw_event_id"])
    assert [each["body"] for each in kept] == [b'{"amount":11}']


async def test_a_client_that_does_not_wait_gets_the_place_where_the_event_will_be(stack: Stack, source: str) -> None:
    async with stack.client() as client:
        answer = await client.post(
            "/api/ingest",
            json={"source_name": source, "payload": {"value": 1}},
            headers={"Prefer": "respond-async"},
        )
        assert answer.status_code == 202
        assert answer.headers["Preference-Applied"] == "respond-async"
        where = await until(lambda: client.get(answer.headers["Location"]), lambda found: _is_stored(found.json()))

    assert where.json()["record"]["status"] == "SUCCESS"
    await stack.events_of(source, count=1)


def _is_stored(found: dict[str, str]) -> bool:
    return found.get("state") == "stored"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[]", 422),
        (b'{"payload": {}}', 422),
        (b'{"source_name": "x"}', 422),
        (b'{"source_name": "no/../\\u0000way", "payload": {"secret-canary": 1}}', 422),
        (b'{"source_name": "x", "payload": [1]}', 422),
        (b'{"source_name": "x", "payload": {}, "id": ""}', 422),
        (b'{"source_name": "x", "payload": {}, "surprise-canary": 1}', 422),
        (b'{"source_name": "x", "payload": {"v": "' + b"x" * 1_100_000 + b'"}}', 413),
    ],
    ids=lambda value: value[:40].decode() if isinstance(value, bytes) else None,
)
async def test_what_cannot_be_an_event_is_refused_without_echo(stack: Stack, body: bytes, status: int) -> None:
    async with stack.client() as client:
        answer = await client.post("/api/ingest", content=body, headers={"Content-Type": "application/json"})

    assert answer.status_code == status
    assert answer.headers["Content-Type"] == PROBLEM
    assert "canary" not in answer.text


async def test_every_other_error_is_a_problem_document_too(stack: Stack) -> None:
    async with stack.client() as client:
        answers = [
            await client.get("/nowhere"),
            await client.delete("/api/ingest"),
            await client.get("/api/processed-records?limit=minus"),
            await client.get("/api/processed-records/999999999"),
            await client.get("/api/events/00000000-0000-7000-8000-000000000000"),
            await client.post("/api/ingest", content=b"x", headers={"Content-Type": "text/plain"}),
        ]

    assert [answer.status_code for answer in answers] == [404, 405, 422, 404, 404, 415]
    assert {answer.headers["Content-Type"] for answer in answers} == {PROBLEM}


@pytest.mark.parametrize("form", ["array", "ndjson"])
async def test_a_batch_answers_each_item_in_order_and_one_bad_item_fails_alone(
    stack: Stack, source: str, form: str
) -> None:
    items = [
        b'{"source_name": "%s", "id": "%d", "payload": {"n": %d}}' % (source.encode(), n % 8, n % 8) for n in range(10)
    ]
    items[5] = b'{"source_name": "%s", "payload": "no object"}' % source.encode()
    array = form == "array"
    body = b"[" + b",".join(items) + b"]" if array else b"\n".join(items)

    async with stack.client() as client:
        answer = await client.post(
            "/api/ingest/batch",
            content=body,
            headers={"Content-Type": "application/json" if array else "application/x-ndjson"},
        )

    document = answer.json()
    assert answer.status_code == 200
    assert [each["index"] for each in document["results"]] == list(range(10))
    assert [each["status"] for each in document["results"]] == ["SUCCESS"] * 5 + ["REFUSED"] + ["SUCCESS"] * 2 + [
        "DUPLICATE"
    ] * 2
    assert {name: document["counts"][name] for name in ("received", "stored", "duplicate", "refused")} == {
        "received": 10,
        "stored": 7,
        "duplicate": 2,
        "refused": 1,
    }
    await stack.events_of(source, count=7)


async def test_records_can_be_filtered_and_paged_without_missing_or_repeating_one(stack: Stack, source: str) -> None:
    async with stack.client() as client:
        await asyncio.gather(
            *(client.post("/api/ingest", json={"source_name": source, "payload": {"n": n}}) for n in range(25))
        )
        seen: list[int] = []
        query: dict[str, str] = {"source": source, "status": "SUCCESS", "limit": "10"}
        for _ in range(3):
            page = (await client.get("/api/processed-records", params=query)).json()
            seen += [item["id"] for item in page["items"]]
            query["cursor"] = page["next"] or ""
        one = await client.get(f"/api/processed-records/{seen[0]}")
        sources = await client.get("/api/sources")

    assert len(seen) == len(set(seen)) == 25
    assert page["next"] is None
    assert one.json()["source"] == source
    assert source in {item["name"] for item in sources.json()["items"]}


async def test_the_documentation_and_health_answer_and_nothing_of_the_inside(stack: Stack) -> None:
    async with stack.client() as client:
        pages = {path: await client.get(path) for path in ("/docs", "/openapi.json", "/livez", "/readyz?verbose")}
        metrics = await client.get("/metrics")

    assert {path: page.status_code for path, page in pages.items()} == dict.fromkeys(pages, 200)
    assert pages["/openapi.json"].json()["openapi"].startswith("3.1")
    assert pages["/readyz?verbose"].json() == {"status": "ready"}
    assert metrics.status_code == 404


@pytest.mark.parametrize("name", NAMES)
async def test_each_service_tells_the_operator_of_its_inside_on_a_port_of_its_own(
    local_stack: Stack, name: str
) -> None:
    known = state.read_state(Layout(local_stack.root).state)
    assert known is not None
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{known.ports[f'{name}-ops']}") as client:
        ready = await client.get("/readyz?verbose")
        metrics = await client.get("/metrics")

    assert "ok" in ready.json()["dependencies"].values()
    assert "etlpay_" in metrics.text
