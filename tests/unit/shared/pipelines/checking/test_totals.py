"""Control totals are exact, by group, and what does not hold is found."""

from decimal import Decimal

import pytest

from shared.pipelines.checking.violations import Showing
from shared.pipelines.model import Pipeline
from shared.pipelines.program import Value
from support.checked_files import check_rows, pipeline_of, violations

BALANCES = """
[[total]]
name = "balances"
of   = "figures"
by   = ["country", "year"]
sums = { amount = "amount", twice = "amount + amount - 1" }
must = ["amount = 0", "rows <= 3"]
"""
LINES = """
[[table]]
name = "lines"
[table.columns]
batch    = "batch"
currency = { from = "currency", type = "currency" }
debit    = { from = "debit", type = "money", currency = "currency" }
credit   = { from = "credit", type = "money", currency = "currency" }
[[total]]
name = "batches"
of   = "lines"
by   = ["batch", "currency"]
sums = { balance = "credit - debit" }
must = ["balance = 0"]
"""


def amounts(*texts: str | None) -> list[tuple[Value, ...]]:
    return [("DE", 2020, None if text is None else Decimal(text)) for text in texts]


@pytest.mark.parametrize(
    "texts",
    [
        ("0.1", "0.2", "-0.3"),
        ("1E+40", "0.0000000001", "-10000000000000000000000000000000000000000.0000000001"),
        ("5", None, "-5"),
        (),
    ],
)
def test_a_total_holds_exactly(texts: tuple[str | None, ...]) -> None:
    assert violations(BALANCES, amounts(*texts)) == ()


@pytest.mark.parametrize("texts", [("0.1", "0.2", "-0.30000000000000004"), ("1E+30", "1", "-1E+30")])
def test_a_total_that_is_off_by_little_is_found(texts: tuple[str, ...]) -> None:
    (found,) = violations(BALANCES, amounts(*texts))

    assert (found.rule, found.column, found.level) == ("total", "balances: amount = 0", "error")
    assert (found.rows, found.places) == (1, (2,))


def test_groups_are_summed_apart_and_the_broken_ones_counted() -> None:
    rows = [*amounts("1"), ("NO", 2020, Decimal(0)), ("NO", 2021, Decimal(3)), ("DE", 2020, Decimal(-1))]
    rows += [("NO", 2020, None)] * 4

    result = check_rows(pipeline_of(BALANCES), rows)

    assert [(each.column, each.rows, each.places) for each in result.problems] == [
        ("balances: amount = 0", 1, (4,)),
        ("balances: rows <= 3", 1, (3,)),
    ]
    (totals,) = result.totals
    assert (totals.name, totals.groups, totals.broken, totals.sums) == ("balances", 3, 2, ())


def test_sums_are_shown_only_where_values_are() -> None:
    result = check_rows(pipeline_of(BALANCES), amounts("1.50", "2.25"), showing=Showing(values=True))

    assert result.totals[0].sums == (
        {"group": "country=DE, year=2020", "rows": "2", "amount": "3.75", "twice": "5.50"},
    )
    assert result.problems[0].groups == ("country=DE, year=2020: amount 3.75, twice 5.50",)


def money(*rows: tuple[str, str, int | None, int | None, int]) -> list[tuple[Value, ...]]:
    return [
        (batch, currency, None if debit is None else (debit, scale), None if credit is None else (credit, scale))
        for batch, currency, debit, credit, scale in rows
    ]


@pytest.fixture
def lines() -> Pipeline:
    """Return a pipeline whose first table holds lines of batches."""
    pipeline = pipeline_of(LINES)
    tables = tuple(table for table in pipeline.table if table.name == "lines")
    return type(pipeline)(etlpay=1, name="lines", source="lines", table=tables, total=pipeline.total)


def test_an_empty_amount_counts_as_nothing_and_currencies_stay_apart(lines: Pipeline) -> None:
    rows = money(("41", "EUR", None, 1099, 2), ("41", "EUR", 1099, None, 2), ("41", "JPY", 500, 500, 0))

    assert check_rows(lines, rows).problems == ()


def test_amounts_of_two_scales_are_summed_exactly(lines: Pipeline) -> None:
    rows = money(("41", "EUR", None, 1099, 2), ("41", "EUR", 10990001, None, 6), ("42", "EUR", 1, None, 2))

    (found,) = check_rows(lines, rows).problems

    assert (found.rows, found.places) == (2, (2, 4))


def test_a_sum_over_the_whole_file_must_hold_without_rows_too() -> None:
    checks = '[[file_check]]\nsum = { total = "amount" }\nmust = ["total = 0", "rows >= 1"]\n'

    (found,) = violations(checks, [])

    assert (found.rule, found.column, found.places) == ("sum", "rows >= 1", ())
    assert violations(checks, amounts("2", "-2")) == ()
