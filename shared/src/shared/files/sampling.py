"""Checks the first rows of a CSV file: finds its delimiter, and whether the header is a header. Pure.

An error here refuses the whole file, so that nothing of it is stored.
"""

import csv
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from shared.contracts.csv_row import Dialect
from shared.files.columns import (
    Columns,
    NoData,
    RowScreen,
    check_names,
    find_id,
    normal,
    refuse_data,
    value_kind,
)
from shared.files.file_format import SETTING, FileFormat, encode_header
from shared.files.quoting import RecordReader, is_well_quoted
from shared.files.rows import Line, RecordCutter, Reject, Row, UnreadableError

DELIMITERS: Final = (",", ";", "\t", "|")

# Every event repeats the header.
_HEADER_BYTES_MAX: Final = 64 * 1024
_DECIMAL_COMMA: Final = re.compile(r"[+-]?\d+,\d+")
_DIGITS: Final = re.compile(r"\d+")
_NAMES: Final = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}

Rows = list[tuple[int, list[str]]]


class FirstLines(NamedTuple):
    """The first lines of a file; `ended`: there are no more, and the last one is complete."""

    lines: list[Line]
    ended: bool
    row_bytes_max: int


class Sample(NamedTuple):
    """The first rows, read with one delimiter. `fault`: why the header cannot be read."""

    dialect: Dialect
    header: bytes
    number: int
    names: list[str]
    rows: Rows
    fault: str = ""


def choose_columns(first: FirstLines, form: FileFormat, dialect: Dialect | None, id_field: str) -> Columns:
    """Return the columns; `dialect`: None where the delimiter must be found.

    Raises:
        UnreadableError: it cannot name the columns, or the rows do not fit it.
    """
    sample = _choose(first, form, id_field) if dialect is None else _read(first, form, dialect)
    if sample.fault:
        raise UnreadableError(sample.fault)
    if sample.number:
        check_names(sample.names, sample.number)
    columns = Columns(
        sample.header,
        [name.strip() for name in sample.names],
        sample.dialect,
        find_id([name.strip() for name in sample.names], id_field),
        sample.number,
    )
    _check_rows(sample, columns, form, id_field)
    if sample.number:
        _check_late_header(sample, first)
        _check_no_data(sample)
    return columns


def _choose(first: FirstLines, form: FileFormat, id_field: str) -> Sample:
    """Return the sample with the only delimiter that fits; with a comma where several do."""
    comma, *others = [
        _read(first, form, form.dialect(delimiter))
        for delimiter in DELIMITERS
        if delimiter == "," or any(delimiter.encode() in (line or b"") for _, line in first.lines)
    ]
    fitting = [sample for sample in others if _fits(sample)]
    if _fits(comma):
        rivals = [sample for sample in fitting if _fits_better(sample, comma, id_field)]
        return _no_rival(comma, rivals)
    if fitting:
        return _no_rival(fitting[0], fitting[1:])
    if len(comma.names) > 1:
        return comma
    # Rows of several columns below a header of one show that the comma is wrong.
    return next((sample for sample in others if (odd := _misfit(sample)) and len(odd[1]) > 1), comma)


def _no_rival(chosen: Sample, rivals: Sequence[Sample]) -> Sample:
    if not rivals:
        return chosen
    one, other = (_NAMES[sample.dialect.delimiter] for sample in (chosen, rivals[0]))
    raise UnreadableError(
        f"the first rows may be delimited by {one} or by {other}; give `delimiter` for this source in {SETTING}"
    )


def _fits(sample: Sample) -> bool:
    return not sample.fault and len(sample.names) > 1 and _misfit(sample) is None


def _fits_better(sample: Sample, comma: Sample, id_field: str) -> bool:
    """Return True where the comma is rather part of the values than the delimiter."""
    name = normal(id_field)
    if name in map(normal, sample.names) and name not in map(normal, comma.names):
        return True
    return any(_DECIMAL_COMMA.fullmatch(field.strip()) for _, fields in sample.rows for field in fields)


def _misfit(sample: Sample) -> tuple[int, list[str]] | None:
    """Return the first row with another number of fields, where such rows are more than those that fit."""
    counts = Counter(len(fields) for _, fields in sample.rows)
    fitting = counts.pop(len(sample.names), 0)
    if not counts:
        return None
    count, times = counts.most_common(1)[0]
    if fitting and times <= fitting:
        return None
    return next(row for row in sample.rows if len(row[1]) == count)


def _read(first: FirstLines, form: FileFormat, dialect: Dialect) -> Sample:
    """Read the first rows with this dialect."""
    cutter = RecordCutter(
        iter(first.lines),
        dialect,
        first.row_bytes_max,
        complete=first.ended,
        last_row_counts=form.last_row == "accept",
    )
    pieces = (piece for piece in cutter.records() if isinstance(piece, Row | Reject))
    if form.header != "present":
        return _sample_of(dialect, form.header, pieces)
    header = next(pieces, None)
    if header is None:
        return Sample(dialect, b"", 1, [], [], "there is no header")
    try:
        names = _read_header(header, dialect)
    except UnreadableError as error:
        return Sample(dialect, b"", header.number, [], [], str(error))
    body = header.body if isinstance(header, Row) else b""
    return Sample(dialect, body, header.number, names, list(_readable(pieces, dialect)))


def _sample_of(dialect: Dialect, names: Sequence[str], pieces: Iterator[Row | Reject]) -> Sample:
    try:
        header = encode_header(names, dialect)
    except csv.Error:
        return Sample(dialect, b"", 0, [], [], "the names in `header` cannot be written without a quote")
    return Sample(dialect, header, 0, list(names), list(_readable(pieces, dialect)))


def _read_header(header: Row | Reject, dialect: Dialect) -> list[str]:
    if isinstance(header, Reject):
        raise UnreadableError(f"the header is not valid CSV: it {header.reason}")
    if len(header.body) > _HEADER_BYTES_MAX:
        raise UnreadableError(f"the header is larger than {_HEADER_BYTES_MAX} bytes")
    try:
        names = RecordReader(dialect).read(header.body)
    except UnicodeDecodeError as error:
        raise UnreadableError(
            f"the header (line {header.number}) is not {dialect.charset.upper()}; give `encoding`, such as "
            f'"windows-1252", for this source in {SETTING}'
        ) from error
    except csv.Error as error:
        raise UnreadableError("the header is not valid CSV") from error
    if not is_well_quoted(header.body, dialect):
        raise UnreadableError("the header is not valid CSV: a quote is within a field")
    return names


def _readable(pieces: Iterator[Row | Reject], dialect: Dialect) -> Iterator[tuple[int, list[str]]]:
    """Yield the fields of each row that can be read; the others are rejected later, one by one."""
    reader = RecordReader(dialect)
    for piece in pieces:
        if isinstance(piece, Row) and is_well_quoted(piece.body, dialect):
            try:
                yield piece.number, reader.read(piece.body)
            except (csv.Error, UnicodeDecodeError):
                continue


def _check_rows(sample: Sample, columns: Columns, form: FileFormat, id_field: str) -> None:
    """Raise UnreadableError where the rows do not fit the header."""
    if odd := _misfit(sample):
        number, fields = odd
        has = f"line {sample.number}, read as the header, has" if sample.number else "`header` names"
        raise UnreadableError(
            f"line {number} has {len(fields)} fields where {has} {len(sample.names)}: it looks as if there are lines "
            f"above the header, or another delimiter; give `skip_lines` or `delimiter` for this source in {SETTING}"
        )
    screen = RowScreen(columns.names, columns.id_index, totals=form.total_line == "refuse")
    for number, fields in sample.rows:
        if len(fields) == len(columns.names):
            _check_row(number, fields, screen, "" if columns.id_index is not None else normal(id_field))


def _check_row(number: int, fields: list[str], screen: RowScreen, id_name: str) -> None:
    """Raise UnreadableError where a row is a total or another header.

    `id_name`: what a column for ids would be called; empty where the header has one.
    """
    match screen.find(fields):
        case NoData.TOTAL:
            raise UnreadableError(
                f'line {number} looks like a total; total_line = "reject" leaves out the row alone, and "accept" '
                f"takes it as an event, for this source in {SETTING}"
            )
        case NoData.OTHER_HEADER:
            raise _late_header(number)
        case None if id_name and id_name in map(normal, fields) and _are_names(fields):
            raise _late_header(number)


def _check_late_header(sample: Sample, first: FirstLines) -> None:
    """Raise UnreadableError where a blank line is followed by a header for the rows below it."""
    blank = {number for number, line in first.lines if line is not None and not line.strip()}
    for index, (number, fields) in enumerate(sample.rows):
        if number - 1 in blank and _are_names(fields):
            below = [row for _, row in sample.rows[index + 1 :] if len(row) == len(fields)]
            if below and any(all(value_kind(row[column]) for row in below) for column in range(len(fields))):
                raise _late_header(number)


def _are_names(fields: Sequence[str]) -> bool:
    return all(field.strip() and not value_kind(field) for field in fields) and len(set(fields)) == len(fields)


def _late_header(number: int) -> UnreadableError:
    return UnreadableError(
        f"line {number} looks like a header, but it is not the first row; give the number of lines above the header in "
        f"`skip_lines` for this source in {SETTING}, or drop two files instead of one"
    )


def _check_no_data(sample: Sample) -> None:
    """Raise UnreadableError where a column's name equals half of its values, or has the form of their ids."""
    heading = [normal(name) for name in sample.names]
    rows = [
        fields
        for _, fields in sample.rows
        if len(fields) == len(heading) and [normal(field) for field in fields] != heading
    ]
    for index, name in enumerate(name.strip() for name in sample.names):
        numbered = _DIGITS.search(name) is not None
        cells = (fields[index].strip() for fields in rows)
        alike = sum(cell == name or (numbered and _form(cell) == _form(name)) for cell in cells)
        if alike and 2 * alike >= len(rows):
            raise refuse_data(sample.number, index)


def _form(cell: str) -> str:
    """Return a text with each number replaced by 0: `pay-0017` and `pay-18` have the same form."""
    return _DIGITS.sub("0", cell)
