"""From foreign messages to envelopes: total, deterministic, byte for byte."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.programs.active import NO_PIPELINES
from processor.stages.transform import transform
from shared.contracts.event import Channel, has_own_id, id_problem, source_problem, type_problem
from shared.contracts.result import RecordStatus
from shared.wire import decode_batch, encode_batch
from support.messages import NOW, events

# What the client library makes of the types of AMQP.
HEADER_VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**63 - 1),
        st.floats(),
        st.text(alphabet=st.characters(exclude_categories=())),
        st.binary(),
        st.decimals(),
        st.datetimes(),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(), inner, max_size=3)),
    max_leaves=5,
)
HEADER_NAMES = st.sampled_from(
    [
        "source",
        "id",
        *(
            prefix + name
            for prefix in ("ce-", "cloudEvents_", "cloudEvents:")
            for name in ("id", "source", "type", "time")
        ),
    ]
)


def bodies(body: bytes, content_type: str = "") -> list[bytes]:
    return [event.body for event in events(body, content_type=content_type)]


@given(
    body=st.one_of(st.binary(max_size=200), st.from_regex(rb"[\[\]{}\",:\n 1a]{0,40}", fullmatch=True)),
    headers=st.dictionaries(HEADER_NAMES, HEADER_VALUES, max_size=4),
    content_type=st.one_of(
        st.sampled_from(["", "application/json", "text/plain", "application/x-ndjson", "application/jsonl; charset=x"]),
        st.text(alphabet=st.characters(exclude_categories=()), max_size=150),
    ),
    properties=st.fixed_dictionaries(
        {},
        optional=dict.fromkeys(
            ("message_id", "content_encoding", "type", "correlation_id", "app_id", "user_id"),
            st.text(alphabet=st.characters(exclude_categories=()), max_size=300),
        )
        | {"timestamp": st.datetimes(timezones=st.just(UTC)), "is_readable": st.booleans()},
    ),
)
def test_whatever_the_message_is_it_becomes_events_that_the_ledger_can_hold(
    body: bytes, headers: dict[str, Any], content_type: str, properties: dict[str, Any]
) -> None:
    found = events(body, headers, content_type=content_type, **properties)

    assert found
    for event in found:
        assert source_problem(event.source) is None
        assert not event.idempotency_key or id_problem(event.idempotency_key) is None
        assert not event.type or type_problem(event.type) is None
        assert 0 < len(event.content_type) <= 200
        assert not event.sender or id_problem(event.sender) is None
        assert len(event.origin) <= 5_000
        assert event.origin.isprintable()
        assert has_own_id(event)
        assert event.idempotency_key or not event.derived
        assert event.body in body
    assert found == decode_batch(encode_batch(found))


@given(st.binary(max_size=100))
def test_redelivery_of_a_message_with_an_identity_is_the_same_events(body: bytes) -> None:
    first = events(body, {"id": "a"}, message_id="m")
    again = events(body, {"id": "a"}, message_id="m")

    assert first == again


@given(
    st.lists(st.dictionaries(st.text(max_size=5), st.integers(0, 9), max_size=3), min_size=1, max_size=20),
    st.booleans(),
)
def test_each_element_of_an_array_is_an_event_with_its_own_bytes(payloads: list[dict[str, int]], pretty: bool) -> None:  # noqa: FBT001 - hypothesis fills it
    items = [msgspec.json.format(msgspec.json.encode(payload), indent=2 if pretty else 0) for payload in payloads]

    found = events(b" [" + b" ,\n".join(items) + b"]\n", {"ce-id": "m"})

    assert items == [event.body for event in found]
    assert [f"item:m#{index}" for index in range(len(items))] == [event.idempotency_key for event in found]
    assert all(event.derived for event in found)


def test_plain_message_without_anything_is_an_event_of_the_default_source() -> None:
    (event,) = events(b'{"value": 1}')

    assert (event.body, event.source, event.idempotency_key) == (b'{"value": 1}', "queue", "")
    assert (event.channel, event.origin, event.content_type) == (Channel.QUEUE, "queue:etl-queue", "application/json")
    assert (event.type, event.occurred_at, event.received_at) == ("", None, NOW)


@pytest.mark.parametrize(
    ("body", "items"),
    [
        (b'{"a": 1}\n', [b'{"a": 1}\n']),
        (b'{\n  "a": 1\n}', [b'{\n  "a": 1\n}']),
        (b'{"a":1}\n{"a":2}', [b'{"a":1}', b'{"a":2}']),
        (b'{"a":1}\r\n\r\n{"a":2}\r\n', [b'{"a":1}', b'{"a":2}']),
        (b'{"a":1}\n{"a":', [b'{"a":1}', b'{"a":']),
        (b'[{"a":1}, 5, "x", [1], null]', [b'{"a":1}', b"5", b'"x"', b"[1]", b"null"]),
    ],
)
def test_items_are_cut_where_the_message_says(body: bytes, items: list[bytes]) -> None:
    assert items == bodies(body)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"   ",
        b"[]",
        b"5",
        b'[{"a": 1}, {"b": ',
        b'[{"a": 1}] trailing',
        b"[,]",
        b"\xff\xfe\x00",
        b'{"a": NaN}',
        b'{"a":1}\nnot json\n{"a":2}',
        b"[" * 100_000,
        b"[" + b"{}," * 100 + b"{}]",
    ],
)
def test_what_is_no_event_is_kept_whole(body: bytes) -> None:
    assert [body] == bodies(body)


def test_declared_lines_are_lines_even_where_one_is_broken() -> None:
    assert bodies(b'{"a":1}\nbroken\n[]\n', content_type="application/x-ndjson") == [b'{"a":1}', b"broken", b"[]"]


def test_array_in_the_content_type_of_plain_text_lands() -> None:
    found = events(b'[{"a":1}]', content_type="text/plain")

    assert [event.content_type for event in found] == ["application/json"]


@pytest.mark.parametrize(
    ("body", "said", "kept"),
    [
        (b'{"a":1}', "text/plain", "application/json"),
        (b"5", "text/plain", "application/json"),
        (b"a,b\n1,2", "text/csv", "text/csv"),
        (b"\xff", "", "application/json"),
        (b"\xff", "image/png\r\nx: y" + "z" * 200, ("image/pngx: y" + "z" * 200)[:100]),
        (b"\xff", "\x00\x01", "application/json"),
    ],
)
def test_content_type_says_how_to_read_the_body(body: bytes, said: str, kept: str) -> None:
    assert [kept] == [event.content_type for event in events(body, content_type=said)]


@pytest.mark.parametrize("name", ["source", "ce-source", "cloudEvents_source", "cloudEvents:source"])
@pytest.mark.parametrize("value", ["shop", b"shop"])
def test_source_comes_from_a_header(name: str, value: object) -> None:
    (event,) = events(b"{}", {name: value})

    assert event.source == "shop"


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "deflate", "br", "zstd", "base64", "x" * 300])
@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"\x1f\x8b\x08\x00\n\n{}\n", "application/json"),
        (b"\x1f\x8b\x08\x00\n\n{}\n", "application/x-ndjson"),
        (b"[{}\x03", "application/json"),
        (b"eyJhIjoxfQ==", ""),
    ],
)
def test_a_body_that_is_packed_is_kept_whole_and_says_so(encoding: str, body: bytes, content_type: str) -> None:
    (event,) = events(body, {"ce-id": "1"}, content_encoding=encoding, content_type=content_type)

    record = transform(event, NO_PIPELINES)
    assert (event.body, record.status) == (body, RecordStatus.FAILED)
    assert "content_encoding" in record.errors[0].detail


@pytest.mark.parametrize("encoding", ["", "identity", "utf-8", "UTF-8", "us-ascii", "binary", "gzip"])
def test_a_body_that_is_json_is_an_event_whatever_its_encoding_says(encoding: str) -> None:
    found = [*events(b"{}", content_encoding=encoding), *events(b"[{}]", content_encoding=encoding)]

    assert [transform(event, NO_PIPELINES).status for event in found] == [RecordStatus.SUCCESS] * 2


def test_a_producer_cannot_give_the_reason_of_a_failure() -> None:
    (event,) = events(b"no json", content_type='application/vnd.etlpay.failed; reason="of mine"')

    assert event.content_type == "application/json"


def test_properties_say_what_cloudevents_does_not() -> None:
    (event,) = events(b"{}", type="order.paid", timestamp=NOW, user_id="producer-shop")

    assert (event.type, event.occurred_at, event.sender) == ("order.paid", NOW, "producer-shop")


def test_cloudevents_go_before_the_properties() -> None:
    headers = {"ce-type": "order.paid", "ce-time": "2026-11-23T08:00:00Z"}

    (event,) = events(b"{}", headers, type="other", timestamp=NOW.replace(year=2001))

    assert (event.type, event.occurred_at) == ("order.paid", NOW)


@pytest.mark.parametrize("value", ["", "x" * 256, "a\nb"])
def test_a_property_type_that_is_none_is_passed_over(value: str) -> None:
    (event,) = events(b"{}", type=value)

    assert event.type == ""


@pytest.mark.parametrize(
    ("properties", "origin"),
    [
        ({}, "queue:etl-queue"),
        ({"correlation_id": "c-1", "app_id": "shop"}, "queue:etl-queue?correlation_id=c-1&app_id=shop"),
        ({"app_id": "a&b=c\n\u2028"}, "queue:etl-queue?app_id=a%26b%3Dc%0A%E2%80%A8"),
        ({"correlation_id": "x" * 255}, f"queue:etl-queue?correlation_id={'x' * 100}%E2%80%A6"),
        ({"message_id": "m"}, "queue:etl-queue"),
    ],
)
def test_the_origin_helps_to_find_the_message_at_its_producer(properties: dict[str, Any], origin: str) -> None:
    (event,) = events(b"{}", **properties)

    assert origin == event.origin


def test_the_origin_names_the_message_id_where_the_key_does_not() -> None:
    (event,) = events(b"{}", {"ce-id": "1"}, message_id="m-1")

    assert event.origin == "queue:etl-queue?message_id=m-1"


@pytest.mark.parametrize(
    ("value", "moment"),
    [
        ("2026-11-23T08:00:00Z", NOW),
        ("2026-11-23T09:00:00+01:00", NOW),
        (NOW, NOW),
        ("2026-11-23T08:00:00", None),
        ("yesterday", None),
        (5, None),
        ("9999-99-99T00:00:00Z", None),
    ],
)
def test_time_is_taken_where_it_is_one(value: object, moment: datetime | None) -> None:
    (event,) = events(b"{}", {"ce-time": value})

    assert moment == event.occurred_at


@pytest.mark.parametrize(("value", "expected"), [("order.paid", "order.paid"), (b"a", "a"), ("a\nb", ""), (5.5, "")])
def test_type_is_taken_where_it_is_one(value: object, expected: str) -> None:
    (event,) = events(b"{}", {"ce-type": value})

    assert expected == event.type
