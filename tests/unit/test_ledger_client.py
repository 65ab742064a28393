"""The client that follows the ledger: pages, pauses, and what it does while the API is away."""

import asyncio
import itertools
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import httpx2
import msgspec
import pytest

from etlpay_client import ApiError, ApiUnavailableError
from etlpay_client.http import HttpClient, body_of, connection_options
from etlpay_client.ledger import LedgerClient, LedgerRecord
from support.records import record

Answer = httpx2.Response | Exception


def item(number: int, payload: bytes = b"{}") -> dict[str, Any]:
    made: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(record(number)))
    return made | {
        "result_payload": msgspec.Raw(payload), "position": f"p{number}", "pipeline": None, "pipeline_version": None,
        "row_count": None, "cause": None,
    }  # fmt: skip


def page(*items: dict[str, Any], leads_to: str, more: bool = False) -> httpx2.Response:
    return httpx2.Response(200, content=msgspec.json.encode({"items": items, "next": leads_to, "more": more}))


def problem(status: int, name: str, **headers: str) -> httpx2.Response:
    body = msgspec.json.encode({"type": f"/docs/problems#{name}", "title": "t", "status": status, "detail": "why"})
    return httpx2.Response(status, content=body, headers=headers)


class Api:
    """Answers one request after the other; what was asked, and how long the client paused."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: Answer) -> None:
        self.asked: list[dict[str, str]] = []
        self.authorization = ""
        self.pauses: list[float] = []
        self._answers: Iterator[Answer] = iter(answers)
        monkeypatch.setattr(asyncio, "sleep", self._pause)

    def client(self, **more: str) -> LedgerClient:
        client = LedgerClient("http://gateway", **more)  # type: ignore[arg-type]  # options of any type
        client._http._http = httpx2.AsyncClient(
            **connection_options("http://gateway", api_key=more.get("api_key")),
            transport=httpx2.MockTransport(self._answer),
        )
        return client

    def _answer(self, request: httpx2.Request) -> httpx2.Response:
        self.asked.append(dict(request.url.params))
        self.authorization = request.headers.get("authorization", "")
        answer = next(self._answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def _pause(self, seconds: float) -> None:
        self.pauses.append(seconds)


ApiMaker = Callable[..., Api]


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> ApiMaker:
    monkeypatch.delenv("ETLPAY_API_KEY", raising=False)
    return lambda *answers: Api(monkeypatch, *answers)


async def take(
    client: LedgerClient, number: int, after: str | None = None, source: str | None = None
) -> list[LedgerRecord]:
    found: list[LedgerRecord] = []
    async with client:
        async for each in client.follow(after, source=source):
            found.append(each)
            if len(found) == number:
                return found
    raise AssertionError("the feed has ended")


async def test_it_goes_from_page_to_page_and_pauses_only_where_there_is_no_more(api: ApiMaker) -> None:
    running = api(
        page(item(1), item(2), leads_to="p2", more=True),
        page(leads_to="p9", more=True),
        page(leads_to="p9"),
        page(item(10), leads_to="p10"),
    )

    found = await take(running.client(), 3, source="shop")

    assert [each.id for each in found] == [1, 2, 10]
    assert [asked.get("after") for asked in running.asked] == [None, "p2", "p9", "p9"]
    assert {asked["source"] for asked in running.asked} == {"shop"}
    assert len(running.pauses) == 1


async def test_a_record_has_its_position_and_no_binary_float(api: ApiMaker) -> None:
    running = api(page(item(1, b'{"amount": 0.10, "n": 12345678901234567890123}'), leads_to="p1"))

    [found] = await take(running.client(api_key="etlp_x"), 1, after="p0")

    assert found.position == "p1"
    assert found.result_payload == {"amount": Decimal("0.10"), "n": 12345678901234567890123}
    assert str(found.result_payload["amount"]) == "0.10"
    assert found.processed_at.tzinfo is not None
    assert running.asked[0]["after"] == "p0"
    assert running.authorization == "Bearer etlp_x"


async def test_it_asks_again_while_the_api_is_away_and_waits_as_long_as_it_says(api: ApiMaker) -> None:
    running = api(
        page(item(1), leads_to="p1", more=True),
        httpx2.ConnectError("refused"),
        httpx2.ReadTimeout("late"),
        problem(503, "unavailable", **{"retry-after": "7"}),
        problem(429, "rate-exceeded", **{"retry-after": "2"}),
        page(item(2), leads_to="p2"),
    )

    found = await take(running.client(), 2)

    assert [each.id for each in found] == [1, 2]
    assert [asked.get("after") for asked in running.asked] == [None, *["p1"] * 5]
    assert [seconds >= least for seconds, least in zip(running.pauses, (0.05, 0.1, 7, 2), strict=True)] == [True] * 4


async def test_pauses_grow_while_nothing_is_new_and_are_short_again_after_a_record(api: ApiMaker) -> None:
    quiet = [page(leads_to="p1") for _ in range(12)]
    running = api(page(item(1), leads_to="p1"), *quiet, page(item(2), leads_to="p2"), page(leads_to="p2"),
                  page(item(3), leads_to="p3"))  # fmt: skip

    await take(running.client(), 3)

    assert max(running.pauses[:13]) <= 5
    assert running.pauses[12] > 2
    assert running.pauses[13] <= 0.1
    assert all(later >= earlier for earlier, later in itertools.pairwise(running.pauses[:6]))


async def test_a_refusal_ends_it_and_says_which(api: ApiMaker) -> None:
    running = api(problem(410, "restored"))

    with pytest.raises(ApiError) as raised:
        await take(running.client(), 1, after="old")

    assert not isinstance(raised.value, ApiUnavailableError)
    assert (raised.value.status, raised.value.problem, raised.value.detail) == (410, "restored", "why")


@pytest.mark.parametrize("body", [b"", b"<html>", b"[1]", b'{"type": 1}'])
def test_an_answer_that_is_no_problem_document_is_an_error_all_the_same(body: bytes) -> None:
    with pytest.raises(ApiUnavailableError) as raised:
        body_of(httpx2.Response(502, content=body))

    assert (raised.value.status, raised.value.problem, raised.value.retry_after_seconds) == (502, "", None)
    with pytest.raises(ApiError):
        body_of(httpx2.Response(404, content=body))


async def test_the_key_of_the_environment_is_sent_and_parameters_without_a_value_are_not(
    api: ApiMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = api(httpx2.Response(200, content=b"body"))
    monkeypatch.setenv("ETLPAY_API_KEY", "etlp_env")
    client: HttpClient = running.client()._http

    assert await client.get("/api/sources", {"limit": 1, "cursor": None}) == b"body"
    assert running.asked == [{"limit": "1"}]
    assert running.authorization == "Bearer etlp_env"
