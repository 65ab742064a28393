"""A record says no more than its run has seen."""

from collections import Counter
from typing import Any

import pytest

from faults.harness.checks import Sign, Verdict
from faults.harness.runner import Result
from faults.harness.seeds import Named
from faults.record import PAGE, current_page, overstated, record_of, save, summary
from support.run_records import RECORDS


def result(seed: int, *, fired: bool = True, name: str = "broker killed") -> Result:
    return Result(Named(name), seed, fired=fired)


def cases_of(*results: Result) -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = record_of(results, events=10, where="here", whole=False)["cases"]
    return cases


def test_a_fault_that_came_true_with_every_seed_is_recorded_as_such() -> None:
    [case] = cases_of(result(1), result(2))

    assert (case["seeds"], case["came_true"], case["results"]) == ([1, 2], 2, {"ok": 2})


def test_a_fault_that_did_not_come_true_with_one_seed_is_never_ok() -> None:
    [case] = cases_of(result(1), result(2, fired=False))

    assert (case["came_true"], case["results"]) == (1, {"ok": 1, "void": 1})


@pytest.mark.parametrize(
    "members",
    [
        pytest.param({"came_true": 0}, id="never"),
        pytest.param({"came_true": 1}, id="with one seed of two"),
        pytest.param({"seeds": [1]}, id="tried with one seed of two"),
        pytest.param({"came_true": 0, "results": {"caught": 2}}, id="a mutant"),
    ],
)
def test_a_case_that_is_ok_although_the_fault_did_not_come_true_is_found(members: dict[str, Any]) -> None:
    [case] = cases_of(result(1), result(2))

    assert overstated([case | members], seeds=[1, 2]) == ["broker killed"]


def test_a_run_that_would_be_recorded_as_more_than_it_was_is_not_written() -> None:
    results = [result(1), result(2), result(1, name="cache killed")]
    before = (sorted(RECORDS.iterdir()), PAGE.read_text())

    with pytest.raises(ValueError, match="cache killed"):
        save("faults", record_of(results, events=10, where="here", whole=True))

    assert (sorted(RECORDS.iterdir()), PAGE.read_text()) == before


def test_the_summary_counts_mutants_apart() -> None:
    mutant = Result(Named("mutant: no unique key", Sign.DOUBLED), 1, fired=True, verdict=Verdict(doubled=3))

    said = summary(record_of([result(1), mutant], events=10, where="here", whole=False))

    assert said == ("1 of 1 cases passed: 0 events acknowledged, 0 lost, 0 doubled. 1 of 1 mutants caught.")


def test_the_page_shows_the_newest_record() -> None:
    assert current_page() == PAGE.read_text(encoding="utf-8"), "write it anew: make docs"


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
