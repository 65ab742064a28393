"""What a key may read: its own sources, one by one and in lists, out of the ledger and out of the cache."""

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import httpx2
import pytest

from shared.auth.authenticator import Access
from shared.auth.keys import generate_key
from shared.contracts.event import identify
from shared.contracts.record import Source
from support.gateway import Gateway, GatewayMaker
from support.keys import write_keys
from support.records import MOMENT, audit_line, record

KEY = generate_key()
AUTHORIZATION = {"Authorization": f"Bearer {KEY}"}
OWN, FOREIGN = "shop-1", "bank"
HOUR = {"hour": "2026-11-23T08:00:00Z"}


@pytest.fixture
async def scoped(gateway: GatewayMaker, tmp_path: Path) -> AsyncIterator[Gateway]:
    access = Access(write_keys(tmp_path / "keys.toml", (KEY, "shop", "shop*")))
    async with gateway(access=access) as running:
        running.ledger.all = [record(1, source=OWN), record(2, source=FOREIGN)]
        running.ledger.all_sources = [
            Source(id=number, name=name, created_at=MOMENT) for number, name in enumerate((OWN, FOREIGN), 1)
        ]
        running.ledger.audit_lines = [audit_line(source) for source in ("", OWN, FOREIGN)]
        yield running


async def ask(running: Gateway, path: str, **query: str) -> httpx2.Response:
    return await running.client.get(path, params=query, headers=AUTHORIZATION)


async def test_lists_hold_what_is_in_scope_and_nothing_else(scoped: Gateway) -> None:
    sources = await ask(scoped, "/api/sources")
    records = await ask(scoped, "/api/processed-records")
    feed = await ask(scoped, "/api/feed")
    audit = await ask(scoped, "/api/audit", **HOUR)

    assert [item["name"] for item in sources.json()["items"]] == [OWN]
    assert [item["source"] for item in records.json()["items"]] == [OWN]
    assert [item["source"] for item in feed.json()["items"]] == [OWN]
    assert [item["source"] for item in audit.json()["items"]] == [OWN]


@pytest.mark.parametrize("cached", [False, True])
async def test_what_is_out_of_scope_is_not_there(scoped: Gateway, *, cached: bool) -> None:
    """The response is the one for an id that does not exist: it does not say which is the case."""
    if cached:
        await scoped.cache.put_records(scoped.ledger.all, epoch=None)

    answers = [
        await ask(scoped, path)
        for path in (
            "/api/processed-records/2",
            "/api/processed-records/3",
            f"/api/events/{identify(FOREIGN, '2')}",
            f"/api/events/{UUID(int=7)}",
        )
    ]
    own = [await ask(scoped, path) for path in ("/api/processed-records/1", f"/api/events/{identify(OWN, '1')}")]

    assert [answer.status_code for answer in answers] == [404] * 4
    assert answers[0].content == answers[1].content
    assert answers[2].content == answers[3].content
    assert [answer.status_code for answer in own] == [200, 200]


async def test_a_queued_event_is_told_of_to_whom_its_source_belongs(scoped: Gateway) -> None:
    own, foreign = identify(OWN, "q"), identify(FOREIGN, "q")
    await scoped.cache.put_queued([(own, OWN), (foreign, FOREIGN)])

    own_state = await ask(scoped, f"/api/events/{own}")
    foreign_state = await ask(scoped, f"/api/events/{foreign}")

    assert own_state.json()["state"] == "queued"
    assert foreign_state.status_code == 404


@pytest.mark.parametrize("path", ["/api/processed-records", "/api/feed", "/api/audit"])
async def test_asking_for_a_source_out_of_scope_is_forbidden(scoped: Gateway, path: str) -> None:
    query = HOUR if path == "/api/audit" else {}
    refused = await ask(scoped, path, source=FOREIGN, **query)
    unknown = await ask(scoped, path, source="no-such-source", **query)
    allowed = await ask(scoped, path, source=OWN, **query)

    assert (refused.status_code, allowed.status_code) == (403, 200)
    assert refused.content == unknown.content
    assert refused.json()["type"] == "/docs/problems#forbidden"
    assert refused.json()["errors"][0]["pointer"] == "/query/source"


async def test_a_key_for_every_source_reads_every_source(gateway: GatewayMaker, tmp_path: Path) -> None:
    access = Access(write_keys(tmp_path / "keys.toml", (KEY, "operator", "*")))
    async with gateway(access=access) as running:
        running.ledger.all = [record(2, source=FOREIGN)]
        running.ledger.audit_lines = [audit_line(source) for source in ("", OWN, "*")]

        records = await ask(running, "/api/processed-records")
        audit = await ask(running, "/api/audit", **HOUR)

    assert len(records.json()["items"]) == 1
    assert [item["source"] for item in audit.json()["items"]] == ["", OWN, "*"]


PATHS = {
    "send": ("/api/ingest",),
    "read": (
        "/api/sources",
        "/api/feed",
        "/api/processed-records",
        "/api/processed-records/1",
        f"/api/events/{identify(OWN, '1')}",
    ),
    "audit": ("/api/audit?hour=2026-11-23T08:00:00Z",),
}


@pytest.mark.parametrize("may", list(PATHS))
async def test_a_key_may_do_what_it_was_made_for(gateway: GatewayMaker, tmp_path: Path, may: str) -> None:
    access = Access(write_keys(tmp_path / "keys.toml", (KEY, "shop", "shop*"), may=f'["{may}"]'))
    async with gateway(access=access) as running:
        running.ledger.all = [record(1, source=OWN)]
        event = {"source_name": OWN, "payload": {"value": 1}}
        answers = {
            path: (
                await running.client.post(path, json=event, headers=AUTHORIZATION)
                if right == "send"
                else await running.client.get(path, headers=AUTHORIZATION)
            )
            for right, paths in PATHS.items()
            for path in paths
        }

    allowed = {path for path, answer in answers.items() if answer.status_code in {200, 201}}
    assert allowed == set(PATHS[may])
    assert {answer.status_code for path, answer in answers.items() if path not in allowed} == {403}
    assert len(running.processing.events) == (may == "send")


async def test_who_sent_an_event_goes_with_it(gateway: GatewayMaker, tmp_path: Path) -> None:
    access = Access(write_keys(tmp_path / "keys.toml", (KEY, "acme", "*")))
    event = {"source_name": OWN, "payload": {"value": 1}}
    async with gateway(access=access) as running:
        await running.client.post("/api/ingest", json=event, headers=AUTHORIZATION)
        await running.client.post("/api/ingest/batch", json=[event], headers=AUTHORIZATION)

    assert [each.sender for each in running.processing.events] == ["acme", "acme"]
