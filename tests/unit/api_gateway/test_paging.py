"""Cursors: opaque, exact, and ours alone."""

import base64
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_gateway.queries.paging import Position, read_record_cursor, read_source_cursor, record_cursor, source_cursor

moments = st.datetimes(timezones=st.just(UTC), min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30))  # noqa: DTZ001 - hypothesis adds the zone


@given(moments, st.integers(1, 2**63 - 1))
def test_a_cursor_leads_back_to_its_position(moment: datetime, record_id: int) -> None:
    position = Position(moment, record_id)

    assert read_record_cursor(record_cursor(position)) == position


@given(st.integers(1, 2**31 - 1))
def test_a_source_cursor_leads_back_to_its_source(source_id: int) -> None:
    assert read_source_cursor(source_cursor(source_id)) == source_id


@given(st.text(max_size=64))
def test_any_other_text_is_a_value_error(text: str) -> None:
    """A cursor is sent by anybody: nothing but ValueError may come of it."""
    for read in (read_record_cursor, read_source_cursor):
        try:
            found = read(text)
        except ValueError:
            continue
        assert found is not None


@given(st.binary(min_size=17, max_size=17))
def test_any_bytes_in_a_cursors_clothes_are_a_position_or_a_value_error(packed: bytes) -> None:
    text = base64.urlsafe_b64encode(b"r" + packed[1:]).decode().rstrip("=")

    try:
        position = read_record_cursor(text)
    except ValueError:
        return
    assert position.processed_at.tzinfo is UTC


def test_one_kind_of_cursor_is_not_the_other() -> None:
    with pytest.raises(ValueError, match="cursor"):
        read_source_cursor(record_cursor(Position(datetime(2026, 1, 1, tzinfo=UTC), 1)))
