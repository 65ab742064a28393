"""`POST /api/ingest/batch`: one result per event, in order, whatever the other events are."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx2
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.types import Message

from api_gateway.schemas import BATCH_PATH
from shared.contracts.errors import OutcomeUnknownError, OverloadedError, Problem, UnavailableError
from shared.contracts.event import Envelope
from shared.contracts.result import Recorded
from shared.testing.processing import FakeProcessing
from support.gateway import GatewayMaker

LINES = {"content-type": "application/x-ndjson"}


def event(number: int, **more: object) -> dict[str, object]:
    return {"source_name": "s", "id": str(number), "payload": {"value": number}, **more}


def lines(*events: object) -> bytes:
    return b"\n".join(map(msgspec.json.encode, events))


def balanced(report: dict[str, Any]) -> bool:
    """Tell whether every event received is in exactly one count, and has a result."""
    counts = dict(report["counts"])
    received, _ = counts.pop("received"), counts.pop("failed")
    positions = [result["index"] for result in report["results"]]
    return bool(received == sum(counts.values()) and positions == list(range(received)))


async def report_of(answer: httpx2.Response) -> dict[str, Any]:
    assert answer.status_code == 200
    report: dict[str, Any] = answer.json()
    assert balanced(report)
    return report


async def test_the_events_of_all_groups_came_in_a_microsecond_apart(gateway: GatewayMaker) -> None:
    async with gateway(http_batch_request_group_events=2) as g:
        await report_of(await g.client.post("/api/ingest/batch", content=lines(*map(event, range(5))), headers=LINES))
        came_in = {stored.idempotency_key: stored.received_at for stored in g.processing.events}

    assert [came_in[str(n)] - came_in["0"] for n in range(5)] == [timedelta(microseconds=n) for n in range(5)]


@pytest.mark.parametrize("as_lines", [True, False])
async def test_every_event_has_its_own_outcome(gateway: GatewayMaker, *, as_lines: bool) -> None:
    def check(stored: Envelope) -> list[Problem]:
        return [Problem("", "bad")] if b"-1" in stored.body else []

    sent = [event(1), event(1), event(1, payload={}), {"payload": {}}, 7, event(2), event(-1)]
    async with gateway(FakeProcessing(check)) as g:
        body, headers = (lines(*sent), LINES) if as_lines else (msgspec.json.encode(sent), {})

        answer = await g.client.post("/api/ingest/batch", content=body, headers=headers)

        report = await report_of(answer)
        statuses = [result["status"] for result in report["results"]]
        assert statuses == ["SUCCESS", "DUPLICATE", "CONFLICT", "REFUSED", "REFUSED", "SUCCESS", "FAILED"]
        assert report["complete"] is True
        assert report["counts"] == {
            "received": 7,
            "stored": 3,
            "duplicate": 1,
            "conflict": 1,
            "refused": 2,
            "failed": 1,
            "accepted": 0,
            "unknown": 0,
        }
        assert report["results"][1]["id"] == report["results"][0]["id"]
        assert report["results"][3]["errors"] == [{"pointer": "/source_name", "detail": "is missing"}]
        assert report["results"][6]["errors"] == [{"pointer": "", "detail": "bad"}]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 5), max_size=40), st.integers(1, 60), st.integers(1, 5))
async def test_order_and_counts_hold_however_the_bytes_and_groups_fall(
    gateway: GatewayMaker, numbers: list[int], chunk: int, group: int
) -> None:
    body = msgspec.json.encode([event(number) if number else {} for number in numbers])

    async def parts() -> AsyncIterator[bytes]:
        for start in range(0, len(body), chunk):
            yield body[start : start + chunk]

    async with gateway(http_batch_request_group_events=group, http_batch_request_groups_in_flight_max=2) as g:
        report = await report_of(await g.client.post("/api/ingest/batch", content=parts()))

        assert [result["status"] == "REFUSED" for result in report["results"]] == [not number for number in numbers]
        assert len(g.processing.events) == len(set(numbers) - {0})


async def test_an_empty_array_is_a_batch_of_none(gateway: GatewayMaker) -> None:
    async with gateway() as g:
        report = await report_of(await g.client.post("/api/ingest/batch", content=b" [ ] "))

        assert report["results"] == []


@pytest.mark.parametrize(
    ("body", "headers"),
    [(b"", {}), (b"{}", {}), (b"7", {}), (b"nonsense", {}), (b"", LINES), (b"\n\n", LINES), (b"[", {})],
)
async def test_400_where_there_is_no_event_at_all(gateway: GatewayMaker, body: bytes, headers: dict[str, str]) -> None:
    async with gateway() as g:
        answer = await g.client.post("/api/ingest/batch", content=body, headers=headers)

        assert answer.status_code == 400
        assert answer.headers["content-type"] == "application/problem+json"


async def test_what_came_before_a_broken_place_is_stored_and_told(gateway: GatewayMaker) -> None:
    async with gateway() as g:
        answer = await g.client.post(
            "/api/ingest/batch", content=msgspec.json.encode([event(1), event(2)])[:-1] + b" x "
        )

        report = await report_of(answer)
        assert [result["status"] for result in report["results"]] == ["SUCCESS", "SUCCESS", "REFUSED"]
        assert report["complete"] is False
        assert len(g.processing.events) == 2


async def test_a_line_that_is_no_json_does_not_disturb_the_next(gateway: GatewayMaker) -> None:
    async with gateway() as g:
        body = lines(event(1)) + b"\n{broken\n" + lines(event(2))

        report = await report_of(await g.client.post("/api/ingest/batch", content=body, headers=LINES))

        assert [result["status"] for result in report["results"]] == ["SUCCESS", "REFUSED", "SUCCESS"]
        assert report["complete"] is True


async def test_an_event_over_the_limit_ends_the_reading(gateway: GatewayMaker) -> None:
    async with gateway(body_bytes_max=200) as g:
        body = lines(event(1), event(2, payload={"x": "y" * 200}), event(3))

        report = await report_of(await g.client.post("/api/ingest/batch", content=body, headers=LINES))

        assert [result["status"] for result in report["results"]] == ["SUCCESS", "REFUSED"]
        assert report["complete"] is False


async def test_413_where_the_announced_length_is_over_the_limit(gateway: GatewayMaker) -> None:
    async with gateway(http_batch_request_bytes_max=100) as g:
        answer = await g.client.post("/api/ingest/batch", content=b" " * 101)

        assert answer.status_code == 413
        assert g.processing.events == []


async def test_413_where_no_event_was_taken_before_the_limit(gateway: GatewayMaker) -> None:
    async with gateway(http_batch_request_events_max=2) as g:
        answer = await g.client.post("/api/ingest/batch", content=lines(event(1), event(2), event(3)), headers=LINES)

        assert answer.status_code == 413
        assert g.processing.events == []


async def test_over_the_limit_after_events_were_taken_is_told_as_such(gateway: GatewayMaker) -> None:
    """A 413 would say that nothing was stored."""
    async with gateway(http_batch_request_events_max=3, http_batch_request_group_events=2) as g:
        body = lines(*map(event, range(5)))

        report = await report_of(await g.client.post("/api/ingest/batch", content=body, headers=LINES))

        assert [result["status"] for result in report["results"]] == ["SUCCESS"] * 3 + ["REFUSED"]
        assert report["complete"] is False
        assert len(g.processing.events) == 3


async def test_respond_async_hands_every_event_to_the_queue(gateway: GatewayMaker) -> None:
    async with gateway(http_batch_request_group_events=2) as g:
        content = msgspec.json.encode([*map(event, range(5)), 7])

        answer = await g.client.post("/api/ingest/batch", content=content, headers={"Prefer": "respond-async"})

        report = await report_of(answer)
        assert [result["status"] for result in report["results"]] == ["ACCEPTED"] * 5 + ["REFUSED"]
        assert answer.headers["preference-applied"] == "respond-async"
        assert len(g.publisher.events) == 5
        assert set(g.cache.queued) == {stored.event_id for stored in g.publisher.events}


@pytest.mark.parametrize("fault", [UnavailableError("away"), OutcomeUnknownError("late"), OverloadedError("full")])
async def test_503_where_nothing_was_taken(gateway: GatewayMaker, fault: OverloadedError) -> None:
    async with gateway(http_batch_request_group_events=2, http_batch_request_wait_seconds_max=0.01) as g:
        g.processing.away, g.publisher.fault = UnavailableError("away"), fault

        answer = await g.client.post("/api/ingest/batch", content=msgspec.json.encode([*map(event, range(9)), 7]))

        assert answer.status_code == 503
        assert "retry-after" in answer.headers


class FailingLater(FakeProcessing):
    """Goes away after its first batch."""

    async def process(self, events: "list[Envelope]") -> list[Recorded]:  # type: ignore[override]  # a fake takes what the test hands it
        outcomes = await super().process(events)
        self.away = UnavailableError("away")
        return outcomes


async def test_events_without_a_confirmation_are_unknown_and_the_rest_is_told(gateway: GatewayMaker) -> None:
    async with gateway(
        FailingLater(),
        fallback_to_queue=False,
        http_batch_request_group_events=2,
        http_batch_request_groups_in_flight_max=1,
    ) as g:
        answer = await g.client.post("/api/ingest/batch", content=msgspec.json.encode([*map(event, range(6)), 7]))

        report = await report_of(answer)
        assert [result["status"] for result in report["results"]] == ["SUCCESS"] * 2 + ["UNKNOWN"] * 4 + ["REFUSED"]
        assert report["complete"] is True


class BusyAtFirst(FakeProcessing):
    """Is overloaded twice, then works."""

    def __init__(self) -> None:
        super().__init__()
        self.refusals = 2

    async def process(self, events: "list[Envelope]") -> list[Recorded]:  # type: ignore[override]  # a fake takes what the test hands it
        if self.refusals:
            self.refusals -= 1
            raise OverloadedError("busy")
        return await super().process(events)


async def test_a_full_backlog_is_waited_for(gateway: GatewayMaker) -> None:
    async with gateway(BusyAtFirst(), fallback_to_queue=False) as g:
        report = await report_of(await g.client.post("/api/ingest/batch", content=msgspec.json.encode([event(1)])))

        assert [result["status"] for result in report["results"]] == ["SUCCESS"]


async def test_503_where_too_many_batches_are_in_hand(gateway: GatewayMaker) -> None:
    answers: list[httpx2.Response] = []

    async with gateway(http_batch_requests_max=1) as g:

        async def parts() -> AsyncIterator[bytes]:
            yield b"["
            answers.append(await g.client.post("/api/ingest/batch", content=b"[]"))
            yield b"]"

        first = await g.client.post("/api/ingest/batch", content=parts())

    assert first.status_code == 200
    assert [answer.status_code for answer in answers] == [503]


async def test_a_client_that_goes_while_it_is_refused_is_no_surprise(gateway: GatewayMaker) -> None:
    incoming: list[Message] = [{"type": "http.request", "body": b"{}", "more_body": True}, {"type": "http.disconnect"}]
    sent: list[Message] = []

    async def receive() -> Message:
        return incoming.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    async with gateway() as g:
        headers = [(b"content-type", b"text/csv")]
        await g.app({"type": "http", "method": "POST", "path": BATCH_PATH, "headers": headers}, receive, send)

    assert sent[0]["status"] == 415


async def test_an_array_is_not_taken_for_lines(gateway: GatewayMaker) -> None:
    async with gateway() as g:
        answer = await g.client.post("/api/ingest/batch", content=b"[]", headers={"content-type": "text/csv"})

        assert answer.status_code == 415
