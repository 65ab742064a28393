"""Of each key one row counts: the highest (newest, rank, sequence), in whatever order the rows come."""

import itertools
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.pipelines.latest import UNRANKED, Candidate, precedence_of, rank_order, reduce_latest
from shared.pipelines.model import Column, Rank, Table

STATUSES = ("open", "pending", "paid")
PAYMENTS = Table(
    name="payments",
    columns={"id": Column(), "as_of": Column(type="timestamp"), "status": Column(values=STATUSES)},
    mode="latest",
    key=("id",),
    newest="as_of",
    rank="status",
)
PRECEDENCE = precedence_of(PAYMENTS)


def candidate(  # noqa: PLR0913 - each is a column
    sequence: int, key: str = "p-1", second: int = 0, status: str | None = "open", *, part: int = 0, gone: bool = False
) -> Candidate:
    return Candidate(sequence, part, (key, datetime(2026, 3, 1, 9, 0, second, tzinfo=UTC), status), gone)


def winner(*rows: Candidate) -> int:
    (row,) = reduce_latest(PRECEDENCE, rows)
    return row.sequence


def test_the_newest_row_wins_over_rank_and_order_of_arrival() -> None:
    assert winner(candidate(1, second=2, status="open"), candidate(2, second=1, status="paid")) == 1


def test_of_one_moment_the_later_rank_wins_over_the_order_of_arrival() -> None:
    assert winner(candidate(1, status="paid"), candidate(2, status="pending")) == 1


def test_of_one_moment_and_rank_the_row_of_the_later_event_wins() -> None:
    assert winner(candidate(2), candidate(1)) == 2


def test_of_one_event_the_later_element_wins() -> None:
    assert reduce_latest(PRECEDENCE, [candidate(1, part=1), candidate(1, part=0)]) == [candidate(1, part=1)]


@pytest.mark.parametrize("status", ["unheard of", None])
def test_a_value_that_is_not_listed_loses_against_every_listed_one(status: str | None) -> None:
    assert PRECEDENCE.rank_of(candidate(1, status=status).values) == UNRANKED
    assert winner(candidate(1, status="open"), candidate(2, status=status)) == 1


def test_keys_stay_apart_and_keep_the_order_in_which_they_came_first() -> None:
    rows = [candidate(1, "b"), candidate(2, "a"), candidate(3, "b", second=1)]

    assert [(row.values[0], row.sequence) for row in reduce_latest(PRECEDENCE, rows)] == [("b", 3), ("a", 2)]


def test_a_tombstone_stays_so_that_an_older_row_cannot_come_back() -> None:
    rows = [candidate(1, second=5, gone=True), candidate(2, second=1)]

    assert [row.gone for row in reduce_latest(PRECEDENCE, rows)] == [True]


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 2), st.sampled_from((*STATUSES, "new", None))), max_size=5)
)
def test_every_order_of_arrival_ends_in_the_same_rows(drawn: list[tuple[str, int, str | None]]) -> None:
    rows = [candidate(number, key, second, status) for number, (key, second, status) in enumerate(drawn)]

    ends = {frozenset(reduce_latest(PRECEDENCE, order)) for order in itertools.permutations(rows)}

    assert len(ends) == 1


def test_reducing_batch_by_batch_is_reducing_all_at_once() -> None:
    rows = [candidate(number, second=number * 7 % 5, status=STATUSES[number % 3]) for number in range(12)]

    stored: list[Candidate] = []
    for start in range(0, len(rows), 5):
        stored = reduce_latest(PRECEDENCE, [*stored, *rows[start : start + 5]])

    assert stored == reduce_latest(PRECEDENCE, rows)


def test_a_rank_may_have_an_order_of_its_own_or_that_of_mapped_values() -> None:
    own = Table(name="t", columns=PAYMENTS.columns, rank=Rank("status", ("paid", "open")))
    mapped = Table(name="t", columns={"status": Column(values={"A": "open", "B": "paid"})}, rank="status")

    assert rank_order(own) == ("status", ("paid", "open"))
    assert rank_order(mapped) == ("status", ("open", "paid"))


def test_without_newest_and_rank_the_later_event_wins() -> None:
    table = Table(name="t", columns={"id": Column()}, mode="latest", key=("id",))

    rows = [Candidate(2, 0, ("x",)), Candidate(1, 0, ("x",))]

    assert reduce_latest(precedence_of(table), rows) == [rows[0]]
