"""The part of the fault matrix that every run of the tests includes; the whole of it is `make faults`."""

from pathlib import Path

import pytest

from faults.__main__ import choose
from faults.harness.runner import run_cases


@pytest.mark.timeout(600)
async def test_what_is_acknowledged_is_stored_once_whatever_dies(tmp_path: Path) -> None:
    """And the checks that say so fail where the product is broken on purpose; see docs/faults.md."""
    cases = choose("", smoke=True)

    results = await run_cases(cases, seed=1, events=600, keep_files=tmp_path, show=lambda _: None)

    assert {result.case.name for result in results if result.case.must_show}
    assert {
        result.case.name: (result.word, dict(result.verdict.problems), str(tmp_path))
        for result in results
        if not result.passed
    } == {}
