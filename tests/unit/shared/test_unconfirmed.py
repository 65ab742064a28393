"""What was handed over and never confirmed is listed, on every channel: else the audit could not tell it from a loss.

What was not taken is not listed, and what was answered is counted where it was answered.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import pytest
from pamqp.commands import Basic

from file_watcher.mapping import row_mapper
from file_watcher.settings import Settings as FileSettings
from queue_consumer.forwarder import Forwarder
from queue_consumer.mapping import MappingOptions
from shared.batching import BatchLimits
from shared.contracts.errors import OutcomeUnknownError, RetryableError, UnavailableError
from shared.contracts.event import Envelope, now
from shared.contracts.result import Recorded, ResultKind
from shared.counters import TALLY
from shared.files.rows import Chunk, Row
from shared.testing.processing import FakeProcessing
from shared.testing.publisher import FakePublisher
from support.calls import FakeContext, GrpcApi, batch, request
from support.gateway import run_gateway
from support.inbox import pipeline_to

ITEM = {"source_name": "shop", "payload": {"v": 1}}
LATE = OutcomeUnknownError("late")
AWAY = UnavailableError("away")


@pytest.fixture(autouse=True)
def _counted_from_here() -> Iterator[None]:
    TALLY.take(now())
    yield
    TALLY.take(now())


def counted() -> tuple[dict[str, int], set[object]]:
    """Return how many events were answered how, and the ids of those that are listed."""
    taken = TALLY.take(now())
    results: Counter[str] = Counter()
    for count in taken.counts:
        results.update({kind.name.lower(): count.number(kind) for kind in ResultKind if count.number(kind)})
    return dict(results), {each.event_id for each in taken.unconfirmed}


def held_since() -> datetime:
    """Return since when something is in hand, as the receipts after the next one would say it."""
    TALLY.take(now())
    return TALLY.take(now()).open_since


class Slow(FakeProcessing):
    """Stores at once, and answers the first batches; of those after them nobody hears."""

    def __init__(self, *, answers: int = 0) -> None:
        super().__init__()
        self.stored = asyncio.Event()
        self._answers = answers

    async def process(self, events: Sequence[Envelope]) -> list[Recorded]:
        outcomes = await super().process(events)
        if len(self.batches) > self._answers:
            self.stored.set()
            await asyncio.Event().wait()
        return outcomes


def ids_of(events: Sequence[Envelope]) -> set[object]:
    return {event.event_id for event in events}


async def test_a_grpc_client_that_hangs_up_leaves_its_events_listed_and_those_before_counted() -> None:
    processing = Slow(answers=1)
    api = GrpcApi(processing, batch_bytes_max=1_500)
    async with asyncio.TaskGroup() as group:
        submitting = group.create_task(api.submitter.run())
        context: Any = FakeContext([batch(*map(str, range(10)))])
        call = group.create_task(api.servicer.ingest_batch(None, context))
        await processing.stored.wait()
        call.cancel()
        await asyncio.wait([call])
        submitting.cancel()

    first, second = processing.batches
    assert (len(first), len(second)) == (7, 3)
    assert counted() == ({"stored": 7, "unknown": 3}, ids_of(second))


@pytest.mark.parametrize(("error", "listed"), [(LATE, 1), (AWAY, 0)])
async def test_a_grpc_event_is_listed_only_where_it_may_have_been_taken(error: RetryableError, listed: int) -> None:
    async with GrpcApi(fallback=0).open() as api:
        api.processing.answer_lost = error
        await api.refusal(request("a"))

    results, ids = counted()
    assert (results, len(ids)) == ({"unknown": 1}, listed)


@pytest.mark.parametrize(("error", "listed"), [(LATE, 1), (AWAY, 0)])
async def test_an_http_event_is_listed_only_where_it_may_have_been_taken(error: RetryableError, listed: int) -> None:
    async with run_gateway(fallback_to_queue=False) as g:
        g.processing.answer_lost = error
        await g.client.post("/api/ingest", json=ITEM)
        single = counted()
        await g.client.post("/api/ingest/batch", json=[ITEM, ITEM])
        several = counted()

    assert (single[0], len(single[1])) == ({"unknown": 1}, listed)
    assert (several[0], len(several[1])) == ({"unknown": 2}, 2 * listed)


@pytest.mark.parametrize("path", ["/api/ingest", "/api/ingest/batch"])
async def test_an_http_request_that_a_drain_cuts_off_leaves_its_events_listed(path: str) -> None:
    processing = Slow()
    async with run_gateway(processing) as g, asyncio.TaskGroup() as group:
        call = group.create_task(g.client.post(path, json=ITEM if path == "/api/ingest" else [ITEM]))
        await processing.stored.wait()
        held = held_since()
        call.cancel()
        await asyncio.wait([call])
        found = counted()
        # Let the gateway's own tasks end.
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    assert found == ({"unknown": 1}, ids_of(processing.events))
    assert held <= processing.events[0].received_at


class Lossy(FakePublisher):
    """Confirms nothing: of each attempt it says what is given, in this order; then the last one again."""

    def __init__(self, *errors: RetryableError) -> None:
        super().__init__()
        self._errors = list(errors)
        self.tried_all = asyncio.Event()

    async def publish_batch(self, body: bytes) -> None:
        self.messages.append(body)
        if len(self._errors) == 1:
            self.tried_all.set()
        raise self._errors.pop(0) if len(self._errors) > 1 else self._errors[0]


GIVEN_UP = [
    pytest.param([LATE, AWAY], 2, id="one attempt may have been taken"),
    pytest.param([AWAY], 0, id="none was taken"),
]


@pytest.mark.parametrize(("errors", "listed"), GIVEN_UP)
async def test_messages_that_are_given_up_are_listed_where_the_broker_may_hold_them(
    errors: list[RetryableError], listed: int
) -> None:
    class Run:
        deliveries: Sequence[Any] = ()

        async def ack(self, deliveries: Sequence[Any]) -> None:
            assert not deliveries

    class Delivery:
        is_readable = True

        def __init__(self, body: bytes) -> None:
            self.body = body
            self.properties = Basic.Properties(headers={"ce-id": f"of {len(body)} bytes"})

    publisher, run = Lossy(*errors), Run()
    run.deliveries = [Delivery(b"[{}]"), Delivery(b"[{},{},{}]")]
    options = MappingOptions(queue="etl-queue", default_source="shop", message_events_max=10)
    limits = BatchLimits(events_max=2)
    forwarder = Forwarder(publisher, options=options, limits=limits, events_max=10, interval_seconds=0.01)
    settling: Any = run
    async with asyncio.TaskGroup() as group:
        group.create_task(forwarder.settle(settling))
        await publisher.tried_all.wait()
        held = held_since()
        forwarder.drain()

    results, ids = counted()
    assert (results, len(ids)) == ({"unknown": 4}, listed)
    assert ids <= ids_of(publisher.events)
    assert held <= publisher.events[0].received_at


@pytest.mark.parametrize(("errors", "listed"), GIVEN_UP)
async def test_rows_that_are_given_up_are_listed_where_the_broker_may_hold_them(
    errors: list[RetryableError], listed: int
) -> None:
    publisher, stopping = Lossy(*errors), asyncio.Event()

    class Reading:
        source, row_filter = "shop", None
        mapper = row_mapper(None, "shop", "a.ndjson", id_field="id")

        def next_chunk(self, *_: int) -> Chunk:
            return Chunk([Row(1, b'{"id": "1"}'), Row(2, b'{"id": "2"}')], ended=True)

    reading: Any = Reading()
    async with asyncio.TaskGroup() as group:
        publishing = group.create_task(pipeline_to(publisher, FileSettings(), stopping).run(reading))
        began = now()
        await publisher.tried_all.wait()
        held = held_since()
        stopping.set()

    results, ids = counted()
    assert publishing.result() is None
    assert held <= began
    assert (results.get("unknown", 0), len(ids)) == (listed, listed)


async def test_a_call_is_in_hand_until_it_is_counted() -> None:
    """A receipt that is taken meanwhile says since when."""
    processing = Slow()
    api = GrpcApi(processing)
    async with asyncio.TaskGroup() as group:
        submitting = group.create_task(api.submitter.run())
        context: Any = FakeContext([request("a").SerializeToString()])
        call = group.create_task(api.servicer.ingest(None, context))
        await processing.stored.wait()
        held = held_since()
        call.cancel()
        await asyncio.wait([call])
        submitting.cancel()

    began = now()
    assert held <= processing.events[0].received_at
    assert held_since() >= began
