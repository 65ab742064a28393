"""An event whose pipeline is held is answered as a queued one: it is durable, and has no result yet."""

from typing import Any

import msgspec

from shared.contracts.errors import Problem
from shared.contracts.event import identify, now
from shared.contracts.record import Record
from shared.contracts.result import Recorded, RecordStatus, ResultKind
from shared.counters import TALLY
from shared.testing.processing import FakeProcessing
from support.gateway import GatewayMaker
from support.records import record

EVENT = {"source_name": "s", "payload": {"value": 1}, "id": "1"}
NULL = msgspec.Raw(b"null")


def holding() -> FakeProcessing:
    """Return a ledger that holds the events of source `s`."""
    processing = FakeProcessing()
    processing.held.add("s")
    return processing


def held(number: int) -> Record:
    return msgspec.structs.replace(record(number), status="HELD", result_payload=NULL)


async def test_202_for_an_event_that_is_stored_and_held(gateway: GatewayMaker) -> None:
    TALLY.take(now())
    async with gateway(holding()) as g:
        answer = await g.client.post("/api/ingest", json=EVENT)
        again = await g.client.post("/api/ingest", json=EVENT)

        event_id = str(identify("s", "1"))
        assert (answer.status_code, again.status_code) == (202, 202)
        assert answer.json() == again.json() == {"event_id": event_id, "status": "ACCEPTED"}
        assert answer.headers["location"] == f"/api/events/{event_id}"
        assert "idempotency-replayed" not in answer.headers
        assert again.headers["idempotency-replayed"] == "true"
        assert g.cache.queued == {}

    # It is in the ledger, so the audit must find it among what was stored.
    [counted] = TALLY.take(now()).counts
    assert (counted.number(ResultKind.STORED), counted.number(ResultKind.DUPLICATE)) == (1, 1)
    assert counted.number(ResultKind.QUEUED) == 0


async def test_409_for_other_content_under_the_id_of_a_held_event(gateway: GatewayMaker) -> None:
    async with gateway(holding()) as g:
        await g.client.post("/api/ingest", json=EVENT)

        answer = await g.client.post("/api/ingest", json=EVENT | {"payload": {"value": 2}})

        assert answer.status_code == 409


async def test_held_events_of_a_batch_are_accepted(gateway: GatewayMaker) -> None:
    async with gateway(holding()) as g:
        answer = await g.client.post("/api/ingest/batch", json=[EVENT, EVENT, {**EVENT, "source_name": "other"}])

        report: dict[str, Any] = answer.json()
        first, again, other = report["results"]
        assert first == {"index": 0, "status": "ACCEPTED", "event_id": str(identify("s", "1"))}
        assert again["status"] == "DUPLICATE"
        assert other["status"] == "SUCCESS"
        assert report["counts"] | {"accepted": 1, "stored": 1, "duplicate": 1, "failed": 0} == report["counts"]
        assert g.cache.queued == {}


async def test_what_was_odd_is_told_with_a_success(gateway: GatewayMaker) -> None:
    class Odd(FakeProcessing):
        async def process(self, events: Any) -> list[Recorded]:  # noqa: ANN401 - as the real one
            notes = (Problem("", "is of a type that no table takes", "unknown_type"),)
            found = await super().process(events)
            return [msgspec.structs.replace(each, errors=notes) for each in found]

    async with gateway(Odd()) as g:
        answer = await g.client.post("/api/ingest", json=EVENT)

        assert answer.status_code == 201
        assert (answer.json()["status"], answer.json()["result_payload"]) == ("SUCCESS", {"value": 1})
        assert [each["code"] for each in answer.json()["errors"]] == ["unknown_type"]


async def test_a_held_record_is_shown_and_not_kept_in_the_cache(gateway: GatewayMaker) -> None:
    async with gateway() as g:
        g.ledger.all = [held(1)]

        shown = (await g.client.get("/api/processed-records/1")).json()
        event = (await g.client.get(f"/api/events/{held(1).event_id}")).json()

        assert (shown["status"], shown["result_payload"]) == ("HELD", None)
        assert (event["state"], event["record"]["status"]) == ("stored", "HELD")
        assert g.cache.kept == {}

        g.ledger.all = [record(1)]
        assert (await g.client.get("/api/processed-records/1")).json()["status"] == "SUCCESS"


async def test_records_are_asked_for_by_the_status_held(gateway: GatewayMaker) -> None:
    async with gateway() as g:
        answer = await g.client.get("/api/processed-records", params={"status": "HELD"})

        assert answer.status_code == 200
        assert [asked.status for asked in g.ledger.asked] == [RecordStatus.HELD]
