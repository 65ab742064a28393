"""A CSV file: its header is read and its first rows are checked at once; its records are cut later. Pure."""

import re
from collections.abc import Iterator
from itertools import chain, islice
from typing import Final

from shared.contracts.csv_row import Dialect, marks_problem
from shared.files.columns import RowScreen
from shared.files.file_format import SETTING, UNSAID, FileFormat
from shared.files.rows import (
    EmptyFileError,
    Line,
    Piece,
    RecordCutter,
    Row,
    Stream,
    UnreadableError,
    numbered_lines,
    without_marks,
)
from shared.files.sampling import FirstLines, choose_columns

# So much is checked before the first row counts.
_SAMPLE_LINES_MAX: Final = 101
_SAMPLE_BYTES_MAX: Final = 256 * 1024
# Spreadsheets write a first line that names the delimiter.
_SEPARATOR_LINE: Final = re.compile(rb'"?sep=(?P<delimiter>[^\r\n])"?\r?\n', re.IGNORECASE)


class CsvFile:
    """A CSV file (RFC 4180) with a header, or with one from the settings."""

    def __init__(
        self,
        stream: Stream,
        row_bytes_max: int,
        *,
        complete: bool,
        form: FileFormat = UNSAID,
        id_field: str = "id",
    ) -> None:
        """`complete=False`: the file may still be written, so its last line counts only with its line feed.

        Raises:
            UnreadableError: there is no header, it cannot name the fields of a row, or the first rows do not fit it.
        """
        lines = numbered_lines(stream, row_bytes_max)
        for _ in islice(lines, form.skip_lines):
            pass
        first, ended = _first_lines(lines)
        if not first:
            raise EmptyFileError
        dialect = _separator(first, form)
        sample = FirstLines(first, ended and complete, row_bytes_max)
        self.columns = choose_columns(sample, form, dialect, id_field)
        self.screen = RowScreen(self.columns.names, self.columns.id_index, totals=form.total_line != "accept")
        cutter = RecordCutter(
            chain(first, lines),
            self.columns.dialect,
            row_bytes_max,
            complete=complete,
            last_row_counts=form.last_row == "accept",
        )
        self._records = cutter.records()
        if self.columns.number:
            next(piece for piece in self._records if isinstance(piece, Row))

    @property
    def header(self) -> bytes:
        """The header that is put before each row."""
        return self.columns.header

    def records(self) -> Iterator[Piece]:
        """Yield each record; where no later line can close a quote, only its own line is rejected."""
        return self._records


def _first_lines(lines: Iterator[Line]) -> tuple[list[Line], bool]:
    """Return the first lines, without leading blank ones, and whether there are no more."""
    first: list[Line] = []
    size = 0
    for number, raw in lines:
        line = raw if first or raw is None else without_marks(raw)
        if not first and line is not None and not line.strip():
            continue
        first.append((number, line))
        size += len(line or b"")
        if len(first) >= _SAMPLE_LINES_MAX or size >= _SAMPLE_BYTES_MAX:
            return first, False
    return first, True


def _separator(first: list[Line], form: FileFormat) -> Dialect | None:
    """Return the dialect that the settings or a first line `sep=;` give, else None. That line is removed."""
    found = _SEPARATOR_LINE.fullmatch(first[0][1] or b"")
    if found:
        del first[0]
    if form.delimiter is not None:
        return form.dialect(form.delimiter)
    if not found:
        return None
    delimiter = found["delimiter"].decode("ascii", "replace")
    if marks_problem(delimiter, form.quote):
        raise UnreadableError(f"the line `sep=` names no delimiter; give `delimiter` for this source in {SETTING}")
    return form.dialect(delimiter)
