"""Reads files as file-watcher does, and checks the rows that a pipeline makes of them: one pass, in constant memory."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from msgspec import UNSET

from etlpay_cli.validation.report import FileReport, HeaderReport
from shared.contracts.errors import InvalidEventError
from shared.contracts.event import now
from shared.files.file_format import UNSAID, FileFormat
from shared.files.limits import USUAL_LIMITS, ReadLimits
from shared.files.reading import Content, kind_of, open_rows
from shared.files.row_readers import CsvRowReader, JsonRowReader, reason_of
from shared.files.rows import Reject, Row, Skipped, UnreadableError
from shared.pipelines.checking.file_checks import FileChecks
from shared.pipelines.checking.violations import Showing, Violation
from shared.pipelines.program import Attributes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from io import BufferedReader
    from pathlib import Path

    from shared.pipelines.compiling import PipelineProgram
    from shared.pipelines.program import Made

_CHANGED: Final = "the file changed while it was read"


class Job(NamedTuple):
    """What files are validated against. `files`: those that the pipeline names; `form`: how the source writes files."""

    program: PipelineProgram
    files: Mapping[str, bytes]
    source: str
    form: FileFormat = UNSAID
    showing: Showing = Showing()
    limits: ReadLimits = USUAL_LIMITS


def validate_file(path: Path, name: str, job: Job) -> FileReport:
    """Return the report on a file, also where it cannot be read; `name` is what it is called there."""
    try:
        with path.open("rb") as file:
            return _Validation(file, name, job).report()
    except OSError as error:
        return FileReport(name=name, read_error=error.strerror or "the file cannot be read")


class _Validation:
    """The validation of one open file."""

    def __init__(self, file: BufferedReader, name: str, job: Job) -> None:
        self._file = file
        self._name = name
        self._job = job
        self._checks = FileChecks(job.program.pipeline, job.files, job.showing)
        self._skipped = 0
        self._header: HeaderReport | None = None
        self._made_rows = False
        self._number = 0

    def report(self) -> FileReport:
        """Read the file, and return what was found."""
        before = os.fstat(self._file.fileno())
        digest = hashlib.file_digest(self._file, "sha256").hexdigest()
        fault = self._read(before.st_size)
        after = os.fstat(self._file.fileno())
        if not fault and (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            fault = _CHANGED
        if self._header and not self._made_rows:
            # Otherwise the rows have said so.
            for column in self._header.absent:
                self._checks.tell(Violation("absent", column, "error", 0, detail="is no column of the file"))
        result = self._checks.finish()
        return FileReport(
            name=self._name,
            sha256=digest,
            read_error=fault or UNSET,
            rows_read=self._checks.rows,
            rows_valid=self._checks.rows - self._checks.invalid,
            rows_invalid=self._checks.invalid,
            rows_skipped=self._skipped,
            columns=self._header or UNSET,
            problems=result.problems,
            profile=result.profile,
            totals=result.totals,
        )

    def _read(self, size: int) -> str:
        """Check each row; return why the file, or its rest, cannot be read, or nothing."""
        limits = self._job.limits
        try:
            if size > limits.files_bytes_max:
                return f"the file is larger than {limits.files_bytes_max} bytes"
            content = open_rows(self._file, kind_of(self._name), limits, form=self._job.form)
            make = self._csv(content) if content.csv else self._json()
            for piece in content.chunks.pieces:
                if type(piece) is Row:
                    self._check(piece, make)
                    self._number = piece.number
                elif isinstance(piece, Reject):
                    self._checks.reject(piece.number, piece.reason)
                    self._number = piece.number
                elif isinstance(piece, Skipped):
                    self._skipped += piece.count
        except UnreadableError as error:
            return f"after row {self._number}: {error}" if self._number else str(error)
        return ""

    def _check(self, row: Row, make: Callable[[Row], tuple[Made, Any]]) -> None:
        try:
            made, payload = make(row)
        except InvalidEventError as error:
            self._checks.reject(row.number, reason_of(error))
        else:
            self._made_rows = True
            self._checks.add(row.number, made, len(row.body), payload)

    def _csv(self, content: Content) -> Callable[[Row], tuple[Made, Any]]:
        """Return what makes typed rows of a CSV row, and its masked payload where that is shown."""
        table = content.csv
        if table is None:
            raise TypeError("no CSV file")
        header = tuple(table.columns.names)
        self._look_at(header)
        fields_of = CsvRowReader(table.columns, table.screen).fields
        run_row, about, masked = self._job.program.run_row, self._about(), self._job.program.masked
        shows = self._job.showing.values

        def make(row: Row) -> tuple[Made, Any]:
            fields = fields_of(row.body)
            made = run_row(header, fields, about(row.number))
            if shows and (made.problems or made.notes):
                return made, masked(dict(zip(header, fields, strict=True)))
            return made, None

        return make

    def _json(self) -> Callable[[Row], tuple[Made, Any]]:
        """Return what makes typed rows of a JSON row, and its masked payload where that is shown."""
        reader = JsonRowReader(self._job.limits.files_id_field)
        run, about, masked = self._job.program.run, self._about(), self._job.program.masked
        shows = self._job.showing.values

        def make(row: Row) -> tuple[Made, Any]:
            reader.own_id(row.body)
            payload = reader.payload(row.body)
            made = run(payload, about(row.number))
            return made, masked(payload) if shows and (made.problems or made.notes) else None

        return make

    def _about(self) -> Callable[[int], Attributes]:
        """Return what is known of a row beside its payload, as if the file had arrived now."""
        arrived, source, name = now(), self._job.source, self._name
        return lambda number: Attributes(source, arrived, f"{name}:{number}", "", "file", number, name, arrived)

    def _look_at(self, header: tuple[str, ...]) -> None:
        """Note what the header has and lacks. A row of empty fields says which columns are absent."""
        made = self._job.program.run_row(header, [""] * len(header), self._about()(0))
        unknown = self._job.program.unknown_columns(header)
        absent = dict.fromkeys(_named(problem.pointer) for problem in made.problems if problem.code == "absent")
        self._header = HeaderReport(len(header) - len(unknown), tuple(absent), tuple(unknown))


def _named(pointer: str) -> str:
    return pointer.removeprefix("/").replace("~1", "/").replace("~0", "~")
