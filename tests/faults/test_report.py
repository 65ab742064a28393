"""A report says no more than its run has seen."""

from collections import Counter
from pathlib import Path

import pytest

from faults.harness.checks import Sign, Verdict
from faults.harness.report import append, overstated, together
from faults.harness.runner import Result
from faults.harness.seeds import Named


def result(seed: int, *, fired: bool = True, name: str = "broker killed") -> Result:
    return Result(Named(name), seed, fired=fired)


def test_a_fault_that_came_true_with_every_seed_is_reported_as_such(tmp_path: Path) -> None:
    page = tmp_path / "faults.md"

    append(page, [result(1), result(2)], events=10)

    assert "| broker killed | 1, 2 | 2 times | 0 | 0 | 0 | 0 | 0.0 s | 0.0 s | ok |" in page.read_text()


def test_a_fault_that_did_not_come_true_with_one_seed_is_never_ok() -> None:
    cells = together([result(1), result(2, fired=False)])

    assert (cells[2], cells[-1]) == ("1 times", "1 ok, 1 void")


@pytest.mark.parametrize(
    "cells",
    [
        pytest.param({2: "0 times"}, id="never"),
        pytest.param({2: "1 times"}, id="with one seed of two"),
        pytest.param({1: "1"}, id="tried with one seed of two"),
        pytest.param({2: "0 times", -1: "caught"}, id="a mutant"),
    ],
)
def test_a_row_that_says_ok_of_a_fault_that_did_not_come_true_is_found(cells: dict[int, str]) -> None:
    row = list(together([result(1), result(2)]))
    for place, text in cells.items():
        row[place] = text

    assert overstated([row], seeds=[1, 2]) == ["broker killed"]


def test_a_run_that_would_be_reported_as_more_than_it_was_leaves_the_page_as_it_is(tmp_path: Path) -> None:
    page = tmp_path / "faults.md"
    page.write_text("before")
    results = [result(1), result(2), result(1, name="cache killed")]

    with pytest.raises(ValueError, match="cache killed"):
        append(page, results, events=10)

    assert page.read_text() == "before"


@pytest.mark.parametrize(
    ("verdict", "broken", "word"),
    [
        pytest.param(Verdict(lost=1), False, "caught", id="by its sign"),
        pytest.param(
            Verdict(lost=1, problems=Counter({"a payload in processor.log": 1})), False, "caught", id="and more"
        ),
        pytest.param(Verdict(doubled=1), False, "NOT CAUGHT", id="by another one"),
        pytest.param(Verdict(problems=Counter({"TimeoutError": 1})), True, "NOT CAUGHT", id="the harness failed"),
        pytest.param(Verdict(lost=1, problems=Counter({"TimeoutError": 1})), True, "NOT CAUGHT", id="both"),
        pytest.param(Verdict(), False, "NOT CAUGHT", id="by nothing"),
    ],
)
def test_a_mutant_is_caught_by_its_own_sign_and_not_by_whatever_goes_wrong(
    verdict: Verdict, *, broken: bool, word: str
) -> None:
    mutant = Result(Named("mutant", Sign.LOST), 1, fired=True, verdict=verdict, broken=broken)

    assert (mutant.word, mutant.passed) == (word, word == "caught")


def test_each_mutant_has_a_sign_that_a_sound_ledger_does_not_show() -> None:
    assert not [sign for sign in Sign if Verdict(acknowledged=1, stored=1).shows(sign)]
    assert Verdict(doubled=1).shows(Sign.DOUBLED)
    assert Verdict(problems=Counter({"a raw event with 0 records": 1})).shows(Sign.WITHOUT_RECORD)
