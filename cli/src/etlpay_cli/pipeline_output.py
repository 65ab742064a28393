"""What `etlpay pipeline` prints: problems with their lines, results of tests, rows as tables, and JUnit's XML."""

from __future__ import annotations

import re
from html import escape
from typing import TYPE_CHECKING, Any, Final

from rich.table import Table
from rich.text import Text

from etlpay_cli import console
from shared.pipelines.values.texts import NO_VALUE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from shared.pipelines.document.problems import FileProblem
    from shared.pipelines.program import RowProblem
    from shared.pipelines.trials.expectations import TextRow
    from shared.pipelines.trials.testing import TestResult

# XML 1.0 cannot hold them, escaped or not.
_UNWRITABLE: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


def problem_text(folder: Path, problem: FileProblem) -> str:
    """Return a problem as one line: file:line: path: detail."""
    place = str(folder / problem.file) + (f":{problem.line}" if problem.line else "")
    return ": ".join(part for part in (place, _level(problem), problem.path, problem.detail) if part)


def show_file_problems(folder: Path, problems: Iterable[FileProblem]) -> None:
    """Show problems of files on stderr, as `file:line: path: detail`."""
    for problem in problems:
        style = "yellow" if problem.level == "warning" else "red"
        console.stderr.print(Text(problem_text(folder, problem), style=style))


def show_result(file: Path, result: TestResult) -> None:
    """Show one test: its name, and each difference on a line of its own."""
    mark = Text("FAILED", style="bold red") if result.problems else Text("ok    ", style="green")
    console.stdout.print(Text.assemble(mark, f" {file.name}: {result.name}"))
    for problem in result.problems:
        console.stdout.print(Text(f"       {problem}"))


def show_rows(name: str, rows: Sequence[TextRow]) -> None:
    """Show the rows of a table; of a single one, a line for each column."""
    console.stdout.print(Text(name, style="bold"))
    if len(rows) == 1:
        table = Table.grid(padding=(0, 2))
        for column, text in rows[0].items():
            table.add_row(Text(f"  {column}", style="dim"), _cell(text))
    else:
        table = Table(*rows[0], box=None, header_style="dim")
        for row in rows:
            table.add_row(*map(_cell, row.values()))
    console.stdout.print(table)


def show_row_problems(label: str, problems: Iterable[RowProblem], *, style: str) -> None:
    """Show problems or notes of an event: place, code, detail."""
    for problem in problems:
        place = problem.pointer or "(the event)"
        console.stdout.print(Text(f"{label}: {place}: {problem.code}: {problem.detail} ({problem.cause})", style=style))


def junit_text(suites: Iterable[tuple[str, Sequence[TestResult]]]) -> str:
    """Return results as JUnit's XML: a suite for each pipeline file."""
    parts = ['<?xml version="1.0" encoding="UTF-8"?>', "<testsuites>"]
    for name, results in suites:
        failures = sum(bool(result.problems) for result in results)
        parts.append(f'  <testsuite name="{_xml(name)}" tests="{len(results)}" failures="{failures}">')
        parts += (_case(name, result) for result in results)
        parts.append("  </testsuite>")
    return "\n".join([*parts, "</testsuites>", ""])


def result_document(result: TestResult) -> dict[str, Any]:
    """Return a result as it stands in JSON."""
    return {"name": result.name, "ok": not result.problems, "problems": list(result.problems)}


def _case(suite: str, result: TestResult) -> str:
    head = f'    <testcase classname="{_xml(suite)}" name="{_xml(result.name)}"'
    if not result.problems:
        return f"{head}/>"
    message, details = _xml(result.problems[0]), _xml("\n".join(result.problems))
    return f'{head}><failure message="{message}">{details}</failure></testcase>'


def _xml(text: str) -> str:
    return escape(_UNWRITABLE.sub("?", text))


def _level(problem: FileProblem) -> str:
    return "warning" if problem.level == "warning" else ""


def _cell(text: str) -> Text:
    return Text("-", style="dim") if text == NO_VALUE else Text(text)
