"""Feeding the cache never waits and never grows: what does not fit is left out."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import cast

import msgspec

from processor.cache import CacheFeeder
from shared.cache import Cache
from shared.contracts.csv_row import CSV_ROW
from shared.contracts.event import Envelope
from shared.contracts.record import Record
from shared.contracts.result import Recorded, RecordStatus, ResultKind
from shared.testing.processing import FakeProcessing
from support.events import event


class FakeCache:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.epochs: list[str | None] = []

    async def put_records(self, records: Sequence[Record], *, epoch: str | None) -> None:
        self.records += records
        self.epochs.append(epoch)


async def stored(*events: Envelope) -> list[Recorded]:
    """Return what storing the events for the first time answers."""
    return await FakeProcessing().process(events)


async def drain(feeder: CacheFeeder) -> None:
    """Write what waits."""
    feeder.close()
    await feeder.run()


async def test_a_fresh_record_is_written_as_the_gateway_will_read_it() -> None:
    cache, file_at = FakeCache(), datetime(2026, 3, 1, tzinfo=UTC)
    fresh = msgspec.structs.replace(event(b'{"amount": 1.10}', key="k-1", source="shop"), file_at=file_at)
    feeder = CacheFeeder(cast("Cache", cache))
    outcomes = await stored(fresh)

    feeder.feed([fresh], outcomes, epoch="e-1")
    await drain(feeder)

    (record,) = cache.records
    assert (fresh.event_id, "shop", "http", "SUCCESS") == (
        record.event_id,
        record.source,
        record.channel,
        record.status,
    )
    assert (record.idempotency_key, record.file_at) == ("k-1", file_at)
    assert bytes(record.result_payload) == b'{"amount": 1.10}'


async def test_a_failed_record_has_no_result() -> None:
    cache, broken = FakeCache(), event(b"no JSON")
    feeder = CacheFeeder(cast("Cache", cache))

    feeder.feed([broken], await stored(broken), epoch="e-1")
    await drain(feeder)

    (record,) = cache.records
    assert record.status == "FAILED"
    assert bytes(record.result_payload) == b"null"
    assert record.errors


async def test_a_duplicate_or_a_conflict_is_no_news() -> None:
    cache, again = FakeCache(), event(key="k-1")
    feeder = CacheFeeder(cast("Cache", cache))
    (outcome,) = await stored(again)
    known = [msgspec.structs.replace(outcome, kind=kind) for kind in (ResultKind.DUPLICATE, ResultKind.CONFLICT)]

    feeder.feed([again, again], known, epoch="e-1")
    await drain(feeder)

    assert cache.records == []


async def test_a_record_travels_with_the_epoch_of_before_it_was_stored() -> None:
    cache, first, second = FakeCache(), event(), event()
    feeder = CacheFeeder(cast("Cache", cache))

    feeder.feed([first], await stored(first), epoch="before")
    feeder.feed([second], await stored(second), epoch=None)
    await drain(feeder)

    assert cache.epochs == ["before", None]


async def test_a_backfill_is_left_out() -> None:
    cache, many = FakeCache(), [event() for _ in range(201)]
    feeder = CacheFeeder(cast("Cache", cache))

    feeder.feed(many, await stored(*many), epoch="e-1")
    await drain(feeder)

    assert cache.records == []


async def test_a_large_record_is_left_out_beside_those_that_are_not() -> None:
    cache, small, large = FakeCache(), event(b"{}"), event(b'{"fill": "%b"}' % (b"x" * 70_000))
    feeder = CacheFeeder(cast("Cache", cache))

    feeder.feed([small, large], await stored(small, large), epoch="e-1")
    await drain(feeder)

    assert [record.event_id for record in cache.records] == [small.event_id]


async def test_a_slow_cache_loses_records_and_holds_up_nobody() -> None:
    cache, fresh = FakeCache(), event()
    feeder = CacheFeeder(cast("Cache", cache))
    outcomes = await stored(fresh)

    for _ in range(1_000):
        feeder.feed([fresh], outcomes, epoch="e-1")

    waiting_max = 16
    assert feeder._waiting.qsize() == waiting_max


async def test_a_large_result_is_left_out_although_its_body_is_small() -> None:
    """A row of a file is written out with the names of its columns."""
    cache, row = FakeCache(), event(b"{}")
    feeder = CacheFeeder(cast("Cache", cache))
    [outcome] = await stored(row)

    feeder.feed([row], [msgspec.structs.replace(outcome, result=b'{"a": "%b"}' % (b"x" * 70_000))], epoch="e-1")
    await drain(feeder)

    assert cache.records == []


async def test_what_waits_for_a_slow_cache_is_bounded_in_bytes() -> None:
    cache = FakeCache()
    feeder = CacheFeeder(cast("Cache", cache))

    for _ in range(8):
        batch = [event(b'{"fill": "%b"}' % (b"x" * 60_000)) for _ in range(10)]
        feeder.feed(batch, await stored(*batch), epoch="e-1")
    await drain(feeder)

    assert 10 < len(cache.records) < 1024 * 1024 / 60_000


async def test_a_held_record_is_not_kept_since_another_follows_it() -> None:
    cache, events = FakeCache(), [event(key="a", source="held"), event(key="b")]
    processing = FakeProcessing()
    processing.held.add("held")
    feeder = CacheFeeder(cast("Cache", cache))

    feeder.feed(events, await processing.process(events), epoch="e-1")
    await drain(feeder)

    assert [record.source for record in cache.records] == ["test"]


async def test_a_csv_row_without_a_result_is_written_as_an_object_of_strings() -> None:
    cache, row = FakeCache(), event(b"id,amount\n7,1.10", content_type=CSV_ROW)
    feeder = CacheFeeder(cast("Cache", cache))
    [outcome] = await stored(row)

    success = msgspec.structs.replace(outcome, status=RecordStatus.SUCCESS, errors=())
    feeder.feed([row], [success], epoch="e-1")
    await drain(feeder)

    assert bytes(cache.records[0].result_payload) == b'{"id":"7","amount":"1.10"}'
