"""The checks over many rows find what a check that has all rows in a list finds."""

from collections import Counter
from collections.abc import Iterator, Sequence
from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.pipelines.checking import file_checks
from shared.pipelines.checking.violations import Showing
from support.checked_files import check_rows, pipeline_of

CHECKS = """
[[file_check]]
unique = ["country", "year"]
[[file_check]]
listed = "country"
in = { list = "countries.csv", column = "iso2" }
[[file_check]]
ascending = "year"
by = ["country"]
[[file_check]]
complete = { column = "year", by = ["country"], from = 1, to = 4 }
share = 0.75
[[file_check]]
filled = "amount"
share = 0.7
[[total]]
name = "balances"
of   = "figures"
by   = ["country"]
sums = { amount = "amount" }
must = ["amount >= 0"]
"""
PIPELINE = pipeline_of(CHECKS)
SHOWING = Showing(places_max=1_000)
ROWS = st.lists(
    st.tuples(
        st.sampled_from(["DE", "NO", "FR", None]),
        st.integers(0, 5) | st.none(),
        st.decimals(-10, 10, places=2) | st.integers(-3, 3).map(Decimal) | st.none(),
    ),
    max_size=30,
)

Row = tuple[str | None, int | None, Decimal | None]
Found = tuple[str, tuple[int, ...], tuple[int, ...]]


def naive(rows: Sequence[Row]) -> Iterator[Found]:
    """Yield rule, places and firsts of what does not hold."""
    numbered = list(enumerate(rows, 2))
    keys = [(place, row[:2]) for place, row in numbered if None not in row[:2]]
    again = [(place, min(p for p, k in keys if k == key)) for place, key in keys]
    again = [(place, first) for place, first in again if first < place]
    yield "unique", tuple(place for place, _ in again), tuple(first for _, first in again)
    yield "listed", tuple(place for place, row in numbered if row[0] == "FR"), ()
    groups = {key: [each for each in numbered if each[1][0] == key] for key in dict.fromkeys(row[0] for row in rows)}
    known = [[(place, row[1]) for place, row in group if row[1] is not None] for group in groups.values()]
    back = [two[0] for group in known for one, two in pairwise(group) if two[1] < one[1]]
    yield "ascending", tuple(sorted(back)), ()
    holed = [group[0][0] for group in groups.values() if len({row[1] for _, row in group} & {1, 2, 3, 4}) < 3]
    yield "complete", tuple(holed), ()
    empty = [place for place, row in numbered if row[2] is None]
    yield "filled", tuple(empty) if len(rows) - len(empty) < Decimal("0.7") * len(rows) else (), ()
    negative = [group[0][0] for group in groups.values() if sum((row[2] or Decimal(0)) for _, row in group) < 0]
    yield "total", tuple(negative), ()


@given(ROWS, st.integers(1, 7))
def test_what_is_found_row_by_row_is_what_a_list_of_all_rows_shows(rows: list[Row], at_once: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(file_checks, "_ROWS_AT_ONCE", at_once)
        result = check_rows(PIPELINE, rows, showing=SHOWING)

    found = {(each.rule, each.places, each.first) for each in result.problems}
    assert found == {each for each in naive(rows) if each[1]}
    assert all(each.rows == len(each.places) for each in result.problems)


@given(ROWS)
def test_the_profile_is_that_of_all_rows(rows: list[Row]) -> None:
    profile = check_rows(PIPELINE, rows).profile

    for position, name in enumerate(("country", "year", "amount")):
        values = [row[position] for row in rows if row[position] is not None]
        assert profile[name].filled == (round(len(values) / len(rows), 4) if rows else 0)
        assert profile[name].distinct == (None if name == "amount" else len(set(values)))


@given(st.lists(st.tuples(st.sampled_from(["DE", "NO"]), st.integers(0, 3), st.none()), max_size=20))
def test_each_repetition_is_counted_once(rows: list[Row]) -> None:
    found = [each.rows for each in check_rows(PIPELINE, rows).problems if each.rule == "unique"]

    counts = Counter(row[:2] for row in rows)
    assert sum(found) == sum(count - 1 for count in counts.values())
