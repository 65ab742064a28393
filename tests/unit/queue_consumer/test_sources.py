"""A source is kept as it was given; one that cannot be kept is reported, and never replaced by another or by none."""

import pytest

from processor.programs.active import NO_PIPELINES
from processor.stages.transform import transform
from shared.contracts.failure import failure_reason
from shared.contracts.result import RecordStatus
from support.messages import NOW, events

SOURCES = [
    "/billing/eu",
    "/billing/us",
    "https://shop.example/x?tenant=2",
    "urn:uuid:6e8bc430-9c3a-11d9-9669-0800200c9a66",
    "mailto:cncf-wg-serverless@lists.cncf.io",
    "ACME GmbH",
    "Bücher & Söhne",
    'a"b\\c',
    " leading",
    "*shop*",
    "x" * 200,
]


@pytest.mark.parametrize("name", ["source", "ce-source", "cloudEvents_source", "cloudEvents:source"])
@pytest.mark.parametrize("source", SOURCES)
def test_a_source_is_kept_as_it_was_given(name: str, source: str) -> None:
    (event,) = events(b"{}", {name: source, "ce-id": "1"})

    assert (event.source, event.idempotency_key, event.derived) == (source, "1", False)
    assert transform(event, NO_PIPELINES).status is RecordStatus.SUCCESS


@pytest.mark.parametrize("value", ["", b"", None])
def test_a_header_that_says_nothing_names_no_source(value: object) -> None:
    (event,) = events(b"{}", {"source": value})

    assert (event.source, event.content_type) == ("queue", "application/json")


UNKEPT = [
    "*",
    "a\nb",
    "a\x00b",
    "x" * 201,
    "x" * 202,
    b"\xff",
    b"\xfe",
    5.0,
    6.0,
    True,
    ["shop"],
    {"a": "b"},
    {"a": "c"},
    NOW,
]


@pytest.mark.parametrize("name", ["source", "ce-source", "cloudEvents_source", "cloudEvents:source"])
@pytest.mark.parametrize("value", UNKEPT)
def test_a_source_that_cannot_be_kept_fails_and_is_told(name: str, value: object) -> None:
    (event,) = events(b'{"a": 1}', {name: value, "ce-id": "1"})

    record = transform(event, NO_PIPELINES)
    assert (event.body, event.source, event.derived) == (b'{"a": 1}', "queue", True)
    assert record.status is RecordStatus.FAILED
    assert [problem.detail for problem in record.errors] == [failure_reason(event.content_type)]
    assert name in record.errors[0].detail
    assert event.origin.startswith("queue:etl-queue?source=")


def test_two_sources_that_cannot_be_kept_are_never_one_event() -> None:
    found = [events(b"{}", {"ce-source": value, "ce-id": "1"}) for value in (*UNKEPT, *SOURCES)]
    again = [events(b"{}", {"ce-source": value, "ce-id": "1"}) for value in (*UNKEPT, *SOURCES)]

    assert found == again
    assert len({event.event_id for (event,) in found}) == len(found)


def test_one_source_that_cannot_be_kept_has_events_of_its_own_ids() -> None:
    unkept = {"ce-source": "x" * 201}
    found = [
        *events(b"{}", {**unkept, "ce-id": "1"}),
        *events(b"{}", {**unkept, "ce-id": "2"}),
        *events(b"{}", unkept, message_id="1"),
        *events(b"{}", unkept),
        *events(b"{}", unkept),
    ]

    assert len({event.event_id for event in found}) == 5


def test_a_message_whose_source_cannot_be_kept_is_one_event_whatever_it_holds() -> None:
    assert [event.body for event in events(b"[{},{}]", {"source": "*"})] == [b"[{},{}]"]


def test_the_first_header_that_can_be_kept_is_the_source() -> None:
    (event,) = events(b"{}", {"source": ["no text"], "ce-source": "shop"})

    assert (event.source, event.content_type) == ("shop", "application/json")


def test_a_message_whose_properties_cannot_be_read_fails_because_it_may_have_named_a_source() -> None:
    one, other = events(b"{}", is_readable=False), events(b"{}", is_readable=False)

    assert "properties" in transform(one[0], NO_PIPELINES).errors[0].detail
    assert one[0].event_id != other[0].event_id
