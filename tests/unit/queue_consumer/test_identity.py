"""What names an event of a message: its producer's id as it was given, or a derived key that no id can meet."""

from typing import Any

import pytest

from shared.contracts.event import identify
from support.messages import events


def key(body: bytes = b"{}", headers: dict[str, Any] | None = None, **message: str) -> str:
    (event,) = events(body, headers, **message)
    return event.idempotency_key


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


@pytest.mark.parametrize(
    "given", ["order #12", "X#0", "item:X#0", "mid:m:0123456789abcdef", "sha256:0", "file:0:1", "x" * 255]
)
def test_every_printable_id_stays_as_it_was_given(given: str) -> None:
    (event,) = events(b"{}", {"ce-id": given})

    assert (event.idempotency_key, event.derived) == (given, False)


def test_no_id_that_a_producer_gives_takes_the_place_of_a_derived_one() -> None:
    long = "y" * 300
    derived = [
        *events(b"[{}]", {"ce-id": "X"}),
        *events(b"{}", {"ce-id": long}),
        *events(b"[{}]", {"ce-id": long}),
        *events(b"{}", message_id="m"),
        *events(b"[{}]", message_id="m"),
        *events(b"[{}]", message_id="m" * 255),
        *events(b"{}", {"ce-source": "*", "ce-id": "X"}),
    ]
    taken = {event.event_id for event in derived}
    names = ["X#0", "item:X#0", f"item:{long}#0", f"{long}#0", *(event.idempotency_key for event in derived)]

    others = [
        event.event_id
        for name in names
        for body in (b"{}", b"[{}]")
        for headers, message_id in (({"ce-id": name}, ""), ({}, name))
        for event in events(body, headers, message_id=message_id)
    ]

    assert len(taken) == len(derived)
    assert not taken.intersection(others)


def test_a_message_an_array_of_one_id_and_an_id_with_an_index_are_three_events() -> None:
    found = [*events(b"{}", {"ce-id": "X"}), *events(b"[{}]", {"ce-id": "X"}), *events(b"{}", {"ce-id": "X#0"})]

    assert len({event.event_id for event in found}) == 3


def test_message_id_tells_a_redelivery_from_another_message() -> None:
    one = key(b'{"a":1}', message_id="m")

    assert one == key(b'{"a":1}', message_id="m")
    assert one != key(b'{"a":2}', message_id="m")
    assert one.startswith("mid:m:")


def test_id_of_the_producer_goes_before_the_message_id() -> None:
    assert key(headers={"id": "a"}, message_id="m") == "a"


def test_event_id_follows_from_source_and_key() -> None:
    (event,) = events(b"{}", {"source": "shop", "id": "a"})
    (derived,) = events(b"{}", {"source": "shop"}, message_id="m")

    assert event.event_id == identify("shop", "a")
    assert derived.event_id == identify("shop", derived.idempotency_key, derived=True)
