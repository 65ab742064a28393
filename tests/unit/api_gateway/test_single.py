"""`POST /api/ingest`: every answer it gives, and what of the event is stored by then."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial

import httpx2
import msgspec
import pytest

from shared.contracts.errors import OutcomeUnknownError, OverloadedError, Problem, UnavailableError
from shared.contracts.event import Envelope, identify, now
from shared.contracts.result import Recorded, ResultKind
from shared.counters import TALLY
from shared.testing.processing import FakeProcessing
from support.gateway import GatewayMaker, run_gateway

EVENT = {"source_name": "s", "payload": {"value": 123}}
EVENT_1 = {**EVENT, "id": "1"}


@pytest.fixture(params=[False, True], ids=["ASGI", "whole"])
def gateway(request: pytest.FixtureRequest) -> GatewayMaker:
    """Return what makes gateways, whose requests take either of the two ways."""
    return partial(run_gateway, over_protocol=request.param)


def problem_of(answer: httpx2.Response, status: int, name: str) -> dict[str, object]:
    """Return the problem document, after checking that it is one of this kind."""
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    document: dict[str, object] = answer.json()
    assert document["status"] == status
    assert document["type"] == f"/docs/problems#{name}"
    assert document["title"]
    assert document["detail"]
    return document


@pytest.mark.parametrize("body", [b"no JSON", b" " * 200])
async def test_a_request_without_an_event_is_counted_as_refused(gateway: GatewayMaker, body: bytes) -> None:
    """Its body is no event, or too large to be read."""
    TALLY.take(now())
    async with gateway(body_bytes_max=100) as g:
        await g.client.post("/api/ingest", content=body)

    [counted] = TALLY.take(now()).counts
    assert (counted.source, counted.number(ResultKind.REFUSED), sum(counted.results)) == ("", 1, 1)


async def test_201_after_the_event_is_stored(gateway: GatewayMaker) -> None:
    async with gateway() as g:
        answer = await g.client.post("/api/ingest", json=EVENT)

        assert answer.status_code == 201
        body = answer.json()
        assert list(body) == ["id", "raw_event_id", "event_id", "status", "result_payload", "processed_at"]
        assert body["status"] == "SUCCESS"
        assert body["result_payload"] == {"value": 123}
        assert body["event_id"] == str(g.processing.events[0].event_id)


@pytest.mark.parametrize("path", ["/api/ingest", "/api/ingest/batch"])
async def test_a_surprise_is_a_problem_that_tells_nothing(gateway: GatewayMaker, path: str) -> None:
    def surprise(_: Envelope) -> list[Problem]:
        raise RuntimeError("a secret")

    async with gateway(FakeProcessing(surprise)) as g:
        answer = await g.client.post(path, json=EVENT if path == "/api/ingest" else [EVENT])

        problem_of(answer, 500, "internal")
        assert "secret" not in answer.text


async def test_the_result_is_the_payloads_own_bytes(gateway: GatewayMaker) -> None:
    sent = b'{"amount": 1.10,  "n":123456789012345678901234567890}'
    async with gateway() as g:
        answer = await g.client.post("/api/ingest", content=b'{"source_name":"s","payload":%b}' % sent)

        assert b'"result_payload":%b,' % sent in answer.content
        assert g.processing.events[0].body == sent


async def test_200_for_the_same_event_again_with_the_first_record(gateway: GatewayMaker) -> None:
    async with gateway() as g:
        first = await g.client.post("/api/ingest", json=EVENT_1)

        again = await g.client.post("/api/ingest", json=EVENT, headers={"Idempotency-Key": '"1"'})

        assert again.status_code == 200
        assert again.headers["idempotency-replayed"] == "true"
        assert again.json() == first.json()
        assert "idempotency-replayed" not in first.headers


async def test_409_for_the_same_id_with_another_payload(gateway: GatewayMaker) -> None:
    async with gateway() as g:
        await g.client.post("/api/ingest", json=EVENT_1)

        answer = await g.client.post("/api/ingest", json={**EVENT_1, "payload": {"value": 124}})

        document = problem_of(answer, 409, "conflict")
        assert document["event_id"] == str(identify("s", "1"))
        assert document["instance"] == f"/api/events/{identify('s', '1')}"
        assert len(g.processing.events) == 1


async def test_422_with_the_record_for_an_event_that_failed_and_is_kept(gateway: GatewayMaker) -> None:
    processing = FakeProcessing(lambda _: [Problem("/amount", "is missing")])
    async with gateway(processing) as g:
        answer = await g.client.post("/api/ingest", json=EVENT_1)
        again = await g.client.post("/api/ingest", json=EVENT_1)

        document = problem_of(answer, 422, "failed")
        record = document["record"]
        assert isinstance(record, dict)
        assert record["status"] == "FAILED"
        assert record["result_payload"] is None
        assert record["errors"] == [{"pointer": "/amount", "detail": "is missing"}]
        assert len(g.processing.events) == 1
        assert again.json() == answer.json()
        assert again.headers["idempotency-replayed"] == "true"


async def test_422_for_what_is_no_event_names_the_place(gateway: GatewayMaker) -> None:
    async with gateway() as g:
        answer = await g.client.post("/api/ingest", json={"source_name": "s"})

        assert problem_of(answer, 422, "invalid")["errors"] == [{"pointer": "/payload", "detail": "is missing"}]
        assert g.processing.events == []


async def test_400_for_what_is_no_json(gateway: GatewayMaker) -> None:
    async with gateway() as g:
        problem_of(await g.client.post("/api/ingest", content=b"{"), 400, "malformed")
        problem_of(await g.client.post("/api/ingest", content=b""), 400, "malformed")


async def test_400_for_an_idempotency_key_that_cannot_be_read(gateway: GatewayMaker) -> None:
    async with gateway() as g:
        answer = await g.client.post("/api/ingest", json=EVENT, headers={"Idempotency-Key": '"open'})

        problem_of(answer, 400, "malformed")


async def test_422_for_two_different_ids(gateway: GatewayMaker) -> None:
    async with gateway() as g:
        answer = await g.client.post("/api/ingest", json=EVENT_1, headers={"Idempotency-Key": "2"})

        problem_of(answer, 422, "invalid")
        assert g.processing.events == []


@pytest.mark.parametrize("headers", [{"content-type": "text/plain"}, {"content-encoding": "gzip"}])
async def test_415_for_another_type_or_encoding(gateway: GatewayMaker, headers: dict[str, str]) -> None:
    async with gateway() as g:
        answer = await g.client.post("/api/ingest", content=msgspec.json.encode(EVENT), headers=headers)

        problem_of(answer, 415, "unsupported-media-type")


@pytest.mark.parametrize("announced", [True, False])
async def test_413_for_a_body_over_the_limit_with_and_without_a_length(
    gateway: GatewayMaker, *, announced: bool
) -> None:
    async def parts() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b" " * 10

    async with gateway(body_bytes_max=999) as g:
        answer = await g.client.post("/api/ingest", content=b" " * 1_000 if announced else parts())

        problem_of(answer, 413, "too-large")


async def test_a_body_of_exactly_the_limit_is_taken(gateway: GatewayMaker) -> None:
    document = msgspec.json.encode(EVENT)
    async with gateway(body_bytes_max=len(document)) as g:
        assert (await g.client.post("/api/ingest", content=document)).status_code == 201


async def test_408_for_a_body_that_does_not_come() -> None:
    async def parts() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(60)

    async with run_gateway(http_body_seconds_max=0.05) as g:
        problem_of(await g.client.post("/api/ingest", content=parts()), 408, "request-timeout")


async def test_room_is_given_back(gateway: GatewayMaker) -> None:
    document = msgspec.json.encode(EVENT)
    async with gateway(bodies_bytes_max=len(document)) as g:
        for body in (document, b"x" * len(document), document):
            await g.client.post("/api/ingest", content=body)

        assert len(g.processing.events) == 2


async def test_202_for_respond_async_once_the_queue_has_confirmed(gateway: GatewayMaker) -> None:
    async with gateway() as g:
        answer = await g.client.post("/api/ingest", json=EVENT_1, headers={"Prefer": "respond-async"})

        event_id = identify("s", "1")
        assert answer.status_code == 202
        assert answer.json() == {"event_id": str(event_id), "status": "ACCEPTED"}
        assert answer.headers["location"] == f"/api/events/{event_id}"
        assert answer.headers["preference-applied"] == "respond-async"
        assert [event.event_id for event in g.publisher.events] == [event_id]
        assert g.processing.events == []
        assert set(g.cache.queued) == {event_id}


async def test_202_where_the_processor_is_away(gateway: GatewayMaker) -> None:
    async with gateway() as g:
        g.processing.away = UnavailableError("away")

        answer = await g.client.post("/api/ingest", json=EVENT)

        assert answer.status_code == 202
        assert "preference-applied" not in answer.headers
        assert len(g.publisher.events) == 1


async def test_503_where_the_processor_is_away_and_falling_back_is_off(gateway: GatewayMaker) -> None:
    async with gateway(fallback_to_queue=False) as g:
        g.processing.away = UnavailableError("away")

        answer = await g.client.post("/api/ingest", json=EVENT)

        problem_of(answer, 503, "unavailable")
        assert g.publisher.events == []


@pytest.mark.parametrize(
    ("fault", "name"),
    [
        (OverloadedError("full"), "overloaded"),
        (UnavailableError("away"), "unavailable"),
        (OutcomeUnknownError("late"), "outcome-unknown"),
    ],
)
async def test_503_with_retry_after_where_both_transports_are_closed(
    gateway: GatewayMaker, fault: OverloadedError, name: str
) -> None:
    async with gateway() as g:
        g.processing.away, g.publisher.fault = UnavailableError("away"), fault

        answer = await g.client.post("/api/ingest", json=EVENT)

        problem_of(answer, 503, name)
        assert int(answer.headers["retry-after"]) >= 1


async def test_unknown_stays_unknown_where_the_processor_may_have_stored_it(gateway: GatewayMaker) -> None:
    async with gateway() as g:
        g.processing.answer_lost, g.publisher.fault = OutcomeUnknownError("late"), UnavailableError("away")

        answer = await g.client.post("/api/ingest", json=EVENT_1)
        g.processing.answer_lost = None
        again = await g.client.post("/api/ingest", json=EVENT_1)

        problem_of(answer, 503, "outcome-unknown")
        assert again.status_code == 200


class SlowProcessing(FakeProcessing):
    """Answers when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.entered = asyncio.Event()
        self.go = asyncio.Event()

    async def process(self, events: "list[Envelope]") -> list[Recorded]:  # type: ignore[override]  # a fake takes what the test hands it
        self.entered.set()
        await self.go.wait()
        return await super().process(events)


async def test_202_after_the_time_that_the_client_waits_and_the_event_is_still_one(gateway: GatewayMaker) -> None:
    """The event is in the queue by then, so 202 is true; the processor gets it too, under the same event id."""
    processing = SlowProcessing()
    async with gateway(processing) as g:
        answer = await g.client.post("/api/ingest", json=EVENT, headers={"Prefer": "wait=0"})
        processing.go.set()
        await asyncio.sleep(0)

        assert answer.status_code == 202
        assert answer.headers["preference-applied"] == "wait=0"
        assert {str(event.event_id) for event in g.publisher.events} == {answer.json()["event_id"]}


async def test_503_unknown_where_the_wait_is_over_and_the_queue_is_away(gateway: GatewayMaker) -> None:
    processing = SlowProcessing()
    async with gateway(processing) as g:
        g.publisher.fault = UnavailableError("away")

        answer = await g.client.post("/api/ingest", json=EVENT, headers={"Prefer": "wait=0"})
        processing.go.set()

        problem_of(answer, 503, "outcome-unknown")


async def test_an_answer_within_the_wait_is_given(gateway: GatewayMaker) -> None:
    async with gateway() as g:
        answer = await g.client.post("/api/ingest", json=EVENT, headers={"Prefer": "respond-async, wait=30"})

        assert answer.status_code == 201
        assert answer.headers["preference-applied"] == "wait=30"


async def test_requests_beyond_the_limit_are_turned_away_and_health_is_not(gateway: GatewayMaker) -> None:
    processing = SlowProcessing()
    async with gateway(processing, http_requests_max=1) as g, asyncio.TaskGroup() as group:
        first = group.create_task(g.client.post("/api/ingest", json=EVENT))
        await processing.entered.wait()

        second = await g.client.post("/api/ingest", json=EVENT)
        live = await g.client.get("/livez")
        processing.go.set()

    problem_of(second, 503, "overloaded")
    assert live.status_code == 200
    assert first.result().status_code == 201


async def test_many_at_once_share_batches(gateway: GatewayMaker) -> None:
    async with gateway() as g:
        answers = await asyncio.gather(*(g.client.post("/api/ingest", json=EVENT) for _ in range(200)))

        assert {answer.status_code for answer in answers} == {201}
        assert len(g.processing.events) == 200
        assert len(g.processing.batches) < 100
