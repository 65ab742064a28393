"""`GET /api/feed` over a fake ledger: positions, filters, refusals; and how rows of the feed become parts."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_gateway.queries.feed import BEGINNING, FeedPosition, parts_after
from api_gateway.queries.sources import SourceCursor
from support.gateway import GatewayMaker
from support.records import record

AT = datetime(2026, 11, 23, tzinfo=UTC)


async def test_a_follower_gets_every_record_and_keeps_a_position(gateway: GatewayMaker) -> None:
    async with gateway() as g:
        g.ledger.all = [record(number) for number in range(1, 8)]
        seen: list[int] = []
        after: dict[str, str] = {}
        for _ in range(4):
            answer = await g.client.get("/api/feed", params={"limit": "3"} | after)
            page = answer.json()
            seen += [item["id"] for item in page["items"]]
            after = {"after": page["next"]}

        assert seen == [1, 2, 3, 4, 5, 6, 7]
        assert (list(page), page["items"], page["more"]) == (["items", "next", "more"], [], False)
        again = await g.client.get("/api/feed", params={"after": g_position(4)})
        assert [item["id"] for item in again.json()["items"]] == [5, 6, 7]
        assert again.json()["items"][-1]["position"] == again.json()["next"] == after["after"]


def g_position(number: int) -> str:
    return FeedPosition(number, number, record(number).processed_at, number).encode()


@pytest.mark.parametrize(
    ("params", "pointer"),
    [
        ({"after": "nonsense"}, "/query/after"),
        ({"after": SourceCursor(1).encode()}, "/query/after"),
        ({"after": "x" * 81}, "/query/after"),
        ({"limit": "501"}, "/query/limit"),
        ({"source": "*"}, "/query/source"),
        ({"cursor": g_position(1)}, "/query"),
    ],
)
async def test_a_wrong_parameter_is_named(gateway: GatewayMaker, params: dict[str, str], pointer: str) -> None:
    async with gateway() as g:
        answer = await g.client.get("/api/feed", params=params)

        assert answer.status_code == 422
        assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]


async def test_a_position_of_another_ledger_is_gone(gateway: GatewayMaker) -> None:
    async with gateway() as g:
        answer = await g.client.get("/api/feed", params={"after": g_position(1)})

        assert (answer.status_code, answer.json()["type"]) == (410, "/docs/problems#restored")


Rows = list[dict[str, Any]]


@st.composite
def feeds(draw: st.DrawFn) -> Rows:
    """Rows of transactions, whose ranges may lie across one another, in the order of the feed."""
    ranges = st.tuples(st.integers(1, 30), st.integers(0, 9))
    rows = []
    for xid in range(1, draw(st.integers(1, 4)) + 1):
        firsts = {first: first + more for first, more in draw(st.lists(ranges, min_size=1, max_size=6))}
        rows += [
            {"xid": xid, "first_id": first, "last_id": last, "stored_at": AT} for first, last in sorted(firsts.items())
        ]
    return rows


@given(feeds(), st.data())
def test_parts_name_every_record_of_a_transaction_once_from_any_position_on(rows: Rows, data: st.DataObject) -> None:
    named = [
        (part.end.xid, number) for part in parts_after(BEGINNING, rows) for number in range(part.low, part.high + 1)
    ]
    expected = {(row["xid"], number) for row in rows for number in range(row["first_id"], row["last_id"] + 1)}
    parts = list(parts_after(BEGINNING, rows))
    index = data.draw(st.integers(0, len(parts) - 1))
    stopped = data.draw(st.integers(min(parts[index].low - 1, parts[index].high), parts[index].high))
    after = FeedPosition(parts[index].end.xid, parts[index].end.first_id, AT, stopped)
    rest = [
        (part.end.xid, number) for part in parts_after(after, rows[index:]) for number in range(part.low, part.high + 1)
    ]

    assert named == sorted(expected)
    assert rest == [each for each in named if each > (after.xid, stopped)]
