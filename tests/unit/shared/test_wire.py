"""What travels between the services arrives as it was sent."""

import contextlib
import enum
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.contracts.errors import PermanentError, Problem
from shared.contracts.event import Channel, Envelope
from shared.contracts.result import Recorded, RecordStatus, ResultKind
from shared.rpc import processing_pb2 as pb
from shared.wire import (
    decode_batch,
    encode_batch,
    envelope_bytes,
    from_microseconds,
    read_results,
    result_message,
    split_batches,
    to_microseconds,
)
from support.events import event

MOMENTS = st.datetimes(timezones=st.just(UTC))
FILE_MOMENTS = MOMENTS.filter(lambda moment: moment != datetime(1970, 1, 1, tzinfo=UTC))
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
ENVELOPES = st.builds(
    Envelope,
    event_id=st.uuids(),
    source=TEXTS,
    channel=st.sampled_from(Channel),
    received_at=MOMENTS,
    body=st.binary(max_size=300),
    idempotency_key=TEXTS,
    type=TEXTS,
    occurred_at=st.none() | MOMENTS,
    content_type=TEXTS,
    origin=TEXTS,
    derived=st.booleans(),
    sender=TEXTS,
    file_at=st.none() | FILE_MOMENTS,
)
OUTCOMES = st.builds(
    Recorded,
    kind=st.sampled_from([ResultKind.STORED, ResultKind.DUPLICATE, ResultKind.CONFLICT]),
    raw_event_id=st.integers(0, 2**63 - 1),
    record_id=st.integers(0, 2**63 - 1),
    status=st.sampled_from(RecordStatus),
    processed_at=MOMENTS,
    errors=st.lists(st.builds(Problem, TEXTS, TEXTS, TEXTS), max_size=3).map(tuple),
    result=st.none() | st.binary(max_size=100),
)


@given(events=st.lists(ENVELOPES, max_size=4))
def test_a_batch_arrives_as_it_was_sent(events: list[Envelope]) -> None:
    assert decode_batch(encode_batch(events)) == events


@given(outcomes=st.lists(OUTCOMES, max_size=4))
def test_outcomes_arrive_as_they_were_sent(outcomes: list[Recorded]) -> None:
    sent = result_message(outcomes).SerializeToString()

    assert read_results(pb.OutcomeBatch.FromString(sent)) == outcomes


@given(moment=MOMENTS)
def test_no_microsecond_is_lost(moment: datetime) -> None:
    assert from_microseconds(to_microseconds(moment)) == moment


def test_a_moment_of_another_zone_is_the_same_moment() -> None:
    there = datetime(2026, 11, 23, 14, 30, 0, 1, tzinfo=timezone(timedelta(hours=5, minutes=30)))

    assert from_microseconds(to_microseconds(there)) == there


@given(body=st.binary(max_size=100))
def test_foreign_bytes_are_a_batch_or_a_permanent_error(body: bytes) -> None:
    with contextlib.suppress(PermanentError):
        decode_batch(body)


def test_the_numbers_of_our_words_are_those_of_the_contract() -> None:
    stored: list[ResultKind] = [ResultKind.STORED, ResultKind.DUPLICATE, ResultKind.CONFLICT]
    contract: tuple[tuple[Iterable[enum.IntEnum], str, list[tuple[str, int]]], ...] = (
        (Channel, "CHANNEL_", pb.Channel.items()),
        (stored, "DISPOSITION_", pb.Disposition.items()),
        (RecordStatus, "RECORD_STATUS_", pb.RecordStatus.items()),
    )
    for words, prefix, numbers in contract:
        found = {name.removeprefix(prefix): number for name, number in numbers if number}
        assert found == {word.name: word.value for word in words}


@pytest.mark.parametrize(
    "message",
    [
        pb.Envelope(event_id=b"short", channel=pb.CHANNEL_HTTP),
        pb.Envelope(event_id=uuid.uuid4().bytes),
        pb.Envelope(event_id=uuid.uuid4().bytes, channel=99),  # type: ignore[arg-type]  # a channel of a later version
        pb.Envelope(event_id=uuid.uuid4().bytes, channel=pb.CHANNEL_HTTP, received_at_us=2**62),
    ],
    ids=["id", "no channel", "unknown channel", "year"],
)
def test_an_envelope_that_breaks_the_contract_is_a_permanent_error(message: pb.Envelope) -> None:
    with pytest.raises(PermanentError):
        decode_batch(pb.EventBatch(events=[message]).SerializeToString())


@given(sizes=st.lists(st.integers(0, 400), max_size=30), events_max=st.integers(1, 7), bytes_max=st.integers(1, 2_000))
def test_batches_are_cut_in_order_within_both_limits(sizes: list[int], events_max: int, bytes_max: int) -> None:
    events = [event(b"x" * size) for size in sizes]

    batches = list(split_batches(events, events_max=events_max, bytes_max=bytes_max))

    assert [each for batch in batches for each in batch] == events
    assert all(0 < len(batch) <= events_max for batch in batches)
    assert all(sum(map(envelope_bytes, batch)) <= bytes_max or len(batch) == 1 for batch in batches)


def test_batches_are_as_full_as_the_limits_let_them_be() -> None:
    events = [event(b"x" * 100) for _ in range(10)]
    three = 3 * envelope_bytes(events[0])

    assert [len(batch) for batch in split_batches(events, events_max=100, bytes_max=three)] == [3, 3, 3, 1]
    assert [len(batch) for batch in split_batches(events, events_max=4, bytes_max=10**6)] == [4, 4, 2]
