"""The tally counts every answer once, under its source, channel and hour, and never grows beyond its limit."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from shared.contracts.errors import OutcomeUnknownError, PermanentError, RefusedError, UnavailableError
from shared.contracts.event import Channel, stamp
from shared.contracts.outcome import Accepted, Problem
from shared.contracts.receipt import OTHER_SOURCES, Answered, Fate, Receipt, Tally, fate_of, hour_of, start_of
from shared.counters import TotalsCollector
from shared.messaging.receipts import ReceiptSender
from shared.testing.publisher import FakePublisher
from shared.wire import decode_receipt

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


def test_answers_count_by_source_channel_and_hour() -> None:
    tally = Tally()

    tally.add(Channel.HTTP, [Answered("a", NOON, Fate.STORED), Answered("a", NOON, Fate.STORED, 2)])
    tally.add(Channel.HTTP, [Answered("a", NOON, Fate.QUEUED), Answered("b", NOON, Fate.STORED)])
    tally.add(Channel.GRPC, [Answered("a", NOON, Fate.UNKNOWN)])
    tally.add(Channel.HTTP, [Answered("a", NOON - timedelta(microseconds=1), Fate.CONFLICT)])

    counts = {(count.source, count.channel, start_of(count.hour)): count.fates for count in tally.take()}
    assert counts == {
        ("a", Channel.HTTP, NOON): (3, 0, 0, 0, 1, 0),
        ("b", Channel.HTTP, NOON): (1, 0, 0, 0, 0, 0),
        ("a", Channel.GRPC, NOON): (0, 0, 0, 0, 0, 1),
        ("a", Channel.HTTP, NOON - timedelta(hours=1)): (0, 0, 1, 0, 0, 0),
    }


def test_what_was_taken_is_not_counted_again() -> None:
    tally = Tally()
    tally.add(Channel.HTTP, [Answered("a", NOON, Fate.STORED)])

    assert len(tally.take()) == 1
    assert tally.take() == ()


def test_totals_go_on_when_counts_are_taken_and_prometheus_reads_them() -> None:
    tally = Tally()
    tally.add(Channel.HTTP, [Answered("a", NOON, Fate.STORED, 2), Answered("b", NOON, Fate.REFUSED)])
    tally.take()
    tally.add(Channel.HTTP, [Answered("a", NOON, Fate.STORED)])
    tally.add(Channel.FILE, [Answered("a", NOON, Fate.QUEUED)])

    found = {
        (sample.name, sample.labels["channel"]): sample.value
        for family in TotalsCollector(tally).collect()
        for sample in family.samples
        if sample.value
    }

    assert found == {
        ("etlpay_events_received_total", "http"): 4,
        ("etlpay_events_stored_total", "http"): 3,
        ("etlpay_events_refused_total", "http"): 1,
        ("etlpay_events_received_total", "file"): 1,
        ("etlpay_events_queued_total", "file"): 1,
    }


def test_sources_beyond_the_limit_count_together_and_none_is_lost() -> None:
    tally = Tally(keys_max=3)

    tally.add(Channel.HTTP, [Answered(str(number), NOON, Fate.QUEUED) for number in range(1_000)])
    tally.add(Channel.HTTP, [Answered("0", NOON, Fate.QUEUED)])

    counts = {count.source: count.fates[Fate.QUEUED] for count in tally.take()}
    assert counts == {"0": 2, "1": 1, "2": 1, OTHER_SOURCES: 997}


def test_what_came_together_has_a_moment_each_and_keeps_it_over_the_wire() -> None:
    moments = [stamp(NOON, position) for position in range(1_000)]

    assert len(set(moments)) == 1_000
    assert {hour_of(moment) for moment in moments} == {hour_of(NOON)}


@pytest.mark.parametrize(
    ("answer", "fate"),
    [
        (Accepted(), Fate.QUEUED),
        (RefusedError([Problem("", "no")]), Fate.REFUSED),
        (UnavailableError("away"), Fate.UNKNOWN),
        (OutcomeUnknownError("late"), Fate.UNKNOWN),
    ],
)
def test_an_answer_has_one_fate(answer: Accepted | RefusedError | UnavailableError, fate: Fate) -> None:
    assert fate_of(answer) is fate


async def test_an_unconfirmed_receipt_is_sent_again_under_its_number_before_the_next_one() -> None:
    publisher, tally = FakePublisher(), Tally()
    sender = ReceiptSender(publisher, tally, service="test", interval_seconds=1)
    tally.add(Channel.HTTP, [Answered("a", NOON, Fate.STORED)])
    publisher.fault = OutcomeUnknownError("late")

    assert not await sender._send()
    tally.add(Channel.HTTP, [Answered("a", NOON, Fate.STORED, 5)])
    publisher.fault = None
    assert await sender._send()

    first, second = map(decode_receipt, publisher.receipts)
    assert (first.number, second.number) == (1, 2)
    assert first.instance == second.instance
    assert [receipt.counts[0].fates[Fate.STORED] for receipt in (first, second)] == [1, 5]


class CountingPublisher(FakePublisher):
    """Events go on being answered while a receipt is on its way."""

    def __init__(self, tally: Tally) -> None:
        super().__init__()
        self._tally = tally

    async def publish_receipt(self, body: bytes) -> None:
        self._tally.add(Channel.HTTP, [Answered("a", NOON, Fate.STORED)])
        await super().publish_receipt(body)


async def test_under_load_a_turn_sends_one_receipt() -> None:
    tally = Tally()
    publisher = CountingPublisher(tally)
    sender = ReceiptSender(publisher, tally, service="test", interval_seconds=1)
    tally.add(Channel.HTTP, [Answered("a", NOON, Fate.STORED)])

    async with asyncio.timeout(5):
        assert await sender._send()

    assert len(publisher.receipts) == 1


async def test_closing_sends_what_is_left() -> None:
    publisher, tally = FakePublisher(), Tally()
    sender = ReceiptSender(publisher, tally, service="test", interval_seconds=3_600)
    tally.add(Channel.FILE, [Answered("a", NOON, Fate.QUEUED)])

    sender.close()
    await sender.run()

    [receipt] = map(decode_receipt, publisher.receipts)
    assert isinstance(receipt, Receipt)
    assert receipt.counts[0].channel is Channel.FILE


@pytest.mark.parametrize("body", [b"\xff\xff", b"", b"\x12\x01x"])
def test_bytes_that_are_no_receipt_are_told_as_such(body: bytes) -> None:
    with pytest.raises(PermanentError):
        decode_receipt(body)
