"""The report on a validation as it stands in JSON. It holds no value of a file unless values are shown, and no path."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import UNSET, UnsetType

from shared.pipelines.checking.profile import ColumnProfile
from shared.pipelines.checking.totals import Totals
from shared.pipelines.checking.violations import Violation

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

FORMAT: Final = 1
"""The version of the report."""

_SECONDS_DECIMALS: Final = 3


class HeaderReport(msgspec.Struct, frozen=True):
    """The header of a CSV file: how many columns the pipeline reads, which it lacks, and which it does not read."""

    known: int = 0
    absent: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()


class FileReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was found in a file. `read_error`: why it, or its rest, could not be read.

    `sha256` is that of the file as it is stored. `rows_skipped` held nothing. `loaded`: it was put into the inbox.
    """

    name: str
    sha256: str | UnsetType = UNSET
    read_error: str | UnsetType = UNSET
    rows_read: int = 0
    rows_valid: int = 0
    rows_invalid: int = 0
    rows_skipped: int = 0
    columns: HeaderReport | UnsetType = UNSET
    problems: tuple[Violation, ...] = ()
    profile: dict[str, ColumnProfile] = {}
    totals: tuple[Totals, ...] = ()
    loaded: bool | UnsetType = UNSET

    def counts(self, level: str) -> int:
        """Return how many problems have a level."""
        return sum(problem.level == level for problem in self.problems)

    def is_valid(self, fail_on: str) -> bool:
        """Tell whether the whole file was read, without an error; `fail_on` `warning`: and without a warning."""
        failing = ("error", "warning") if fail_on == "warning" else ("error",)
        return not self.read_error and not any(self.counts(level) for level in failing)


class PipelineReport(msgspec.Struct, frozen=True):
    """The pipeline, with the SHA-256 of its version and its file as it was named."""

    name: str
    sha256: str
    file: str


class ValidationReport(msgspec.Struct, frozen=True, kw_only=True):
    """The report on files."""

    report: int
    valid: bool
    pipeline: PipelineReport
    files_total: int
    files_processed: int
    read_errors: int
    rows_read: int
    rows_valid: int
    rows_invalid: int
    start_time: str
    end_time: str
    duration_seconds: float
    files: tuple[FileReport, ...]
    loaded_source: str | UnsetType = UNSET
    files_loaded: int | UnsetType = UNSET


def make_report(
    pipeline: PipelineReport,
    files: Iterable[FileReport],
    times: tuple[datetime, datetime],
    *,
    fail_on: str,
    source: str,
) -> ValidationReport:
    """Return the report. `times`: when it began and ended, in UTC; `source`: whose inbox got the valid files."""
    started, ended = times
    reports = tuple(files)
    errors = sum(bool(each.read_error) for each in reports)
    return ValidationReport(
        report=FORMAT,
        valid=all(each.is_valid(fail_on) for each in reports),
        pipeline=pipeline,
        files_total=len(reports),
        files_processed=len(reports) - errors,
        read_errors=errors,
        rows_read=sum(each.rows_read for each in reports),
        rows_valid=sum(each.rows_valid for each in reports),
        rows_invalid=sum(each.rows_invalid for each in reports),
        start_time=_moment(started),
        end_time=_moment(ended),
        duration_seconds=round((ended - started).total_seconds(), _SECONDS_DECIMALS),
        files=reports,
        loaded_source=source or UNSET,
        files_loaded=sum(each.loaded is True for each in reports) if source else UNSET,
    )


def json_text(report: ValidationReport) -> bytes:
    """Return the report as JSON."""
    return msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n"


def _moment(moment: datetime) -> str:
    return moment.replace(microsecond=0).isoformat().replace("+00:00", "Z")
