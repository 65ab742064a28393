"""From requests to envelopes and from answers to responses."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from etlpay_client import etlpay_pb2 as pb
from grpc_ingest.mapping import batch_problem, batch_response, to_envelope
from shared.contracts.errors import InvalidEventError, OutcomeUnknownError, OverloadedError, Problem
from shared.contracts.event import Channel, Envelope, identify
from shared.contracts.result import QUEUED, Recorded, RecordStatus, Result, ResultKind, error_result
from support.events import event

NOW = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)
EVENT = event(source="grpc-demo", key="order-1")
STORED = Recorded(kind=ResultKind.STORED, raw_event_id=7, record_id=9, status=RecordStatus.SUCCESS, processed_at=NOW)


def envelope(request: pb.IngestRequest, body_bytes_max: int = 1_000_000) -> Envelope:
    return to_envelope(request, received_at=NOW, body_bytes_max=body_bytes_max)


def response_to(result: Result) -> pb.IngestResponse:
    return batch_response([(EVENT, result)]).responses[0]


def problems_of(request: pb.IngestRequest, body_bytes_max: int = 1_000_000) -> dict[str, str]:
    with pytest.raises(InvalidEventError) as refused:
        envelope(request, body_bytes_max)
    return {problem.pointer: problem.detail for problem in refused.value.problems}


@given(
    payload=st.dictionaries(st.text(), st.one_of(st.integers(-(2**60), 2**60), st.text(), st.none(), st.booleans())),
    blanks=st.text(alphabet=" \t\r\n", max_size=3),
)
def test_body_is_the_payload_byte_for_byte(payload: dict[str, object], blanks: str) -> None:
    text = blanks + msgspec.json.encode(payload).decode() + blanks

    event = envelope(pb.IngestRequest(source_name="grpc-demo", payload_json=text))

    assert text.encode() == event.body
    assert event.channel is Channel.GRPC
    assert event.content_type == "application/json"


def test_attributes_travel_with_the_event() -> None:
    moment = Timestamp(seconds=1_763_884_800, nanos=123_456_789)

    event = envelope(
        pb.IngestRequest(source_name="shop", payload_json="{}", id="order-1", type="order.paid", occurred_at=moment)
    )

    assert (event.source, event.idempotency_key, event.type) == ("shop", "order-1", "order.paid")
    assert event.event_id == identify("shop", "order-1")
    assert event.occurred_at == datetime(2025, 11, 23, 8, 0, 0, 123456, tzinfo=UTC)
    assert event.received_at == NOW


def test_events_without_an_id_are_never_the_same() -> None:
    request = pb.IngestRequest(source_name="shop", payload_json="{}")

    assert envelope(request).event_id != envelope(request).event_id


def test_moment_that_is_absent_is_absent() -> None:
    assert envelope(pb.IngestRequest(source_name="shop", payload_json="{}")).occurred_at is None


@pytest.mark.parametrize(
    ("request_", "pointer"),
    [
        (pb.IngestRequest(payload_json="{}"), "/source_name"),
        (pb.IngestRequest(source_name="*", payload_json="{}"), "/source_name"),
        (pb.IngestRequest(source_name="a"), "/payload_json"),
        (pb.IngestRequest(source_name="a", payload_json="[]"), "/payload_json"),
        (pb.IngestRequest(source_name="a", payload_json='{"a": NaN}'), "/payload_json"),
        (pb.IngestRequest(source_name="a", payload_json="[" * 100_000), "/payload_json"),
        (pb.IngestRequest(source_name="a", payload_json="{}", id="a\nb"), "/id"),
        (pb.IngestRequest(source_name="a", payload_json="{}", id="x" * 256), "/id"),
        (pb.IngestRequest(source_name="a", payload_json="{}", type="\x00"), "/type"),
        (pb.IngestRequest(source_name="a", payload_json="{}", occurred_at=Timestamp(seconds=2**62)), "/occurred_at"),
        (pb.IngestRequest(source_name="a", payload_json="{}", occurred_at=Timestamp(nanos=-1)), "/occurred_at"),
    ],
)
def test_what_cannot_be_an_event_is_refused_by_field(request_: pb.IngestRequest, pointer: str) -> None:
    assert [pointer] == list(problems_of(request_))


def test_every_problem_is_named_and_no_value_is_repeated() -> None:
    card = "4111111111111111 \n"

    problems = problems_of(pb.IngestRequest(source_name=card, payload_json=card, id=card, type=card))

    assert {"/source_name", "/payload_json", "/id", "/type"} == set(problems)
    assert not any("4111" in detail for detail in problems.values())


def test_payload_over_the_limit_is_refused_before_it_is_read() -> None:
    assert problems_of(pb.IngestRequest(source_name="a", payload_json="{" * 11), body_bytes_max=10) == {
        "/payload_json": "is larger than 10 bytes"
    }


@given(st.lists(st.builds(pb.IngestRequest, id=st.text(max_size=300)), max_size=20))
def test_requests_are_counted_before_there_are_objects(requests: list[pb.IngestRequest]) -> None:
    batch = pb.IngestBatchRequest(requests=requests).SerializeToString()

    assert batch_problem(batch, 20) is None
    assert batch_problem(batch + b"\x0a\x00", len(requests)) == f"holds more than {len(requests)} requests"


@pytest.mark.parametrize(
    "batch",
    [
        b"\x0a\x00" * 11,
        b"\x78\x01" + b"\x0a\x00" * 10,
        b"\x79" + b"\x0a" * 8 + b"\x0a\x00" * 10,
        b"\x7d" + b"\x0a" * 4 + b"\x0a\x00" * 10,
        b"\x7a\x02\x0a\x00" + b"\x0a\x00" * 10,
        b"\x0b\x0c\x0a\x00",
    ],
)
def test_no_field_hides_requests_from_the_count(batch: bytes) -> None:
    assert batch_problem(batch, 10) is not None


@given(st.binary(max_size=100))
def test_the_count_of_any_bytes_ends(batch: bytes) -> None:
    assert batch_problem(batch, 1_000) in (None, "holds a field that proto3 does not have")


def test_stored_event_answers_with_its_record() -> None:
    response = response_to(STORED)

    assert (response.id, response.status, response.raw_event_id) == (9, "SUCCESS", 7)
    assert response.event_id == str(EVENT.event_id)
    assert not response.duplicate
    assert response.processed_at.ToDatetime(UTC) == NOW


def test_duplicate_answers_as_the_first_time_and_says_so() -> None:
    response = response_to(msgspec.structs.replace(STORED, kind=ResultKind.DUPLICATE))

    assert (response.id, response.status, response.duplicate) == (9, "SUCCESS", True)


def test_failed_record_answers_with_its_reasons() -> None:
    failed = msgspec.structs.replace(STORED, status=RecordStatus.FAILED, errors=(Problem("/a", "is wrong"),))

    response = response_to(failed)

    assert (response.id, response.status) == (9, "FAILED")
    assert [(problem.pointer, problem.detail) for problem in response.problems] == [("/a", "is wrong")]


@pytest.mark.parametrize(
    ("result", "status"),
    [
        (QUEUED, "ACCEPTED"),
        (msgspec.structs.replace(STORED, kind=ResultKind.CONFLICT), "CONFLICT"),
        (error_result(InvalidEventError([Problem("/id", "is wrong")])), "REFUSED"),
        (error_result(OverloadedError("full")), "UNKNOWN"),
        (error_result(OutcomeUnknownError("late")), "UNKNOWN"),
    ],
)
def test_answer_without_a_record_has_no_record_id(result: Result, status: str) -> None:
    response = response_to(result)

    assert (status, 0) == (response.status, response.id)
    assert not response.HasField("processed_at")


def test_moments_before_1970_keep_their_microseconds() -> None:
    before = datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)

    response = response_to(msgspec.structs.replace(STORED, processed_at=before))

    assert response.processed_at.ToDatetime(UTC) == before
    assert timedelta(0) < NOW - before


@pytest.mark.parametrize("kind", [ResultKind.STORED, ResultKind.DUPLICATE])
def test_a_held_event_is_answered_as_a_queued_one(kind: ResultKind) -> None:
    response = response_to(msgspec.structs.replace(STORED, kind=kind, status=RecordStatus.HELD))

    queued = response_to(QUEUED)
    queued.duplicate = kind is ResultKind.DUPLICATE
    assert response == queued


def test_a_problem_of_a_pipeline_has_its_code() -> None:
    failed = msgspec.structs.replace(
        STORED, status=RecordStatus.FAILED, errors=(Problem("/a", "is missing", "missing"),)
    )

    [problem] = response_to(failed).problems

    assert (problem.pointer, problem.detail, problem.code) == ("/a", "is missing", "missing")
