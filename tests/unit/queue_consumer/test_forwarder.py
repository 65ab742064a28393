"""A delivery is acked after everything of it was confirmed, and never otherwise."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pamqp.commands import Basic
from structlog.testing import capture_logs

from queue_consumer.forwarder import Forwarder
from queue_consumer.mapping import MappingOptions
from shared.auth.producers import Producers
from shared.batching import BatchLimits
from shared.contracts.errors import OutcomeUnknownError, OverloadedError, RetryableError, UnavailableError
from shared.testing.publisher import FakePublisher

OPTIONS = MappingOptions(queue="etl-queue", default_source="queue", message_events_max=5_000)


class FakeDelivery:
    """A delivery that remembers what the publisher held at the moment of the ack."""

    def __init__(self, publisher: FakePublisher, body: bytes, user_id: str = "", **headers: str) -> None:
        self.body = body
        self.properties = Basic.Properties(headers=dict(headers), user_id=user_id or None)
        self.is_readable = True
        self.confirmed_at_ack: int | None = None
        self._publisher = publisher

    def acked(self) -> None:
        assert self.confirmed_at_ack is None, "acked twice"
        self.confirmed_at_ack = len(self._publisher.events)


class FakeRun:
    """Deliveries that came together."""

    def __init__(self, *deliveries: FakeDelivery) -> None:
        self.deliveries = deliveries

    async def ack(self, deliveries: Sequence[FakeDelivery]) -> None:
        for delivery in deliveries:
            delivery.acked()


class Harness:
    def __init__(
        self,
        publisher: FakePublisher | None = None,
        *,
        events_max: int = 20_000,
        producers: Producers | None = None,
        limits: BatchLimits | None = None,
    ) -> None:
        self.publisher = publisher or FakePublisher()
        self.forwarder = Forwarder(
            self.publisher,
            options=OPTIONS,
            limits=limits or BatchLimits(),
            events_max=events_max,
            interval_seconds=0.01,
            producers=producers,
        )

    def deliver(self, body: bytes, user_id: str = "", **headers: str) -> FakeDelivery:
        return FakeDelivery(self.publisher, body, user_id, **headers)

    async def settle(self, *deliveries: FakeDelivery) -> None:
        run: Any = FakeRun(*deliveries)
        await self.forwarder.settle(run)


async def test_delivery_is_acked_after_its_event_was_confirmed() -> None:
    harness = Harness()
    delivery = harness.deliver(b'{"a": 1}')

    await harness.settle(delivery)

    assert delivery.confirmed_at_ack == 1
    assert [event.body for event in harness.publisher.events] == [b'{"a": 1}']


async def test_delivery_of_many_events_is_acked_after_the_last_of_its_batches() -> None:
    harness = Harness(limits=BatchLimits(events_max=1_000))
    delivery = harness.deliver(b"[" + b",".join([b"{}"] * 2_500) + b"]", id="m")

    await harness.settle(delivery)

    assert delivery.confirmed_at_ack == 2_500
    assert len(harness.publisher.messages) == 3
    assert [f"item:m#{index}" for index in range(2_500)] == [
        event.idempotency_key for event in harness.publisher.events
    ]


async def test_deliveries_that_came_together_share_a_batch() -> None:
    harness = Harness()
    deliveries = [harness.deliver(b"{}", id=str(number)) for number in range(100)]

    await harness.settle(*deliveries)

    assert [str(number) for number in range(100)] == [event.idempotency_key for event in harness.publisher.events]
    assert len(harness.publisher.messages) == 1
    assert {delivery.confirmed_at_ack for delivery in deliveries} == {100}


async def test_no_message_is_taken_apart_while_too_many_events_are_in_hand() -> None:
    """Else a run of messages of two bytes an event takes all memory while the broker confirms nothing."""
    harness = Harness(events_max=10)
    deliveries = [harness.deliver(b"[" + b",".join([b"{}"] * 9) + b"]") for _ in range(20)]

    await harness.settle(*deliveries)

    assert len(harness.publisher.events) == 180
    assert [delivery.confirmed_at_ack for delivery in deliveries[:4]] == [18, 18, 36, 36]


async def test_one_id_in_a_run_twice_is_two_acceptances() -> None:
    harness = Harness()

    await harness.settle(*(harness.deliver(b"{}", id="same") for _ in range(2)), harness.deliver(b"[{},{}]"))

    assert len({event.event_id for event in harness.publisher.events}) == 3
    assert len({event.received_at for event in harness.publisher.events}) == 4


@pytest.mark.parametrize("fault", [UnavailableError("away"), OverloadedError("full"), OutcomeUnknownError("late")])
async def test_delivery_waits_until_the_broker_takes_it(fault: RetryableError) -> None:
    harness = Harness()
    delivery = harness.deliver(b"{}")
    async with asyncio.TaskGroup() as group:
        harness.publisher.fault = fault
        settling = group.create_task(harness.settle(delivery))
        await asyncio.sleep(0.1)
        done_while_away = settling.done()
        harness.publisher.fault = None

    assert not done_while_away
    assert delivery.confirmed_at_ack == 1


async def test_retry_hands_on_the_same_events() -> None:
    class Forgetful(FakePublisher):
        async def publish_batch(self, body: bytes) -> None:
            await super().publish_batch(body)
            if len(self.messages) == 1:
                raise OutcomeUnknownError("the confirmation was lost")

    harness = Harness(Forgetful())

    await harness.settle(harness.deliver(b"{}"))

    assert len(harness.publisher.events) == 2
    assert len({event.event_id for event in harness.publisher.events}) == 1


async def test_draining_gives_back_what_cannot_be_handed_on() -> None:
    harness = Harness()
    delivery = harness.deliver(b"{}")
    async with asyncio.TaskGroup() as group:
        harness.publisher.fault = UnavailableError("away")
        group.create_task(harness.settle(delivery))
        await asyncio.sleep(0.05)
        harness.forwarder.drain()

    assert delivery.confirmed_at_ack is None


async def test_draining_acks_the_deliveries_of_a_run_that_were_handed_on_whole() -> None:
    class Filling(FakePublisher):
        async def publish_batch(self, body: bytes) -> None:
            if len(self.messages) == 2:
                raise OverloadedError("full")
            await super().publish_batch(body)

    harness = Harness(Filling(), limits=BatchLimits(events_max=2))
    deliveries = [harness.deliver(b"[{},{},{}]"), harness.deliver(b"{}"), harness.deliver(b"[{},{}]")]
    harness.forwarder.drain()

    await harness.settle(*deliveries)

    assert [delivery.confirmed_at_ack for delivery in deliveries] == [4, 4, None]


async def test_message_that_no_batch_can_hold_is_parked_whole_then_acked() -> None:
    body = b'"' + b"x" * (16 * 1024 * 1024 - 2) + b'"'
    harness = Harness()
    delivery = harness.deliver(body)

    await harness.settle(delivery)

    assert delivery.confirmed_at_ack == 0
    assert [body] == harness.publisher.parked


async def test_messages_beside_one_that_no_batch_can_hold_are_forwarded() -> None:
    body = b'"' + b"x" * (16 * 1024 * 1024 - 2) + b'"'
    harness = Harness()
    deliveries = [harness.deliver(b"{}"), harness.deliver(body), harness.deliver(b"[]")]

    await harness.settle(*deliveries)

    assert {delivery.confirmed_at_ack for delivery in deliveries} == {2}
    assert [body] == harness.publisher.parked
    assert [event.body for event in harness.publisher.events] == [b"{}", b"[]"]


BOUND = """
[[producers]]
name = "shop"
user = "producer-shop"
sources = ["shop-eu", "shop-us*"]
created = 2026-11-27T00:00:00Z
"""


@pytest.fixture
def producers(tmp_path: Path) -> Producers:
    (tmp_path / "producers.toml").write_text(BOUND, encoding="utf-8")
    return Producers(tmp_path / "producers.toml")


@pytest.mark.parametrize("source", ["shop-eu", "shop-us", "shop-us-2"])
async def test_what_a_producer_may_name_is_stored_with_its_user(producers: Producers, source: str) -> None:
    harness = Harness(producers=producers)
    delivery = harness.deliver(b"[{},{}]", user_id="producer-shop", source=source)

    await harness.settle(delivery)

    assert delivery.confirmed_at_ack == 2
    assert [(event.source, event.sender) for event in harness.publisher.events] == [(source, "producer-shop")] * 2


@pytest.mark.parametrize(
    ("user", "headers", "reason"),
    [
        ("", {"source": "shop-eu"}, "user_id"),
        ("producer", {"source": "shop-eu"}, "not among the producers"),
        ("producer-shop", {"source": "shop-eu-2"}, "source"),
        ("producer-shop", {"source": "bank", "ce-source": "shop-eu"}, "source"),
        ("producer-shop", {}, "source"),
        ("producer-shop", {"source": "*"}, "source"),
    ],
)
async def test_what_a_sender_may_not_name_is_parked_and_never_stored(
    producers: Producers, user: str, headers: dict[str, str], reason: str
) -> None:
    harness = Harness(producers=producers)
    delivery = harness.deliver(b'{"amount": 1}', user_id=user, **headers)

    with capture_logs() as logs:
        await harness.settle(delivery)

    assert (harness.publisher.events, harness.publisher.parked) == ([], [b'{"amount": 1}'])
    assert delivery.confirmed_at_ack == 0
    assert reason in harness.publisher.reasons[0]
    assert not any(text in str(logs) for text in ("amount", "shop", "bank"))


async def test_who_may_not_send_keeps_nobody_else_waiting(producers: Producers) -> None:
    harness = Harness(producers=producers)
    strangers = [harness.deliver(b"{}", source="shop-eu", id=str(number)) for number in range(20)]
    own = harness.deliver(b"{}", user_id="producer-shop", source="shop-eu", id="own")

    with capture_logs() as logs:
        await harness.settle(*strangers[:10], own, *strangers[10:])

    assert [event.idempotency_key for event in harness.publisher.events] == ["own"]
    assert len(harness.publisher.parked) == 20
    assert all(delivery.confirmed_at_ack is not None for delivery in (*strangers, own))
    assert [(entry["log_level"], entry["messages"]) for entry in logs] == [("error", 20)]


async def test_events_of_those_who_may_not_send_are_bounded_too(producers: Producers) -> None:
    harness = Harness(events_max=10, producers=producers)
    strangers = [harness.deliver(b"[" + b",".join([b"{}"] * 9) + b"]") for _ in range(4)]
    own = harness.deliver(b"{}", user_id="producer-shop", source="shop-eu")

    await harness.settle(*strangers, own)

    assert len(harness.publisher.parked) == 4
    assert own.confirmed_at_ack == 1


async def test_draining_gives_back_what_cannot_be_parked(producers: Producers) -> None:
    harness = Harness(producers=producers)
    delivery = harness.deliver(b"{}")
    harness.publisher.fault = UnavailableError("away")
    harness.forwarder.drain()

    await harness.settle(delivery)

    assert delivery.confirmed_at_ack is None


async def test_nothing_is_taken_while_nobody_knows_who_may_send(producers: Producers, tmp_path: Path) -> None:
    path = tmp_path / "producers.toml"
    path.rename(tmp_path / "aside")
    producers.look()
    harness = Harness(producers=producers)
    delivery = harness.deliver(b"{}", user_id="producer-shop", source="shop-eu")
    async with asyncio.TaskGroup() as group:
        settling = group.create_task(harness.settle(delivery))
        await asyncio.sleep(0.05)
        done_before = settling.done()
        (tmp_path / "aside").rename(path)
        producers.look()

    assert not done_before
    assert delivery.confirmed_at_ack == 1


async def test_draining_gives_back_what_nobody_knows_about(producers: Producers, tmp_path: Path) -> None:
    (tmp_path / "producers.toml").unlink()
    producers.look()
    harness = Harness(producers=producers)
    delivery = harness.deliver(b"{}", user_id="producer-shop", source="shop-eu")
    harness.forwarder.drain()

    await harness.settle(delivery)

    assert (delivery.confirmed_at_ack, harness.publisher.messages, harness.publisher.parked) == (None, [], [])


async def test_where_nobody_is_bound_everybody_names_any_source(tmp_path: Path) -> None:
    path = tmp_path / "producers.toml"
    path.write_text("# nobody\n", encoding="utf-8")
    harness = Harness(producers=Producers(path))

    await harness.settle(
        harness.deliver(b"{}", source="any"), harness.deliver(b"{}", user_id="producer", source="other")
    )

    assert [(event.source, event.sender) for event in harness.publisher.events] == [("any", ""), ("other", "producer")]
