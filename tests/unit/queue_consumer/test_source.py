"""A delivery is acked after everything of it was confirmed, and never otherwise."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from queue_consumer.mapping import Place
from queue_consumer.source import Source
from shared.batching import BatchLimits
from shared.contracts.errors import OutcomeUnknownError, OverloadedError, RetryableError, UnavailableError
from shared.testing.publisher import FakePublisher

PLACE = Place(queue="etl-queue", default_source="queue", message_events_max=5_000)


class FakeDelivery:
    """A delivery that remembers what the publisher held at the moment of the ack."""

    def __init__(self, publisher: FakePublisher, body: bytes, **headers: str) -> None:
        self.body = body
        self.headers = headers
        self.content_type = self.message_id = ""
        self.confirmed_at_ack: int | None = None
        self._publisher = publisher

    async def ack(self) -> None:
        assert self.confirmed_at_ack is None, "acked twice"
        self.confirmed_at_ack = len(self._publisher.events)


class Line:
    def __init__(self, *, events_max: int = 20_000, **limits: int) -> None:
        self.publisher = FakePublisher()
        self.source = Source(
            self.publisher, place=PLACE, limits=BatchLimits(**limits), events_max=events_max, interval_seconds=0.01
        )

    @asynccontextmanager
    async def open(self) -> AsyncIterator["Line"]:
        async with asyncio.TaskGroup() as group:
            group.create_task(self.source.run())
            yield self
            self.source.close()

    async def settle(self, body: bytes, **headers: str) -> FakeDelivery:
        delivery: Any = FakeDelivery(self.publisher, body, **headers)
        await self.source.settle(delivery)
        found: FakeDelivery = delivery
        return found


async def test_delivery_is_acked_after_its_event_was_confirmed() -> None:
    async with Line().open() as line:
        delivery = await line.settle(b'{"a": 1}')

    assert delivery.confirmed_at_ack == 1
    assert [event.body for event in line.publisher.events] == [b'{"a": 1}']


async def test_delivery_of_many_events_is_acked_after_the_last_of_its_batches() -> None:
    async with Line(batch_events_max=1_000).open() as line:
        delivery = await line.settle(b"[" + b",".join([b"{}"] * 2_500) + b"]", id="m")

    assert delivery.confirmed_at_ack == 2_500
    assert len(line.publisher.messages) == 3
    assert [f"m#{index}" for index in range(2_500)] == [event.idempotency_key for event in line.publisher.events]


async def test_no_message_is_taken_apart_while_too_many_events_are_in_hand() -> None:
    """Else a flood of messages of two bytes an event takes all memory while the broker confirms nothing."""
    async with Line(events_max=10).open() as line, asyncio.TaskGroup() as group:
        line.publisher.fault = UnavailableError("away")
        arrays = [group.create_task(line.settle(b"[" + b",".join([b"{}"] * 9) + b"]")) for _ in range(20)]
        await asyncio.sleep(0.05)
        in_hand = line.source.events_in_hand
        line.publisher.fault = None
        deliveries = await asyncio.gather(*arrays)

    assert in_hand == 18
    assert all(delivery.confirmed_at_ack for delivery in deliveries)
    assert len(line.publisher.events) == 180


@pytest.mark.parametrize("fault", [UnavailableError("away"), OverloadedError("full"), OutcomeUnknownError("late")])
async def test_delivery_waits_until_the_broker_takes_it(fault: RetryableError) -> None:
    async with Line().open() as line, asyncio.TaskGroup() as group:
        line.publisher.fault = fault
        settling = group.create_task(line.settle(b"{}"))
        await asyncio.sleep(0.1)
        done_while_away = settling.done()
        line.publisher.fault = None
        delivery = await settling

    assert not done_while_away
    assert delivery.confirmed_at_ack == 1


async def test_retry_hands_on_the_same_events() -> None:
    class Forgetful(FakePublisher):
        async def publish_batch(self, body: bytes) -> None:
            await super().publish_batch(body)
            if len(self.messages) == 1:
                raise OutcomeUnknownError("the confirmation was lost")

    line = Line()
    line.publisher = Forgetful()
    line.source = Source(line.publisher, place=PLACE, limits=BatchLimits(), events_max=20_000, interval_seconds=0.01)
    async with line.open():
        await line.settle(b"{}")

    assert len(line.publisher.events) == 2
    assert len({event.event_id for event in line.publisher.events}) == 1


async def test_draining_gives_back_what_cannot_be_handed_on() -> None:
    async with Line().open() as line, asyncio.TaskGroup() as group:
        line.publisher.fault = UnavailableError("away")
        settling = group.create_task(line.settle(b"{}"))
        await asyncio.sleep(0.05)
        line.source.drain()
        delivery = await settling

    assert delivery.confirmed_at_ack is None


async def test_message_that_no_batch_can_hold_is_parked_whole_then_acked() -> None:
    body = b'"' + b"x" * (16 * 1024 * 1024 - 2) + b'"'

    async with Line().open() as line:
        delivery = await line.settle(body)

    assert delivery.confirmed_at_ack == 0
    assert [body] == line.publisher.parked


async def test_messages_settled_at_once_share_batches() -> None:
    async with Line().open() as line, asyncio.TaskGroup() as group:
        for number in range(100):
            group.create_task(line.settle(b"{}", id=str(number)))

    assert len(line.publisher.events) == 100
    assert len(line.publisher.messages) < 10
