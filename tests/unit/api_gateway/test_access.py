"""The HTTP API admits the right callers, for their sources, at their rate."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from shared.auth.authenticator import Access
from shared.auth.keys import generate_key
from support.gateway import Gateway, GatewayMaker
from support.keys import FakeClock, write_keys

KEY = generate_key()
EVENT = {"source_name": "shop-1", "payload": {"value": 1}}
QUERIES = (
    "/api/sources",
    "/api/processed-records",
    "/api/processed-records/1",
    "/api/events/0190b5a0-0000-7000-8000-000000000000",
)


@pytest.fixture
async def guarded(gateway: GatewayMaker, tmp_path: Path) -> AsyncIterator[Gateway]:
    """A gateway that knows one key."""
    access = Access(write_keys(tmp_path / "keys.toml", (KEY, "shop", "shop*")))
    async with gateway(access=access) as running:
        yield running


def authorization(key: str = KEY) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.mark.parametrize("headers", [{}, authorization(generate_key()), {"Authorization": "Basic c2hvcDpzaG9w"}])
async def test_an_event_without_a_valid_key_gets_401_and_is_not_stored(
    guarded: Gateway, headers: dict[str, str]
) -> None:
    answer = await guarded.client.post("/api/ingest", json=EVENT, headers=headers)

    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == 'Bearer realm="etlpay"'
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == "/docs/problems#unauthenticated"
    assert guarded.processing.events == []


async def test_a_missing_and_a_wrong_key_get_the_same_answer(guarded: Gateway) -> None:
    missing = await guarded.client.post("/api/ingest", json=EVENT)
    wrong = await guarded.client.post("/api/ingest", json=EVENT, headers=authorization(generate_key()))

    assert (missing.status_code, missing.content, missing.headers) == (wrong.status_code, wrong.content, wrong.headers)


async def test_an_event_of_the_keys_source_is_stored(guarded: Gateway) -> None:
    answer = await guarded.client.post("/api/ingest", json=EVENT, headers=authorization())

    assert answer.status_code == 201


async def test_an_event_of_another_source_gets_403_and_is_not_stored(guarded: Gateway) -> None:
    await guarded.processing.process([])
    answers = [
        await guarded.client.post("/api/ingest", json=EVENT | {"source_name": source}, headers=authorization())
        for source in ("bank", "no-such-source")
    ]

    assert [answer.status_code for answer in answers] == [403, 403]
    assert answers[0].content == answers[1].content
    assert answers[0].json()["errors"][0]["pointer"] == "/source_name"
    assert guarded.processing.events == []


@pytest.mark.parametrize("lines", [False, True])
async def test_an_item_of_another_source_is_refused_without_failing_the_others(
    guarded: Gateway, *, lines: bool
) -> None:
    events = [EVENT, EVENT | {"source_name": "bank"}, EVENT]
    content = b"\n".join(map(msgspec.json.encode, events)) if lines else msgspec.json.encode(events)
    media = "application/x-ndjson" if lines else "application/json"

    answer = await guarded.client.post(
        "/api/ingest/batch", content=content, headers=authorization() | {"Content-Type": media}
    )

    report: dict[str, Any] = answer.json()
    assert answer.status_code == 200
    assert [result["status"] for result in report["results"]] == ["SUCCESS", "REFUSED", "SUCCESS"]
    assert report["results"][1]["errors"][0]["pointer"] == "/source_name"
    assert (report["counts"]["stored"], report["counts"]["refused"]) == (2, 1)


async def test_a_batch_without_a_valid_key_gets_401(guarded: Gateway) -> None:
    answer = await guarded.client.post("/api/ingest/batch", json=[EVENT])

    assert (answer.status_code, guarded.processing.events) == (401, [])


async def test_a_key_that_has_expired_gets_the_answer_of_a_wrong_one(gateway: GatewayMaker, tmp_path: Path) -> None:
    access = Access(write_keys(tmp_path / "keys.toml", (KEY, "shop", "*"), expires="2026-11-23T08:00:00Z"))
    async with gateway(access=access) as running:
        expired = await running.client.post("/api/ingest", json=EVENT, headers=authorization())
        wrong = await running.client.post("/api/ingest", json=EVENT, headers=authorization(generate_key()))

    assert (expired.status_code, expired.content, expired.headers) == (401, wrong.content, wrong.headers)


@pytest.mark.parametrize("path", ["/api/ingest", "/api/ingest/batch", *QUERIES])
async def test_nobody_is_let_in_by_keys_that_could_not_be_read_for_too_long(
    gateway: GatewayMaker, tmp_path: Path, path: str
) -> None:
    """It is no fault of the client's, so it may come again."""
    clock = FakeClock()
    file = write_keys(tmp_path / "keys.toml", (KEY, "shop", "*"))
    access = Access(file, stale_seconds=60, clock=clock)
    file.unlink()
    clock.now += 61
    async with gateway(access=access) as running:
        method = "POST" if "ingest" in path else "GET"
        answer = await running.client.request(method, path, json=EVENT, headers=authorization())

    assert answer.status_code == 503
    assert answer.json()["type"] == "/docs/problems#unavailable"
    assert answer.headers["retry-after"]
    assert running.processing.events == []


@pytest.mark.parametrize("path", QUERIES)
async def test_a_query_takes_any_valid_key(guarded: Gateway, path: str) -> None:
    without = await guarded.client.get(path)
    with_key = await guarded.client.get(path, headers=authorization())

    assert without.status_code == 401
    assert with_key.status_code in {200, 404}


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/docs/problems"])
async def test_health_and_the_page_of_problems_take_no_key(guarded: Gateway, path: str) -> None:
    answer = await guarded.client.get(path)

    assert answer.status_code in {200, 503}


@pytest.mark.parametrize("path", ["/api/nothing", "/api/", "//api/ingest", "/api/../api/ingest", "/API/ingest"])
async def test_no_other_spelling_of_a_path_leads_past_the_keys(guarded: Gateway, path: str) -> None:
    answer = await guarded.client.post(path, json=EVENT)

    assert answer.status_code in {401, 404}
    assert guarded.processing.events == []


async def test_over_the_rate_an_event_gets_429_with_when_to_come_back(gateway: GatewayMaker, tmp_path: Path) -> None:
    access = Access(write_keys(tmp_path / "keys.toml", (KEY, "shop", "*")), rate=2)
    async with gateway(access=access) as running:
        answers = [await running.client.post("/api/ingest", json=EVENT, headers=authorization()) for _ in range(10)]

    assert [answers[0].status_code, answers[-1].status_code] == [201, 429]
    refused = answers[-1]
    assert int(refused.headers["retry-after"]) >= 1
    assert refused.headers["ratelimit-policy"] == '"events";q=2;w=1'
    assert refused.headers["ratelimit"].startswith('"events";r=0;t=')
    assert refused.json()["type"] == "/docs/problems#rate-exceeded"
    assert len(running.processing.events) == sum(answer.status_code == 201 for answer in answers)


async def test_over_the_rate_a_body_is_not_read(gateway: GatewayMaker, tmp_path: Path) -> None:
    access = Access(write_keys(tmp_path / "keys.toml", (KEY, "shop", "*")), rate=1, clock=FakeClock())
    async with gateway(access=access, body_bytes_max=100) as running:
        first = await running.client.post("/api/ingest", json=EVENT, headers=authorization())
        too_large = await running.client.post("/api/ingest", content=b" " * 200, headers=authorization())

    assert (first.status_code, too_large.status_code) == (201, 429)


async def test_the_events_of_a_batch_count_each(gateway: GatewayMaker, tmp_path: Path) -> None:
    access = Access(write_keys(tmp_path / "keys.toml", (KEY, "shop", "*")), rate=1)
    async with gateway(access=access) as running:
        first = await running.client.post("/api/ingest/batch", json=[EVENT] * 100, headers=authorization())
        second = await running.client.post("/api/ingest/batch", json=[EVENT], headers=authorization())

    assert (first.status_code, second.status_code) == (200, 429)
    assert 90 < int(second.headers["retry-after"]) <= 100


async def test_neither_a_key_nor_its_hash_is_logged(guarded: Gateway, capfd: pytest.CaptureFixture[str]) -> None:
    for headers in (authorization(), authorization(generate_key())):
        await guarded.client.post("/api/ingest", json=EVENT, headers=headers)

    assert "etlp_" not in "".join(capfd.readouterr())
