"""An event's identity is the same for everybody, for ever, and never that of another event."""

import itertools
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from shared.contracts.event import (
    ID_CHARS_MAX,
    SOURCE_CHARS_MAX,
    TYPE_CHARS_MAX,
    Channel,
    Envelope,
    has_own_id,
    id_problem,
    identify,
    now,
    reserve_moments,
    source_problem,
    stamp,
    type_problem,
)

SOURCES = st.text(min_size=1, max_size=40).filter(lambda source: source_problem(source) is None)
KEYS = st.text(min_size=1, max_size=60).filter(lambda key: id_problem(key) is None)


@pytest.mark.parametrize(
    ("source", "key", "event_id"),
    [
        # UUIDv5 in the namespace 6f1f0a52-6a0e-5d8f-9b6c-2f3f3c1d7e10 of the source, a line feed and the id; computed
        # with SHA-1 alone. To change one is to lose the identity of every event that is stored.
        ("stripe", "evt_1", "e34422a5-7014-5934-8cf7-8290e0de3939"),
        ("bank/settlements", "2026-11-23#17", "f5c2b4b9-2433-5909-a37c-d7ee57c37df0"),
        ("a", "ключ", "35afaff9-82a3-5519-b898-9036e6e7253e"),
        ("a", "'; drop table raw_events; --", "4e6d7a2e-1c34-587b-9504-444213f811db"),
    ],
)
def test_the_id_of_an_event_is_known_to_everybody_who_can_hash(source: str, key: str, event_id: str) -> None:
    assert identify(source, key) == uuid.UUID(event_id)


@given(one=st.tuples(SOURCES, KEYS), other=st.tuples(SOURCES, KEYS))
def test_two_events_never_share_an_id(one: tuple[str, str], other: tuple[str, str]) -> None:
    assume(one != other)

    assert identify(*one) != identify(*other)


@given(text=st.from_regex(r"[A-Za-z0-9]{2,20}", fullmatch=True), data=st.data())
def test_where_the_source_ends_and_the_id_begins_matters(text: str, data: st.DataObject) -> None:
    """The same letters, cut at two places, are two events."""
    first, second = data.draw(st.integers(1, len(text) - 1)), data.draw(st.integers(1, len(text) - 1))
    assume(first != second)

    assert identify(text[:first], text[first:]) != identify(text[:second], text[second:])


def test_no_key_that_a_producer_can_give_is_that_of_a_derived_one() -> None:
    assert identify("shop", "file:0:1", derived=True) != identify("shop", "file:0:1")


@pytest.mark.parametrize(
    ("event_id", "key", "derived", "own"),
    [
        (identify("shop", "1"), "1", False, True),
        (identify("shop", "1", derived=True), "1", True, True),
        (identify("shop", "1"), "1", True, False),
        (identify("shop", "1", derived=True), "1", False, False),
        (identify("other", "1"), "1", False, False),
        (identify("shop", ""), "1", False, False),
        (identify("shop", ""), "", False, True),
        (identify("shop", "1"), "", False, False),
        (uuid.uuid4(), "", False, False),
    ],
)
def test_an_event_has_the_id_that_its_source_and_key_make(
    event_id: uuid.UUID, key: str, *, derived: bool, own: bool
) -> None:
    event = Envelope(
        event_id=event_id,
        source="shop",
        channel=Channel.HTTP,
        received_at=now(),
        body=b"{}",
        idempotency_key=key,
        derived=derived,
    )

    assert has_own_id(event) is own


def test_an_event_without_an_id_of_its_own_is_never_a_duplicate() -> None:
    ids = [identify("shop", "") for _ in range(1_000)]

    assert len(set(ids)) == len(ids)
    assert {event_id.version for event_id in ids} == {7}


@pytest.mark.parametrize(
    "source",
    [
        "a",
        "0",
        "Shop",
        "bank/2026:eur~x@y+z-1_.",
        "/billing/eu",
        "https://shop.example/x?tenant=2",
        "urn:uuid:6f1f0a52-6a0e-5d8f-9b6c-2f3f3c1d7e10#1",
        "ACME GmbH",
        " shop",
        "../etc",
        ".hidden",
        "-flag",
        "%s",
        "${jndi:ldap://x}",
        "'; drop table",
        "caf\u00e9",
        "\u0440aypal",
        "a*",
        "x" * SOURCE_CHARS_MAX,
    ],
    ids=lambda source: repr(source)[:30],
)
def test_any_printable_source_is_taken_as_it_was_given(source: str) -> None:
    assert source_problem(source) is None


@pytest.mark.parametrize(
    "source",
    [
        "",
        "*",
        "shop\n",
        "a\nb",
        "a\u2028b",
        "a\x1b[31m",
        "a\x00",
        "\ud800",
        "x" * (SOURCE_CHARS_MAX + 1),
        "x" * 1_000_000,
    ],
    ids=lambda source: repr(source)[:30],
)
def test_any_other_source_is_refused_without_repeating_it(source: str) -> None:
    problem = source_problem(source)

    assert problem is not None
    assert not source or source not in problem


@pytest.mark.parametrize(("check", "chars_max"), [(id_problem, ID_CHARS_MAX), (type_problem, TYPE_CHARS_MAX)])
@pytest.mark.parametrize(
    "text", ["a", "'; drop table x", "%s ${jndi:x} ../", "\u0645\u0631\u062d\u0628\u0627", "\U0001f4b6"]
)
def test_printable_ids_and_types_are_data_and_taken(check: object, chars_max: int, text: str) -> None:
    assert callable(check)
    assert check(text) is None
    assert check("x" * chars_max) is None


@pytest.mark.parametrize(("check", "chars_max"), [(id_problem, ID_CHARS_MAX), (type_problem, TYPE_CHARS_MAX)])
@pytest.mark.parametrize(
    "text", ["", "a\nb", "a\r", "\t", "\x00", "\x1b[0m", "\x7f", "\x85", "\u2028", "\ud800", "a\udfff"]
)
def test_what_cannot_be_printed_or_is_too_long_is_refused(check: object, chars_max: int, text: str) -> None:
    assert callable(check)
    assert check(text)
    assert check("x" * (chars_max + 1))


def test_every_channel_has_its_name() -> None:
    assert [channel.label for channel in Channel] == ["http", "grpc", "file", "queue"]


def test_reserved_moments_overlap_in_no_thread() -> None:
    with ThreadPoolExecutor(4) as threads:
        firsts = list(threads.map(lambda _: [reserve_moments(500) for _ in range(200)], range(4)))

    moments = [stamp(first, position) for of_thread in firsts for first in of_thread for position in (0, 499)]
    assert len(set(moments)) == 4 * 200 * 2
    ordered = sorted(first for of_thread in firsts for first in of_thread)
    assert all(later - earlier >= timedelta(microseconds=500) for earlier, later in itertools.pairwise(ordered))
