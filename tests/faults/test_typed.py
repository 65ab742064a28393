"""The check of typed rows fails where it should: each of these tables is wrong in one way."""

from collections.abc import Callable
from decimal import Decimal

import pytest

from faults.harness.checks import Sign
from faults.harness.typed import Rows, differences, wanted_rows
from processor.programs.active import ActiveSet
from support.typed import SHOP, active_pipeline, payment, payment_gone, transformed

PIPELINES = ActiveSet([active_pipeline(SHOP)])
LATEST = "payments_1"


def wanted() -> Rows:
    """Return the rows of two payments, of which one has three states."""
    events = [
        payment("a", 2, status="paid", amount="2.00"),
        payment("a", 2, amount="3.00"),
        payment("a", 1, status="back", amount="4.00"),
        payment("b", 1, parts=["x", "y"]),
        payment_gone("c", 1),
    ]
    return wanted_rows((number, transformed(event, PIPELINES)) for number, event in enumerate(events, 1))


def test_the_row_of_a_key_is_that_of_the_highest_moment_and_rank() -> None:
    rows = wanted()

    [a, b, c] = (rows[LATEST][key,] for key in "abc")
    assert (a["at"], a["status"], a["amount"], a["_rank"], a["_event"]) == (2, "paid", Decimal("2.00"), 1, 1)
    assert (b["_event"], b["_gone"], c["_event"], c["_gone"]) == (4, False, 5, True)
    assert set(rows["payment_states_1"]) == {(number, 0) for number in range(1, 6)}
    assert [row["label"] for row in rows["parts_1"].values()] == ["x", "y"]


def test_of_equal_moment_and_rank_the_event_counts_that_was_stored_later() -> None:
    events = [(7, payment("a", 1, amount="1.00", key="x")), (8, payment("a", 1, amount="2.00", key="y"))]

    for order in (events, events[::-1]):
        rows = wanted_rows((number, transformed(event, PIPELINES)) for number, event in order)
        assert rows[LATEST]["a",]["_event"] == 8


def test_tables_that_hold_just_these_rows_are_right() -> None:
    assert differences(wanted(), wanted()) == {}


def lose(rows: Rows) -> None:
    del rows[LATEST]["b",]


def invent(rows: Rows) -> None:
    rows["parts_1"][9, 0] = {}


def round_it(rows: Rows) -> None:
    rows[LATEST]["a",] = {**rows[LATEST]["a",], "amount": Decimal("2.01")}


def keep_older(rows: Rows) -> None:
    rows[LATEST]["a",] = {**rows[LATEST]["a",], "_event": 2}


def fill_unknown_column(rows: Rows) -> None:
    rows[LATEST]["a",] = {**rows[LATEST]["a",], "of_another_version": "left over"}


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lose, Sign.MISSING_ROW.value),
        (invent, "a typed row that no body makes"),
        (round_it, Sign.WRONG_ROW.value),
        (keep_older, Sign.WRONG_ROW.value),
        (fill_unknown_column, Sign.WRONG_ROW.value),
    ],
)
def test_a_table_that_is_not_as_it_should_be_is_noted(spoil: Callable[[Rows], None], problem: str) -> None:
    stored = wanted()
    spoil(stored)

    assert differences(wanted(), stored) == {problem: 1}
