"""Cursors: opaque, exact, and each for its own query."""

import base64
from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_gateway.http.problems import HttpProblem
from api_gateway.queries.audit import CURSOR_CHARS_MAX, AuditCursor
from api_gateway.queries.parameters import Cursor, read_cursor
from api_gateway.queries.records import RecordCursor
from api_gateway.queries.sources import SourceCursor
from shared.contracts.event import SOURCE_CHARS_MAX, Channel

moments = st.datetimes(timezones=st.just(UTC))
cursors = st.one_of(
    st.builds(RecordCursor, moments, st.integers(0, 2**63 - 1)),
    st.builds(SourceCursor, st.integers(0, 2**31 - 1)),
    st.builds(AuditCursor, st.text(st.characters(exclude_characters="\0", codec="utf-8")), st.sampled_from(Channel)),
)
MOMENT = datetime(2026, 1, 1, tzinfo=UTC)


def packed(value: object) -> str:
    """Return what somebody else may send as a cursor."""
    return base64.urlsafe_b64encode(msgspec.msgpack.encode(value)).decode().rstrip("=")


@given(cursors)
def test_a_cursor_leads_back_to_its_item(cursor: Cursor) -> None:
    assert read_cursor(cursor.encode(), type(cursor)) == cursor


def test_no_cursor_is_longer_than_a_request_may_have() -> None:
    longest = RecordCursor(datetime.max.replace(tzinfo=UTC), 2**63 - 1)

    assert len(longest.encode()) <= 64
    assert len(AuditCursor("\U0001f4b6" * SOURCE_CHARS_MAX, Channel.QUEUE).encode()) <= CURSOR_CHARS_MAX


@given(st.text(max_size=64) | st.binary(max_size=48).map(lambda raw: base64.urlsafe_b64encode(raw).decode()))
def test_any_other_text_is_a_problem(text: str) -> None:
    """A cursor is sent by anybody: nothing but HttpProblem may come of it."""
    for cursor_type in (RecordCursor, SourceCursor, AuditCursor):
        try:
            found = read_cursor(text, cursor_type)
        except HttpProblem:
            continue
        assert isinstance(found, cursor_type)


@pytest.mark.parametrize(
    ("text", "cursor_type"),
    [
        (RecordCursor(MOMENT, 1).encode(), SourceCursor),
        (SourceCursor(1).encode(), RecordCursor),
        (packed(["sources", -1]), SourceCursor),
        (packed(["sources", 2**31]), SourceCursor),
        (packed(["sources", 1, 1]), SourceCursor),
        (packed(["records", MOMENT, 2**63]), RecordCursor),
        (packed(["records", MOMENT.replace(tzinfo=None).isoformat(), 1]), RecordCursor),
        (packed(["records", MOMENT.astimezone(timezone(timedelta(hours=1))).isoformat(), 1]), RecordCursor),
        (packed(["audit", "a\0", 1]), AuditCursor),
        (packed(["audit", "a", 99]), AuditCursor),
    ],
)
def test_what_is_no_item_of_the_query_is_a_problem(text: str, cursor_type: type[Cursor]) -> None:
    with pytest.raises(HttpProblem):
        read_cursor(text, cursor_type)
