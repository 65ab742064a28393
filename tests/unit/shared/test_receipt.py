"""The tally counts every answer once, under its source, channel and hour, and never grows beyond its limit."""

import asyncio
import uuid
from datetime import UTC, datetime, timedelta

import pytest

from shared.contracts.errors import (
    InvalidEventError,
    OutcomeUnknownError,
    PermanentError,
    Problem,
    RetryableError,
    UnavailableError,
)
from shared.contracts.event import Channel, stamp
from shared.contracts.receipt import OTHER_SOURCES, Count, Progress, Receipt, Unconfirmed, hour_of, start_of
from shared.contracts.result import ErrorResult, ResultKind, error_result
from shared.counters import Tally, TotalsCollector
from shared.messaging.receipts import ReceiptSender, Report
from shared.runtime.service import running
from shared.testing.publisher import FakePublisher
from shared.wire import decode_receipt, encode_receipt, receipt_message

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


def test_answers_count_by_source_channel_and_hour() -> None:
    tally = Tally()

    tally.add(Channel.HTTP, ResultKind.STORED, "a", NOON)
    tally.add(Channel.HTTP, ResultKind.STORED, "a", NOON, 2)
    tally.add(Channel.HTTP, ResultKind.QUEUED, "a", NOON)
    tally.add(Channel.HTTP, ResultKind.STORED, "b", NOON)
    tally.add(Channel.GRPC, ResultKind.UNKNOWN, "a", NOON)
    tally.add(Channel.HTTP, ResultKind.CONFLICT, "a", NOON - timedelta(microseconds=1))

    counts = {(count.source, count.channel, start_of(count.hour)): count.results for count in tally.take(NOON).counts}
    assert counts == {
        ("a", Channel.HTTP, NOON): (3, 0, 0, 0, 1, 0),
        ("b", Channel.HTTP, NOON): (1, 0, 0, 0, 0, 0),
        ("a", Channel.GRPC, NOON): (0, 0, 0, 0, 0, 1),
        ("a", Channel.HTTP, NOON - timedelta(hours=1)): (0, 0, 1, 0, 0, 0),
    }


def test_what_was_taken_is_not_counted_again() -> None:
    tally = Tally()
    tally.add(Channel.HTTP, ResultKind.STORED, "a", NOON)

    assert len(tally.take(NOON).counts) == 1
    assert tally.take(NOON).counts == ()


def test_totals_go_on_when_counts_are_taken_and_prometheus_reads_them() -> None:
    tally = Tally()
    tally.add(Channel.HTTP, ResultKind.STORED, "a", NOON, 2)
    tally.add(Channel.HTTP, ResultKind.REFUSED, "b", NOON)
    tally.take(NOON)
    tally.add(Channel.HTTP, ResultKind.STORED, "a", NOON)
    tally.add(Channel.FILE, ResultKind.QUEUED, "a", NOON)

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

    for number in range(1_000):
        tally.add(Channel.HTTP, ResultKind.QUEUED, str(number), NOON)
    tally.add(Channel.HTTP, ResultKind.QUEUED, "0", NOON)

    counts = {count.source: count.number(ResultKind.QUEUED) for count in tally.take(NOON).counts}
    assert counts == {"0": 2, "1": 1, "2": 1, OTHER_SOURCES: 997}


def test_what_came_together_has_a_moment_each_and_keeps_it_over_the_wire() -> None:
    moments = [stamp(NOON, position) for position in range(1_000)]

    assert len(set(moments)) == 1_000
    assert {hour_of(moment) for moment in moments} == {hour_of(NOON)}


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (InvalidEventError([Problem("", "no")]), ResultKind.REFUSED),
        (UnavailableError("away"), ResultKind.UNKNOWN),
        (OutcomeUnknownError("late"), ResultKind.UNKNOWN),
    ],
)
def test_an_error_is_one_kind_of_result(error: InvalidEventError | RetryableError, kind: ResultKind) -> None:
    assert error_result(error) == ErrorResult(kind=kind, error=error)


def unconfirmed(position: int = 0) -> Unconfirmed:
    return Unconfirmed(uuid.UUID(int=position), stamp(NOON, position), Channel.HTTP)


def test_what_was_never_confirmed_counts_as_unknown_and_is_listed() -> None:
    tally = Tally()

    tally.add_unconfirmed("a", unconfirmed())

    taken = tally.take(NOON)
    assert taken.unconfirmed == (unconfirmed(),)
    assert [(count.number(ResultKind.UNKNOWN), count.unlisted) for count in taken.counts] == [(1, 0)]
    assert tally.take(NOON).unconfirmed == ()


def test_beyond_the_list_it_is_told_how_many_are_not_listed() -> None:
    tally = Tally(unconfirmed_max=2)

    for position in range(5):
        tally.add_unconfirmed("a", unconfirmed(position))

    taken = tally.take(NOON)
    assert len(taken.unconfirmed) == 2
    assert [(count.number(ResultKind.UNKNOWN), count.unlisted) for count in taken.counts] == [(5, 3)]


def test_a_receipt_says_since_when_something_is_in_hand() -> None:
    """What came in before that is counted, so nothing of it can be lost with the process."""
    tally = Tally(began_at=NOON)
    minutes = [NOON + timedelta(minutes=minute) for minute in range(6)]
    first, idle = tally.in_hand, tally.take(minutes[1]).open_since
    with tally.in_hand:
        begun_in_first = [tally.take(minutes[minute]).open_since for minute in (2, 3)]
        with tally.in_hand:
            pass
        tally.take(minutes[4])
    after = tally.take(minutes[5]).open_since

    assert first is not tally.in_hand
    assert (idle, begun_in_first, after) == (minutes[1], [minutes[1]] * 2, minutes[5])


def sending(publisher: FakePublisher, tally: Tally, report: Report | None = None) -> ReceiptSender:
    return ReceiptSender(publisher, tally, service="test", channel=Channel.HTTP, interval_seconds=3_600, report=report)


async def test_a_process_tells_of_itself_at_its_start_and_that_it_ended_in_order() -> None:
    publisher = FakePublisher()
    async with asyncio.timeout(10), running(sending(publisher, Tally())) as sender:
        await sender.opened(asyncio.Event())
        sent_at_start = len(publisher.receipts)

    opening, closing = map(decode_receipt, publisher.receipts)
    assert sent_at_start == 1
    assert opening.progress is not None
    assert closing.progress is not None
    assert (opening.number, opening.counts, opening.progress.closing) == (1, (), False)
    assert (closing.number, closing.counts, closing.progress.closing) == (2, (), True)
    assert opening.progress.began_at <= opening.progress.open_since <= opening.progress.taken_at


@pytest.mark.parametrize("direct", [True, False], ids=["the broker is away", "the processor is away"])
async def test_a_receipt_goes_whichever_way_is_open(direct: bool) -> None:  # noqa: FBT001 - a parameter
    publisher = FakePublisher()
    reported: list[bytes] = []

    async def report(receipt: bytes) -> None:
        if not direct:
            raise UnavailableError("away")
        reported.append(receipt)

    publisher.fault = UnavailableError("away") if direct else None
    assert await sending(publisher, Tally(), report)._send()

    assert (len(reported), len(publisher.receipts)) == ((1, 0) if direct else (0, 1))


async def test_the_last_receipt_is_tried_again() -> None:
    class Reluctant(FakePublisher):
        async def publish_receipt(self, body: bytes) -> None:
            self.fault = None if self.fault else OutcomeUnknownError("late")
            await super().publish_receipt(body)

    publisher = Reluctant()
    sender = sending(publisher, Tally())
    sender.close()

    await sender.run()

    [closing] = map(decode_receipt, publisher.receipts)
    assert closing.progress is not None
    assert closing.progress.closing


async def test_an_unconfirmed_receipt_is_sent_again_under_its_number_before_the_next_one() -> None:
    publisher, tally = FakePublisher(), Tally()
    sender = sending(publisher, tally)
    tally.add(Channel.HTTP, ResultKind.STORED, "a", NOON)
    publisher.fault = OutcomeUnknownError("late")

    assert not await sender._send()
    tally.add(Channel.HTTP, ResultKind.STORED, "a", NOON, 5)
    publisher.fault = None
    assert await sender._send()

    first, second = map(decode_receipt, publisher.receipts)
    assert (first.number, second.number) == (1, 2)
    assert first.instance == second.instance
    assert [receipt.counts[0].number(ResultKind.STORED) for receipt in (first, second)] == [1, 5]


class CountingPublisher(FakePublisher):
    """Events go on being answered while a receipt is on its way."""

    def __init__(self, tally: Tally) -> None:
        super().__init__()
        self._tally = tally

    async def publish_receipt(self, body: bytes) -> None:
        self._tally.add(Channel.HTTP, ResultKind.STORED, "a", NOON)
        await super().publish_receipt(body)


async def test_under_load_a_turn_sends_one_receipt() -> None:
    tally = Tally()
    publisher = CountingPublisher(tally)
    sender = sending(publisher, tally)
    tally.add(Channel.HTTP, ResultKind.STORED, "a", NOON)

    async with asyncio.timeout(5):
        assert await sender._send()

    assert len(publisher.receipts) == 1


async def test_closing_sends_what_is_left() -> None:
    publisher, tally = FakePublisher(), Tally()
    sender = sending(publisher, tally)
    tally.add(Channel.FILE, ResultKind.QUEUED, "a", NOON)

    sender.close()
    await sender.run()

    [receipt] = map(decode_receipt, publisher.receipts)
    assert isinstance(receipt, Receipt)
    assert receipt.counts[0].channel is Channel.FILE


def test_a_receipt_is_the_same_after_the_wire() -> None:
    progress = Progress(
        channel=Channel.FILE, began_at=NOON, open_since=NOON, taken_at=stamp(NOON, 1), interval_seconds=10, closing=True
    )
    count = Count("a", Channel.FILE, hour_of(NOON), (1, 2, 3, 4, 5, 6), 2)
    receipt = Receipt(
        service="file-watcher",
        instance=uuid.uuid4(),
        number=7,
        counts=(count,),
        unconfirmed=(unconfirmed(1),),
        progress=progress,
    )

    assert decode_receipt(encode_receipt(receipt)) == receipt


def test_of_a_receipt_of_the_code_before_nothing_unknown_is_listed() -> None:
    count = Count("a", Channel.FILE, hour_of(NOON), (1, 2, 3, 4, 5, 6))
    before = Receipt(service="file-watcher", instance=uuid.uuid4(), number=7, counts=(count,))

    read = decode_receipt(encode_receipt(before))

    assert read.progress is None
    assert [count.unlisted for count in read.counts] == [6]


def broken_progress(**fields: float) -> bytes:
    message = receipt_message(Receipt(service="x", instance=uuid.uuid4(), number=1, counts=()))
    good = {"channel": 1, "interval_seconds": 10.0, "taken_at_us": 1, "open_since_us": 1, "began_at_us": 1}
    for name, number in (good | fields).items():
        setattr(message.progress, name, number)
    return message.SerializeToString()


@pytest.mark.parametrize(
    "fields",
    [
        {"channel": 0},
        {"channel": 99},
        {"interval_seconds": 0.0},
        {"interval_seconds": float("nan")},
        {"interval_seconds": float("inf")},
        {"taken_at_us": 2**62},
    ],
)
def test_progress_that_is_none_is_told_as_such(fields: dict[str, float]) -> None:
    with pytest.raises(PermanentError):
        decode_receipt(broken_progress(**fields))


@pytest.mark.parametrize("body", [b"\xff\xff", b"", b"\x12\x01x"])
def test_bytes_that_are_no_receipt_are_told_as_such(body: bytes) -> None:
    with pytest.raises(PermanentError):
        decode_receipt(body)
