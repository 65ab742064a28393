"""What does not hold for a whole file is found, at its edges too, and nothing else is."""

from decimal import Decimal

import pytest

from shared.pipelines.checking import groups
from shared.pipelines.checking.violations import Showing, Violation
from shared.pipelines.program import Value
from support.checked_files import check_rows, pipeline_of, violations

UNIQUE = '[[file_check]]\nunique = ["country", "year"]\n'
LISTED = '[[file_check]]\nlisted = "country"\nin = { list = "countries.csv", column = "iso2" }\n'
ASCENDING = '[[file_check]]\nascending = "year"\nby = ["country"]\n'
COMPLETE = '[[file_check]]\ncomplete = { column = "year", by = ["country"], from = 2020, to = 2024 }\nshare = 0.8\n'
FILLED = '[[file_check]]\nfilled = "amount"\nshare = 0.5\nlevel = "warning"\n'
ALL = UNIQUE + LISTED + ASCENDING + COMPLETE + FILLED

Row = tuple[Value, ...]


def years(country: str, *numbers: int) -> list[Row]:
    return [(country, number, Decimal(1)) for number in numbers]


def test_nothing_is_found_in_a_file_for_which_all_holds() -> None:
    assert violations(ALL, years("DE", *range(2020, 2025)) + years("NO", *range(2020, 2025))) == ()


def test_nothing_is_found_in_a_file_without_rows() -> None:
    assert violations(ALL, []) == ()


def test_a_key_that_comes_again_is_found_with_the_row_that_had_it_first() -> None:
    rows = years("DE", 1, 2, 1, 3, 2, 1)

    assert violations(UNIQUE, rows) == (Violation("unique", "country, year", "error", 3, (4, 6, 7), (2, 3, 2)),)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("DE", 11), ("DE1", 1)),
        (("DE', 1", 1), ("DE", 1)),
        ((None, 1), (None, 1)),
        (("", 1), (None, 1)),
    ],
)
def test_other_keys_are_no_repetition(one: Row, other: Row) -> None:
    assert violations(UNIQUE, [(*one, None), (*other, None)]) == ()


@pytest.mark.parametrize(
    ("one", "other"), [("1.10", "1.1"), ("100", "1E+2"), ("0.00", "0"), ("-5.0", "-5"), ("1E-3", "0.0010")]
)
def test_equal_numbers_are_one_key_however_they_are_written(one: str, other: str) -> None:
    checks = '[[file_check]]\nunique = ["amount"]\n'

    (found,) = violations(checks, [("DE", 1, Decimal(one)), ("DE", 2, Decimal(other)), ("DE", 3, Decimal(7))])

    assert (found.places, found.first) == ((3,), (2,))


def test_a_value_that_is_not_listed_is_found_and_no_value_is_not() -> None:
    rows = [("DE", 1, None), ("de", 2, None), (None, 3, None), ("FR", 4, None), ("NO", 5, None)]

    assert violations(LISTED, rows) == (Violation("listed", "country", "error", 2, (3, 5)),)


def test_a_row_goes_back_where_it_is_below_the_one_before_it_in_its_group() -> None:
    rows = [*years("DE", 2020, 2021), *years("NO", 2019, 2019), *years("DE", 2020, 2022), *years("NO", 2020)]

    assert violations(ASCENDING, rows) == (Violation("ascending", "year by country", "error", 1, (6,)),)


def test_one_row_that_is_too_high_makes_one_violation() -> None:
    assert [each.places for each in violations(ASCENDING, years("DE", 1, 2, 99, 3, 4, 5))] == [(5,)]


def test_a_row_without_a_value_neither_goes_back_nor_lets_the_next_one_go_back_unseen() -> None:
    rows: list[Row] = [("DE", 2, None), ("DE", None, None), ("DE", 1, None)]

    assert [each.places for each in violations(ASCENDING, rows)] == [(4,)]


def test_a_group_with_holes_is_found_with_the_numbers_that_it_lacks() -> None:
    rows = [*years("DE", 2019, 2020, 2021, 2022, 2025), *years("NO", 2020, 2021, 2022, 2023), *years("XX", 1900)]

    (found,) = violations(COMPLETE, rows)

    assert (found.rule, found.column, found.rows, found.places) == ("complete", "year by country", 2, (2, 11))
    assert found.groups == ("3 of 5, without 2023, 2024", "0 of 5, without 2020, 2021, 2022, 2023, 2024")


def test_a_share_that_is_just_reached_is_enough() -> None:
    assert violations(COMPLETE, years("DE", 2020, 2021, 2022, 2023)) == ()
    assert len(violations(COMPLETE, years("DE", 2020, 2021, 2022))) == 1


def test_without_groups_a_file_without_rows_is_incomplete() -> None:
    checks = '[[file_check]]\ncomplete = { column = "year", from = 1, to = 3 }\n'

    (found,) = violations(checks, [])

    assert (found.rows, found.places, found.groups) == (1, (), ("0 of 3, without 1, 2, 3",))


def test_a_column_that_is_emptier_than_it_may_be_is_found() -> None:
    empty, full = ("DE", 1, None), ("DE", 1, Decimal(0))

    assert violations(FILLED, [empty, full]) == ()
    (found,) = violations(FILLED, [empty, full, empty])
    assert (found.level, found.rows, found.places) == ("warning", 2, (2, 4))
    assert found.detail == "1 of 3 rows have a value"


@pytest.mark.parametrize(("count", "details"), [(1, ["fewer than 2"]), (2, []), (3, []), (4, ["more than 3"])])
def test_a_file_of_too_few_or_too_many_rows_is_found(count: int, details: list[str]) -> None:
    checks = "[[file_check]]\nrows = { min = 2, max = 3 }\n"

    assert [each.detail for each in violations(checks, years("DE", *range(count)))] == details


def test_a_file_is_looked_at_alone() -> None:
    pipeline = pipeline_of(ALL)

    for _ in range(2):
        assert check_rows(pipeline, years("DE", *range(2020, 2025))).problems == ()


def test_rows_over_the_limit_of_groups_are_reported_and_not_taken_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups.Groups.__init__, "__kwdefaults__", {"groups_max": 2})
    rows = [*years("DE", 1), *years("NO", 1), *years("FR", 2), *years("FR", 1), *years("DE", 0)]

    left_out, back = violations(ASCENDING.replace("by", 'level = "warning"\nby'), rows)

    assert (back.level, back.places) == ("warning", (6,))
    assert (left_out.level, left_out.rows, left_out.places) == ("error", 2, (4, 5))
    assert "2 that can be kept" in left_out.detail


def test_places_are_counted_all_and_the_first_ones_are_kept() -> None:
    pipeline = pipeline_of(LISTED + UNIQUE)
    rows = years("FR", *range(50)) + years("FR", *range(50))

    problems = check_rows(pipeline, rows, showing=Showing(places_max=3)).problems

    assert {(each.rule, each.rows, each.places, each.first) for each in problems} == {
        ("listed", 100, (2, 3, 4), ()),
        ("unique", 50, (52, 53, 54), (2, 3, 4)),
    }


def test_values_are_shown_only_where_it_is_asked_for() -> None:
    pipeline = pipeline_of(LISTED + COMPLETE + ASCENDING)
    rows = years("secret", 2021, 2020)

    hidden = check_rows(pipeline, rows)
    shown = check_rows(pipeline, rows, showing=Showing(values=True))

    assert "secret" not in repr(hidden)
    assert {each.rule: (each.values, each.groups) for each in shown.problems} == {
        "listed": (("secret",), ()),
        "complete": ((), ("country=secret: 2 of 5, without 2022, 2023, 2024",)),
        "ascending": (("2020",), ()),
    }
    assert shown.profile["year"].min == "2020"
    assert hidden.profile["year"].min is None


def test_a_column_is_profiled_by_its_rows_with_a_value() -> None:
    rows: list[Row] = [("DE", 1, None), ("DE", 2, None), ("NO", None, Decimal(1)), (None, 2, None)]

    profile = check_rows(pipeline_of(""), rows).profile

    assert {name: (each.filled, each.distinct) for name, each in profile.items()} == {
        "country": (0.75, 2),
        "year": (0.75, 2),
        "amount": (0.25, None),
    }


def test_a_column_that_is_nearly_full_is_not_told_as_full_and_many_values_are_not_counted() -> None:
    rows: list[Row] = [(str(number % 1_000), number, None if number == 77 else Decimal(1)) for number in range(50_000)]

    profile = check_rows(pipeline_of(""), rows).profile

    assert profile["amount"].filled == 0.9999
    assert profile["country"].distinct == 1_000
    assert profile["year"].distinct is None
