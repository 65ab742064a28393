"""The questions, the documents, and the answers of the framework itself."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from api_gateway.http.problems import AUDIT_TOO_LARGE, PROBLEM_TYPES, HttpProblem
from api_gateway.queries.audit import AuditPart
from api_gateway.queries.records import RecordFilter
from shared.contracts.errors import OverloadedError
from shared.contracts.event import identify
from shared.contracts.record import Record, Source
from shared.contracts.result import RecordStatus
from support.gateway import FakeCache, GatewayMaker
from support.records import MOMENT as NOW
from support.records import record


async def test_pages_hold_every_record_once_while_new_ones_arrive(gateway: GatewayMaker) -> None:
    async with gateway() as g:
        g.ledger.all = [record(number) for number in range(1, 8)]
        seen: list[int] = []
        cursor: dict[str, str] = {}

        while True:
            page = (await g.client.get("/api/processed-records", params={"limit": "3"} | cursor)).json()
            seen += [item["id"] for item in page["items"]]
            g.ledger.all.append(record(100 + len(seen)))
            if page["next"] is None:
                break
            cursor = {"cursor": page["next"]}

        assert seen == [7, 6, 5, 4, 3, 2, 1]


async def test_the_filters_reach_the_ledger(gateway: GatewayMaker) -> None:
    async with gateway() as g:
        params = {
            "source": "s",
            "status": "FAILED",
            "from": "2026-11-23T10:00:00+02:00",
            "to": "2026-11-24T00:00:00Z",
        }

        answer = await g.client.get("/api/processed-records", params=params)

        assert answer.json() == {"items": [], "next": None}
        [asked] = g.ledger.asked
        assert asked == RecordFilter("s", RecordStatus.FAILED, NOW, datetime(2026, 11, 24, tzinfo=UTC))


@pytest.mark.parametrize(
    ("params", "pointer"),
    [
        ({"limit": "0"}, "/query/limit"),
        ({"limit": "many"}, "/query/limit"),
        ({"status": "OK"}, "/query/status"),
        # There is no index for it.
        ({"channel": "http"}, "/query"),
        ({"source": "*"}, "/query/source"),
        ({"source": "a\x00"}, "/query/source"),
        ({"from": "yesterday"}, "/query/from"),
        ({"from": "2026-11-23T08:00:00"}, "/query/from"),
        ({"from": "0001-01-01T00:00:00+23:59"}, "/query/from"),
        ({"cursor": "nonsense"}, "/query/cursor"),
        ({"sourcee": "s"}, "/query"),
    ],
)
async def test_a_wrong_parameter_is_named_and_not_repeated(
    gateway: GatewayMaker, params: dict[str, str], pointer: str
) -> None:
    async with gateway() as g:
        answer = await g.client.get("/api/processed-records", params=params)

        assert answer.status_code == 422
        assert answer.headers["content-type"] == "application/problem+json"
        assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]
        assert "nonsense" not in answer.text
        assert "sourcee" not in answer.text


async def test_a_record_is_read_through_the_cache(gateway: GatewayMaker) -> None:
    async with gateway() as g:
        g.ledger.all = [record(1, b'{"a": 1.10}')]

        first = await g.client.get("/api/processed-records/1")
        g.ledger.away = True
        again = await g.client.get("/api/processed-records/1")

        assert first.status_code == again.status_code == 200
        assert first.content == again.content
        assert b'"result_payload":{"a": 1.10}' in first.content


@pytest.mark.parametrize(
    "path", ["/api/processed-records/7", f"/api/events/{UUID(int=7)}", "/api/other", "/docs/assets/x"]
)
async def test_404_is_a_problem(gateway: GatewayMaker, path: str) -> None:
    async with gateway() as g:
        answer = await g.client.get(path)

        assert answer.status_code == 404
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["type"] == "/docs/problems#not-found"


async def test_an_event_is_stored_or_queued_or_unknown(gateway: GatewayMaker) -> None:
    async with gateway() as g:
        g.ledger.all = [record(1)]
        g.cache.queued = {identify("s", "1"): "s", identify("s", "2"): "s"}

        stored = await g.client.get(f"/api/events/{identify('s', '1')}")
        queued = await g.client.get(f"/api/events/{identify('s', '2')}")

        assert stored.json()["state"] == "stored"
        assert stored.json()["record"]["id"] == 1
        assert queued.json() == {"event_id": str(identify("s", "2")), "state": "queued"}


async def test_sources_come_in_pages(gateway: GatewayMaker) -> None:
    async with gateway() as g:
        g.ledger.all_sources = [Source(id=number, name=f"s{number}", created_at=NOW) for number in (1, 2, 3)]

        page = (await g.client.get("/api/sources", params={"limit": "2"})).json()
        rest = (await g.client.get("/api/sources", params={"limit": "2", "cursor": page["next"]})).json()
        whole = (await g.client.get("/api/sources")).json()

        assert [item["name"] for item in page["items"] + rest["items"]] == ["s1", "s2", "s3"]
        assert rest["next"] is None
        assert whole["items"] == page["items"] + rest["items"]
        assert list(whole) == ["items", "next"]
        assert list(whole["items"][0]) == ["id", "name", "created_at"]


@pytest.mark.parametrize(
    "path",
    ["/api/sources", "/api/feed", "/api/processed-records", "/api/processed-records/1", f"/api/events/{UUID(int=1)}"],
)
async def test_503_where_the_ledger_cannot_answer(gateway: GatewayMaker, path: str) -> None:
    async with gateway() as g:
        g.ledger.away = True

        answer = await g.client.get(path)

        assert answer.status_code == 503
        assert answer.json()["type"] == "/docs/problems#unavailable"
        assert "retry-after" in answer.headers


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/api/ingest"), ("PUT", "/api/ingest/batch"), ("POST", "/api/sources"), ("DELETE", "/livez")],
)
async def test_405_is_a_problem_that_names_what_is_allowed(gateway: GatewayMaker, method: str, path: str) -> None:
    async with gateway() as g:
        answer = await g.client.request(method, path)

        assert answer.status_code == 405
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["allow"]


class BrokenCache(FakeCache):
    """Fails as nothing should."""

    async def record(self, record_id: int) -> Record | None:  # noqa: ARG002 - it never gets so far
        raise RuntimeError("a secret")


async def test_500_is_a_problem_that_tells_nothing(gateway: GatewayMaker) -> None:
    async with gateway() as g:
        g.cache.__class__ = BrokenCache

        answer = await g.client.get("/api/processed-records/1")

        assert answer.status_code == 500
        assert answer.headers["content-type"] == "application/problem+json"
        assert "secret" not in answer.text


async def test_every_type_of_problem_has_its_place_on_the_page(gateway: GatewayMaker) -> None:
    async with gateway() as g:
        page = (await g.client.get("/docs/problems")).text

        assert all(f'id="{kind.name}"' in page for kind in PROBLEM_TYPES)


async def test_the_docs_need_no_other_host(gateway: GatewayMaker) -> None:
    async with gateway() as g:
        page = (await g.client.get("/docs")).text
        script = await g.client.get("/docs/assets/swagger-ui-bundle.js")
        style = await g.client.get("/docs/assets/swagger-ui.css")

        assert "https://" not in page
        assert script.status_code == style.status_code == 200
        assert "SwaggerUIBundle" in script.text


async def test_health_follows_the_readiness(gateway: GatewayMaker) -> None:
    async with gateway() as g:
        before = await g.client.get("/readyz")
        g.readiness.set("intake", present=True)
        after = await g.client.get("/readyz")

        assert before.status_code == 503
        assert after.status_code == 200
        assert (await g.client.get("/livez")).status_code == 200


HOUR = "2026-11-23T08:00:00Z"


async def test_an_audit_asks_for_the_hour_or_a_part_of_it(gateway: GatewayMaker) -> None:
    async with gateway() as g:
        whole = await g.client.get("/api/audit", params={"hour": "2026-11-23T10:59:59+02:00", "source": "shop"})
        times = {"from": "2026-11-23T08:15:00Z", "to": "2026-11-23T08:30:00Z"}
        part = await g.client.get("/api/audit", params={"hour": HOUR} | times)

    hour = datetime(2026, 11, 23, 8, tzinfo=UTC)
    assert (whole.status_code, part.status_code) == (200, 200)
    assert g.ledger.audited == [
        AuditPart(hour, hour, hour + timedelta(hours=1), "shop"),
        AuditPart(hour, hour + timedelta(minutes=15), hour + timedelta(minutes=30)),
    ]


@pytest.mark.parametrize(
    "times",
    [
        {"from": "2026-11-23T07:59:59Z"},
        {"to": "2026-11-23T09:00:01Z"},
        {"from": "2026-11-23T08:30:00Z", "to": "2026-11-23T08:30:00Z"},
        {"hour": "9999-12-31T23:30:00Z"},
    ],
)
async def test_a_part_that_is_none_of_its_hour_is_refused(gateway: GatewayMaker, times: dict[str, str]) -> None:
    async with gateway() as g:
        answer = await g.client.get("/api/audit", params={"hour": HOUR} | times)

        assert answer.status_code == 422
        assert g.ledger.audited == []


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (HttpProblem(AUDIT_TOO_LARGE, "ask for parts"), "audit-too-large"),
        (OverloadedError("another audit is running"), "overloaded"),
    ],
)
async def test_an_audit_that_is_refused_says_why_and_when_to_ask_again(
    gateway: GatewayMaker, error: HttpProblem | OverloadedError, kind: str
) -> None:
    async with gateway() as g:
        g.ledger.audit_error = error
        answer = await g.client.get("/api/audit", params={"hour": HOUR})

    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert answer.json()["type"] == f"/docs/problems#{kind}"


async def test_an_audit_does_not_wait_for_a_broker_that_does_not_answer(gateway: GatewayMaker) -> None:
    async def never() -> dict[str, int]:
        await asyncio.Event().wait()
        return {}

    async with gateway() as g:
        vars(g.publisher)["depths"] = never
        answer = await g.client.get("/api/audit", params={"hour": HOUR})

    assert (answer.status_code, answer.json()["queues"]) == (200, None)
