"""The tests of pipeline files: run, and written where they state nothing yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from etlpay_cli.pipeline_files import PipelineFile, compile_file, tests_of
from shared.pipelines.document.problems import FileProblem, has_errors
from shared.pipelines.trials.expectations import ExpectedProblem, with_expectations
from shared.pipelines.trials.testing import TestResult, coverage_warnings, run_tests
from shared.pipelines.values.texts import NO_VALUE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.pipelines.trials.expectations import TextRows


class TestedFile(msgspec.Struct, frozen=True):
    """A pipeline file with what came of its tests. `warnings`: tables and columns that no test reaches."""

    __test__ = False

    file: PipelineFile
    problems: tuple[FileProblem, ...]
    results: tuple[TestResult, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def failed(self) -> bool:
        """A test failed, or the file or its tests have errors."""
        return has_errors(self.problems) or any(result.problems for result in self.results)


def run_tests_of(file: PipelineFile, only: str | None, *, update: bool) -> TestedFile:
    """Return what came of the tests of a file; of those alone whose name holds `only`, where it is given.

    `update` writes what came out into tests that state nothing. Raises UnreadableError.
    """
    if not file.is_sound or file.pipeline is None:
        return TestedFile(file, file.problems)
    tests, problems = tests_of(file)
    chosen = [each for each in tests if only is None or only in each.name]
    results = run_tests(file.pipeline, compile_file(file), chosen, file.read)
    if update and (made := _made(results)):
        text = file.tests_path.read_bytes().decode()
        file.tests_path.write_bytes(with_expectations(text, made).encode())
        return run_tests_of(file, only, update=False)
    warnings = coverage_warnings(file.pipeline, results) if tests and only is None else ()
    return TestedFile(file, (*file.problems, *problems), results, warnings)


def _made(results: Sequence[TestResult]) -> dict[str, tuple[TextRows, tuple[ExpectedProblem, ...]]]:
    """Return what came out of the tests that state nothing, without empty cells."""
    return {result.name: (_filled(result.rows), _expected(result)) for result in results if result.pending}


def _filled(rows: TextRows) -> TextRows:
    return {
        table: tuple({name: text for name, text in row.items() if text != NO_VALUE} for row in listed)
        for table, listed in rows.items()
    }


def _expected(result: TestResult) -> tuple[ExpectedProblem, ...]:
    return tuple(ExpectedProblem(each.pointer, each.code, each.cause) for each in result.failed)
