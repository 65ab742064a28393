"""Mapping: the rows of a chunk become envelopes, or are refused with the reason. Pure."""

import csv
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final, NamedTuple, NoReturn, Protocol

import msgspec

from shared.contracts.csv_row import content_type_of
from shared.contracts.errors import InvalidEventError, Problem
from shared.contracts.event import ID_CHARS_MAX, Channel, Envelope, id_problem, identify, stamp
from shared.contracts.payload import malformed_problem
from shared.files.columns import Columns, NoData, RowScreen
from shared.files.file_format import SETTING
from shared.files.quoting import RecordReader, is_well_quoted
from shared.files.rows import Chunk, Reject, Row, Skipped, UnreadableError, unreadable

_STRAY_QUOTE: Final = (
    "has a quote within a field that does not begin with one; quote the whole field and double the quotes in it, or, "
    f'where quotes are characters like others, say quote = "" for its source in {SETTING}'
)

ReadId = Callable[[bytes], str]
"""Checks a row and returns its own id; empty: it has none.

Raises InvalidEventError; UnreadableError where from this row on nothing can be read.
"""


class RowFilter(Protocol):
    """Separates the new rows of a file from those that were published before."""

    def new(self, row: Row) -> Row | None:
        """Return the row, with its key where it has one of its own; None: it is known. Called for each row, in order.

        Raises:
            InvalidEventError: it is known, and was rejected.
            UnreadableError: the rest of the file is not read.
        """

    def skip_reject(self) -> None:
        """Note that a row was rejected while the file was cut."""


class CsvTable(Protocol):
    """The header of a CSV file, and its screen for rows that are no data; `CsvFile` has both."""

    columns: Columns
    screen: RowScreen


class MappedChunk(NamedTuple):
    """The events of a chunk, and what was rejected; `skipped` counts rows that held nothing.

    `last` is the last row or reject; `unreadable`: nothing after it can be read.
    """

    events: list[Envelope]
    rejects: list[Reject]
    skipped: int
    last: Row | Reject | None
    unreadable: bool


class RowMapper:
    """Maps the rows of one file."""

    def __init__(  # noqa: PLR0913 - each is the same for all rows of a file
        self,
        source: str,
        file_name: str,
        read_id: ReadId,
        *,
        key_prefix: str = "",
        derived: bool = True,
        header: bytes = b"",
        content_type: str = "application/json",
    ) -> None:
        """A row without an id of its own has the key `key_prefix` and its number, unless the row brings a key.

        The body of an event is `header` and the row. `derived=False`: derived keys are in producers' name space, where
        they were before derived keys had their own.
        """
        self._source = source
        self._file_name = file_name
        self._read_id = read_id
        self._key_prefix = key_prefix
        self._derived = derived
        self._header = header
        self._content_type = content_type
        self.derived_keys = 0
        """How many rows had no id of their own."""

    def map(self, row: Row, received_at: datetime) -> Envelope:
        """Return the envelope. Raises InvalidEventError; UnreadableError: from this row on nothing can be read."""
        key = self._read_id(row.body)
        derived = False
        if not key:
            key = row.key or f"{self._key_prefix}{row.number}"
            derived = self._derived
            self.derived_keys += 1
        return Envelope(
            event_id=identify(self._source, key, derived=derived),
            source=self._source,
            channel=Channel.FILE,
            received_at=received_at,
            body=self._header + row.body,
            idempotency_key=key,
            derived=derived,
            content_type=self._content_type,
            origin=f"{self._file_name}:{row.number}",
        )

    def map_chunk(self, chunk: Chunk, received_at: datetime, row_filter: RowFilter | None = None) -> MappedChunk:
        """Return the envelopes of a chunk; each is a microsecond after the one before."""
        events: list[Envelope] = []
        rejects: list[Reject] = []
        last: Row | Reject | None = None
        skipped, fault = 0, chunk.fault
        for piece in chunk.pieces:
            if type(piece) is Row:
                try:
                    row = piece if row_filter is None else row_filter.new(piece)
                    if row is not None:
                        events.append(self.map(row, stamp(received_at, len(events))))
                except InvalidEventError as error:
                    rejects.append(Reject(piece.number, _reason(error)))
                except UnreadableError as error:
                    fault = unreadable(piece.number, error)
                    break
                last = piece
            elif isinstance(piece, Reject):
                rejects.append(piece)
                last = piece
                if row_filter:
                    row_filter.skip_reject()
            elif isinstance(piece, Skipped):
                skipped += piece.count
        if fault:
            rejects.append(fault)
        return MappedChunk(events, rejects, skipped, last, fault is not None)


def row_mapper(  # noqa: PLR0913 - each is the same for all rows of a file
    table: CsvTable | None, source: str, file_name: str, *, id_field: str, key_prefix: str = "", derived: bool = True
) -> RowMapper:
    """Return the mapper of a file's rows: CSV records where it has a `table`, else JSON objects.

    A JSON row's own id is its member `id_field`, a string or an integer, and the body is the row. A record's own id is
    in the column that the table names, unless that is empty; the body is the header, a line feed and the record.
    """
    if table is None:
        return RowMapper(source, file_name, _JsonId(id_field), key_prefix=key_prefix, derived=derived)
    return RowMapper(
        source,
        file_name,
        _CsvId(table.columns, table.screen),
        key_prefix=key_prefix,
        derived=derived,
        header=table.columns.header + b"\n",
        content_type=content_type_of(table.columns.dialect),
    )


class _JsonId:
    """Reads the own id of a row that is a JSON object."""

    def __init__(self, id_field: str) -> None:
        self._pointer = _pointer(id_field)
        # Only the id becomes a value; the rest is checked to be JSON and skipped.
        own = msgspec.defstruct("OwnId", [("value", str | int | None, None)], rename={"value": id_field}, gc=False)
        self._decode: Callable[[bytes], Any] = msgspec.json.Decoder(own).decode

    def __call__(self, body: bytes) -> str:
        try:
            own = self._decode(body).value
            # The decoder passes over strings that it skips without looking at their encoding.
            if not body.isascii():
                body.decode()
        except UnicodeDecodeError:
            _refuse("", "must be UTF-8")
        except RecursionError:
            _refuse("", "is nested too deeply")
        except msgspec.ValidationError:
            if not body.lstrip().startswith(b"{"):
                _refuse("", "must be a JSON object")
            _refuse(self._pointer, "must be a string or an integer")
        except msgspec.DecodeError as error:
            _refuse("", malformed_problem(body, error))
        return "" if own is None else _checked_id(own if isinstance(own, str) else _digits(own), self._pointer)


class _CsvId:
    """Reads the own id of a CSV record."""

    def __init__(self, columns: Columns, screen: RowScreen) -> None:
        dialect = columns.dialect
        self._dialect = dialect
        self._charset = dialect.charset
        self._delimiter = dialect.delimiter
        self._reader = RecordReader(dialect)
        # No record without a quote holds a line feed.
        self._quote = dialect.quote.encode() or b"\n"
        self._fields = len(columns.names)
        self._index = columns.id_index
        self._pointer = _pointer("" if columns.id_index is None else columns.names[columns.id_index])
        self._screen = screen
        self._firsts = screen.firsts

    def __call__(self, record: bytes) -> str:
        fields = self._read(record)
        if len(fields) != self._fields:
            _refuse("", f"has {len(fields)} fields where the header has {self._fields}")
        if fields[0] in self._firsts:
            self._refuse_no_data(fields)
        own = fields[self._index] if self._index is not None else ""
        return own and _checked_id(own, self._pointer)

    def _read(self, record: bytes) -> list[str]:
        try:
            # Without quotes and carriage returns a delimiter can only mean one thing.
            if self._quote not in record and b"\r" not in record:
                return record.decode(self._charset).split(self._delimiter)
            fields = self._reader.read(record)
        except UnicodeDecodeError:
            _refuse("", f"must be {self._dialect.charset.upper()}, or what `encoding` says for its source in {SETTING}")
        except csv.Error:
            _refuse("", "is not valid CSV")
        # The reader takes a quote within a field as a character; other programs take it as the begin of a quoted text.
        if self._dialect.quote in "".join(fields) and not is_well_quoted(record, self._dialect):
            _refuse("", _STRAY_QUOTE)
        return fields

    def _refuse_no_data(self, fields: list[str]) -> None:
        """Refuse a row that is no data. Raises UnreadableError where the rows after it have other columns."""
        match self._screen.find(fields):
            case NoData.HEADER_AGAIN:
                _refuse("", "is the header once more, as in files that were put one after the other")
            case NoData.OTHER_HEADER:
                raise UnreadableError("another header begins, as in files that were put one after the other")
            case NoData.TOTAL:
                _refuse("", f'looks like a total; total_line = "accept" for its source in {SETTING} takes such rows')


def _pointer(name: str) -> str:
    return "/" + name.replace("~", "~0").replace("/", "~1")


def _digits(own: int) -> str:
    # An id is short; Python refuses to write out integers of some thousand digits.
    return str(own) if abs(own) < 10**ID_CHARS_MAX else ""


def _checked_id(own: str, pointer: str) -> str:
    problem = id_problem(own)
    if problem:
        _refuse(pointer, problem)
    return own


def _refuse(pointer: str, detail: str) -> NoReturn:
    raise InvalidEventError([Problem(pointer, detail)]) from None


def _reason(error: InvalidEventError) -> str:
    return "; ".join(f"{problem.pointer} {problem.detail}".lstrip() for problem in error.problems)
