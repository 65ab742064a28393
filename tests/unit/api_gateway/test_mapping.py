"""Mapping: what of the bytes of one event becomes an envelope, and how the rest is refused."""

from datetime import UTC, datetime
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_gateway.ingest.mapping import read_event
from api_gateway.schemas import MalformedError
from shared.contracts.errors import InvalidEventError
from shared.contracts.event import Channel, identify

NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda values: st.lists(values, max_size=4) | st.dictionaries(st.text(), values, max_size=4),
    max_leaves=12,
)


def problems_of(document: bytes, **more: str) -> dict[str, str]:
    with pytest.raises(InvalidEventError) as refused:
        read_event(document, received_at=NOW, **more)
    return {problem.pointer: problem.detail for problem in refused.value.problems}


@given(st.dictionaries(st.text(), json_values, max_size=5), st.sampled_from([b"", b" ", b"\n\t "]))
def test_the_body_is_the_payload_byte_for_byte(payload: dict[str, object], blank: bytes) -> None:
    """Whatever the payload, its bytes are neither read nor rewritten."""
    sent = msgspec.json.encode(payload)

    event = read_event(b'{"source_name":"s","payload":%b%b%b}' % (blank, sent, blank), received_at=NOW)

    assert event.body == sent


def test_blanks_number_forms_and_member_order_within_the_payload_survive() -> None:
    body = b'{ "b" : 1.10,"a":1e3, "b":0.1000000000000000055511151231257827 }'

    event = read_event(b'{"payload": %b , "source_name":"s"}' % body, received_at=NOW)

    assert event.body == body


def test_every_attribute_lands_in_the_envelope() -> None:
    document = (
        b'{"source_name":"acquirer-1","id":"42","type":"payment.captured",'
        b'"occurred_at":"2026-11-23T10:00:00.123456+02:00","payload":{}}'
    )

    event = read_event(document, received_at=NOW)

    assert event.source == "acquirer-1"
    assert event.idempotency_key == "42"
    assert event.type == "payment.captured"
    assert event.occurred_at == datetime(2026, 11, 23, 8, 0, 0, 123456, tzinfo=UTC)
    assert event.channel is Channel.HTTP
    assert event.received_at == NOW
    assert event.event_id == identify("acquirer-1", "42")


def test_without_an_id_every_event_is_another() -> None:
    document = b'{"source_name":"s","payload":{}}'

    first, second = read_event(document, received_at=NOW), read_event(document, received_at=NOW)

    assert first.event_id != second.event_id
    assert isinstance(first.event_id, UUID)


def test_the_header_is_as_good_as_the_member() -> None:
    by_header = read_event(b'{"source_name":"s","payload":{}}', received_at=NOW, header_key="42")
    by_member = read_event(b'{"source_name":"s","payload":{},"id":"42"}', received_at=NOW)
    by_both = read_event(b'{"source_name":"s","payload":{},"id":"42"}', received_at=NOW, header_key="42")

    assert by_header.event_id == by_member.event_id == by_both.event_id
    assert by_header.idempotency_key == "42"


def test_null_is_as_absent_for_what_is_optional() -> None:
    event = read_event(b'{"source_name":"s","payload":{},"id":null,"type":null,"occurred_at":null}', received_at=NOW)

    assert (event.idempotency_key, event.type, event.occurred_at) == ("", "", None)


@pytest.mark.parametrize(
    ("document", "pointer"),
    [
        (b'{"payload":{}}', "/source_name"),
        (b'{"source_name":"s"}', "/payload"),
        (b'{"source_name":1,"payload":{}}', "/source_name"),
        (b'{"source_name":null,"payload":{}}', "/source_name"),
        (b'{"source_name":"","payload":{}}', "/source_name"),
        (b'{"source_name":"two\\nlines","payload":{}}', "/source_name"),
        (b'{"source_name":"s","payload":[]}', "/payload"),
        (b'{"source_name":"s","payload":null}', "/payload"),
        (b'{"source_name":"s","payload":"{}"}', "/payload"),
        (b'{"source_name":"s","payload":{"a":"\xff"}}', "/payload"),
        (b'{"source_name":"s","payload":{},"id":""}', "/id"),
        (b'{"source_name":"s","payload":{},"id":7}', "/id"),
        (b'{"source_name":"s","payload":{},"id":"a\\u0000b"}', "/id"),
        (b'{"source_name":"s","payload":{},"type":"\\n"}', "/type"),
        (b'{"source_name":"s","payload":{},"occurred_at":"2026-11-23T08:00:00"}', "/occurred_at"),
        (b'{"source_name":"s","payload":{},"occurred_at":"yesterday"}', "/occurred_at"),
        (b'{"source_name":"s","payload":{},"occurred_at":"0001-01-01T00:00:00+23:59"}', "/occurred_at"),
        (b'{"source_name":"s","payload":{},"occurred_at":"9999-12-31T23:59:59-23:59"}', "/occurred_at"),
        (b'{"souce_name":"s","source_name":"s","payload":{}}', ""),
        (b"[]", ""),
        (b"1", ""),
        (b'{"source_name":"s","payload":' + b"[" * 100_000, ""),
        (b'{"source_name":"s","payload":' + b'{"a":' * 5_000 + b"1" + b"}" * 5_001, ""),
    ],
)
def test_a_refusal_names_the_place(document: bytes, pointer: str) -> None:
    assert set(problems_of(document)) == {pointer}


def test_all_problems_are_named_at_once() -> None:
    found = problems_of(b'{"source_name":1,"payload":[],"id":"","type":2,"occurred_at":3}')

    assert set(found) == {"/source_name", "/payload", "/id", "/type", "/occurred_at"}


def test_an_unknown_member_is_refused_with_the_nearest_known_one() -> None:
    assert problems_of(b'{"souce_name":"s","payload":{}}')[""] == "has an unknown member; did you mean source_name?"


def test_two_different_ids_are_refused() -> None:
    assert problems_of(b'{"source_name":"s","payload":{},"id":"1"}', header_key="2") == {
        "/id": "differs from the header Idempotency-Key"
    }


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b" ",
        b"{",
        b'{"source_name":"s","payload":{}} {}',
        b'{"source_name":"s","payload":{"a":NaN}}',
        b'{"source_name":"s","payload":{"a":Infinity}}',
        b'{"source_name":"s","payload":{"a":01}}',
        b'{"source_name":1,"payload":{"a":01}}',
        b'\xef\xbb\xbf{"source_name":"s","payload":{}}',
        '{"source_name":"s","payload":{}}'.encode("utf-16"),
        b'{"source_name":"\xff","payload":{}',
        b'{"source_name":"s","\xff":1,"payload":{}}',
        b"nonsense",
    ],
)
def test_what_is_no_json_document_is_malformed(document: bytes) -> None:
    with pytest.raises(MalformedError):
        read_event(document, received_at=NOW)


def test_two_documents_in_one_body_are_told_as_such() -> None:
    with pytest.raises(MalformedError, match="more than one JSON document"):
        read_event(b'{"source_name":"s","payload":{}}\n{"source_name":"s","payload":{}}', received_at=NOW)


@given(st.binary(max_size=200) | json_values.map(msgspec.json.encode))
def test_any_bytes_are_an_event_or_refused(document: bytes) -> None:
    """Never another exception."""
    try:
        event = read_event(document, received_at=NOW)
    except InvalidEventError:
        return
    assert event.body in document


@given(st.text(alphabet="abcdefghijklmnop", min_size=24, max_size=40))
def test_a_refusal_never_repeats_what_was_sent(secret: str) -> None:
    """Neither values nor the names of unknown members come back."""
    document = msgspec.json.encode(
        {"source_name": f" {secret}", "id": f"\n{secret}", "type": [secret], "occurred_at": secret, secret: secret}
    )

    found = problems_of(document, header_key=f"\x00{secret}")

    assert secret not in f"{found}"
