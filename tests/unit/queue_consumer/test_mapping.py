"""From foreign messages to envelopes: total, deterministic, byte for byte."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from queue_consumer.mapping import Message, Place, to_envelopes
from shared.contracts.event import Channel, Envelope, id_problem, identify, source_problem, type_problem
from shared.wire import decode_batch, encode_batch

NOW = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)
PLACE = Place(queue="etl-queue", default_source="queue", message_events_max=100)

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


def events(body: bytes, headers: dict[str, Any] | None = None, **message: str) -> list[Envelope]:
    return to_envelopes(Message(body=body, headers=headers or {}, **message), place=PLACE, received_at=NOW)


def bodies(body: bytes, content_type: str = "") -> list[bytes]:
    return [event.body for event in events(body, content_type=content_type)]


def key(body: bytes = b"{}", headers: dict[str, Any] | None = None, **message: str) -> str:
    (event,) = events(body, headers, **message)
    return event.idempotency_key


@given(
    body=st.one_of(st.binary(max_size=200), st.from_regex(rb"[\[\]{}\",:\n 1a]{0,40}", fullmatch=True)),
    headers=st.dictionaries(HEADER_NAMES, HEADER_VALUES, max_size=4),
    content_type=st.one_of(
        st.sampled_from(["", "application/json", "text/plain", "application/x-ndjson", "application/jsonl; charset=x"]),
        st.text(alphabet=st.characters(exclude_categories=()), max_size=150),
    ),
    message_id=st.text(alphabet=st.characters(exclude_categories=()), max_size=300),
)
def test_whatever_the_message_is_it_becomes_events_that_the_ledger_can_hold(
    body: bytes, headers: dict[str, Any], content_type: str, message_id: str
) -> None:
    found = events(body, headers, content_type=content_type, message_id=message_id)

    assert found
    for event in found:
        assert source_problem(event.source) is None
        assert not event.idempotency_key or id_problem(event.idempotency_key) is None
        assert not event.type or type_problem(event.type) is None
        assert 0 < len(event.content_type) <= 100
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
    assert [f"m#{index}" for index in range(len(items))] == [event.idempotency_key for event in found]


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


@pytest.mark.parametrize("value", ["a\nb", "", b"\xff", 5.0, None, ["shop"], {"a": "b"}, True, "x" * 201])
def test_source_that_is_none_falls_back_to_the_default(value: object) -> None:
    (event,) = events(b"{}", {"source": value})

    assert event.source == "queue"


@pytest.mark.parametrize("name", ["id", "ce-id", "cloudEvents_id", "cloudEvents:id"])
@pytest.mark.parametrize(("value", "expected"), [("a", "a"), (b"a", "a"), (42, "42")])
def test_id_comes_from_a_header(name: str, value: object, expected: str) -> None:
    assert expected == key(headers={name: value})


@pytest.mark.parametrize("value", ["", b"", None, True, 1.5, ["a"]])
def test_header_that_holds_no_id_is_passed_over(value: object) -> None:
    assert key(headers={"ce-id": value, "id": "a"}) == "a"


@pytest.mark.parametrize(
    ("one", "other"), [("x" * 256, "x" * 257), ("a\nb", "a\rb"), (b"\xff", b"\xfe"), ("\ud800", "\ud801")]
)
def test_id_that_the_ledger_cannot_hold_is_kept_by_its_hash(one: object, other: object) -> None:
    kept = key(headers={"id": one})

    assert kept.startswith("sha256:")
    assert kept == key(headers={"id": one})
    assert kept != key(headers={"id": other})


def test_long_id_with_an_index_stays_unique_per_item() -> None:
    found = events(b"[{},{}]", {"id": "x" * 254})

    assert len({event.idempotency_key for event in found}) == 2
    assert all(len(event.idempotency_key) <= 255 for event in found)


def test_message_id_tells_a_redelivery_from_another_message() -> None:
    one = key(b'{"a":1}', message_id="m")

    assert one == key(b'{"a":1}', message_id="m")
    assert one != key(b'{"a":2}', message_id="m")
    assert one.startswith("mid:m:")


def test_id_of_the_producer_goes_before_the_message_id() -> None:
    assert key(headers={"id": "a"}, message_id="m") == "a"


def test_event_id_follows_from_source_and_key() -> None:
    (event,) = events(b"{}", {"source": "shop", "id": "a"})

    assert event.event_id == identify("shop", "a")


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
