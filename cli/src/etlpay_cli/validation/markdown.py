"""The report on a validation as Markdown, made to be pasted into a ticket."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from shared.pipelines.checking.profile import DISTINCT_MAX, MEASURED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from etlpay_cli.validation.report import FileReport, ValidationReport
    from shared.pipelines.checking.profile import ColumnProfile
    from shared.pipelines.checking.totals import Totals
    from shared.pipelines.checking.violations import Violation

_PLACES_SHOWN: Final = 10
# What would end a cell, begin a link, markup or HTML.
_SPECIAL: Final = re.compile(r"([\\`*\[\]<>|~#@]|(?<!\w)_|_(?!\w))")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f\u2028\u2029]+")


def markdown_text(report: ValidationReport, *, picture: str | None = None) -> str:
    """Return the report. `picture`: the name of a picture beside it."""
    word = "valid" if report.valid else "not valid"
    lines = [
        f"# Validation of {_cell(report.pipeline.name)}: {word}",
        "",
        f"{_cell(report.pipeline.file)}, SHA-256 `{report.pipeline.sha256}`",
        "",
        *_numbers(report),
    ]
    for file in report.files:
        lines += ["", f"## {_cell(file.name)}", "", *_file(file)]
    if picture:
        lines += ["", f"![Shares of rows that have a value]({picture})"]
    return "\n".join([*lines, ""])


def places_text(problem: Violation, places_max: int = _PLACES_SHOWN) -> str:
    """Return the first places of a problem: `49, 108 (first in 3), …`."""
    shown = problem.places[:places_max]
    texts = [str(place) for place in shown]
    if problem.first:
        texts = [f"{place} (first in {first})" for place, first in zip(shown, problem.first, strict=False)]
    more = ["…"] if problem.rows > len(texts) and texts else []
    return ", ".join(texts + more)


def _numbers(report: ValidationReport) -> Iterator[str]:
    numbers: dict[str, object] = {
        "files": report.files_total,
        "files processed": report.files_processed,
        "read errors": report.read_errors,
        "rows read": report.rows_read,
        "rows valid": report.rows_valid,
        "rows invalid": report.rows_invalid,
        "seconds": report.duration_seconds,
    }
    if report.loaded_source:
        numbers[f"files put into the inbox of {_cell(report.loaded_source)}"] = report.files_loaded
    yield from _table(("", ""), ((name, str(value)) for name, value in numbers.items()), right=1)


def _file(file: FileReport) -> Iterator[str]:
    if file.sha256:
        yield f"SHA-256 `{file.sha256}`, {file.rows_read} rows, {file.rows_invalid} of them invalid"
    if file.read_error:
        yield from ("", f"**could not be read:** {_cell(file.read_error)}")
    if file.columns and file.columns.absent:
        yield from ("", f"Missing columns: {', '.join(map(_cell, file.columns.absent))}")
    if file.columns and file.columns.unknown:
        yield from ("", f"Columns that are not read: {', '.join(map(_cell, file.columns.unknown))}")
    if file.problems:
        yield ""
        header = ("level", "rule", "column", "rows", "first rows", "more")
        yield from _table(header, map(_problem, file.problems), right=3)
    if file.profile and file.rows_valid > 0:
        yield ""
        yield from _profile(file)
    for totals in file.totals:
        yield from ("", *_totals(totals))


def _problem(problem: Violation) -> tuple[str, ...]:
    groups = "; ".join(problem.groups[:_PLACES_SHOWN])
    values = f"values: {', '.join(problem.values[:_PLACES_SHOWN])}" if problem.values else ""
    more = "; ".join(part for part in (problem.detail, groups, values) if part)
    return (problem.level, problem.rule, problem.column, str(problem.rows), places_text(problem), more)


def _profile(file: FileReport) -> Iterator[str]:
    has_range = any(column.min is not None for column in file.profile.values())
    header = ("column", "type", "filled", "distinct", *(("min", "max") if has_range else ()))
    rows = (
        (
            name,
            column.type,
            f"{column.filled:.2%}".removesuffix("%") + " %",
            _distinct(column),
            *((column.min or "", column.max or "") if has_range else ()),
        )
        for name, column in file.profile.items()
    )
    yield from _table(header, rows)


def _distinct(column: ColumnProfile) -> str:
    if column.distinct is not None:
        return str(column.distinct)
    return "" if column.type in MEASURED else f"more than {DISTINCT_MAX}"


def _totals(totals: Totals) -> Iterator[str]:
    name = f"Totals {_cell(totals.name)}" if totals.name else "Sums of the file"
    yield f"{name}: {totals.groups} groups, {totals.broken} of them do not hold"
    if totals.sums:
        yield ""
        yield from _table(tuple(totals.sums[0]), (tuple(sums.values()) for sums in totals.sums))


def _table(header: Sequence[str], rows: Iterable[Sequence[str]], *, right: int | None = None) -> Iterator[str]:
    yield _row(header)
    yield _row(["---:" if number == right else "---" for number in range(len(header))])
    yield from map(_row, ([_cell(text) for text in row] for row in rows))


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(text: str) -> str:
    """Return a text without anything that Markdown takes for markup."""
    return _SPECIAL.sub(r"\\\1", _CONTROL.sub(" ", text))
