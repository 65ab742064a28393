"""Mapping: one row of a file becomes an envelope, or is refused with the reason. Pure."""

import csv
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final, NoReturn, Protocol

import msgspec

from file_watcher.formats.columns import Columns, NoData, RowScreen
from file_watcher.formats.file_format import SETTING
from file_watcher.formats.records import RecordReader, is_well_quoted
from file_watcher.formats.rows import Row, UnreadableError
from shared.contracts.csv_row import content_type_of
from shared.contracts.errors import InvalidEventError, Problem
from shared.contracts.event import ID_CHARS_MAX, Channel, Envelope, id_problem, identify
from shared.contracts.payload import malformed_problem

_STRAY_QUOTE: Final = (
    "has a quote within a field that does not begin with one; quote the whole field and double the quotes in it, or, "
    f'where quotes are characters like others, say quote = "" for its source in {SETTING}'
)

DeriveKey = Callable[[Row], str]
"""Gives the idempotency key of a row that has no id of its own; the same for the same row, whenever it is read."""


class MapRow(Protocol):
    """Maps rows of one format."""

    def __call__(self, row: Row, received_at: datetime) -> Envelope:
        """Return the envelope. Raises InvalidEventError; UnreadableError where from this row on nothing can be read."""


class JsonRows:
    """Rows that are JSON objects; the body is the row."""

    def __init__(self, source: str, file_name: str, *, id_field: str, derive_key: DeriveKey, derived: bool) -> None:
        """`id_field` is the member that holds a row's own id, a string or an integer.

        `derived=False`: also the keys that we make are in producers' name space, as before they had one of their own.
        """
        self._source = source
        self._file_name = file_name
        self._derive_key = derive_key
        self._derived = derived
        self._id_pointer = _pointer(id_field)
        # Only the id becomes a value; the rest is checked to be JSON and skipped.
        own = msgspec.defstruct("OwnId", [("value", str | int | None, None)], rename={"value": id_field}, gc=False)
        self._decode: Callable[[bytes], Any] = msgspec.json.Decoder(own).decode

    def __call__(self, row: Row, received_at: datetime) -> Envelope:
        """See `MapRow`."""
        own_id = self._own_id(row.body)
        key = own_id or self._derive_key(row)
        derived = self._derived and not own_id
        return Envelope(
            event_id=identify(self._source, key, derived=derived),
            source=self._source,
            channel=Channel.FILE,
            received_at=received_at,
            body=row.body,
            idempotency_key=key,
            derived=derived,
            origin=f"{self._file_name}:{row.number}",
        )

    def _own_id(self, body: bytes) -> str:
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
            _refuse(self._id_pointer, "must be a string or an integer")
        except msgspec.DecodeError as error:
            _refuse("", malformed_problem(body, error))
        return "" if own is None else _checked_id(own if isinstance(own, str) else _digits(own), self._id_pointer)


class CsvRows:
    """Records of a CSV file; the body is the header, a line feed and the record, so that it can be read alone."""

    def __init__(  # noqa: PLR0913 - what is one for all rows of a file
        self,
        source: str,
        file_name: str,
        *,
        columns: Columns,
        screen: RowScreen,
        derive_key: DeriveKey,
        derived: bool,
    ) -> None:
        """A row's own id is what stands in the column that `columns` name for it; an empty one is none.

        `derived`: see `JsonRows`.
        """
        dialect = columns.dialect
        self._source = source
        self._file_name = file_name
        self._prefix = columns.header + b"\n"
        self._content_type = content_type_of(dialect)
        self._dialect = dialect
        self._charset = dialect.charset
        self._delimiter = dialect.delimiter
        self._reader = RecordReader(dialect)
        # No record without a quote holds a line feed.
        self._quote = dialect.quote.encode() or b"\n"
        self._fields = len(columns.names)
        self._id_index = columns.id_index
        self._id_pointer = _pointer("" if columns.id_index is None else columns.names[columns.id_index])
        self._screen = screen
        self._firsts = screen.firsts
        self._derive_key = derive_key
        self._derived = derived

    def __call__(self, row: Row, received_at: datetime) -> Envelope:
        """See `MapRow`."""
        own_id = self._own_id(row.body)
        key = own_id or self._derive_key(row)
        derived = self._derived and not own_id
        return Envelope(
            event_id=identify(self._source, key, derived=derived),
            source=self._source,
            channel=Channel.FILE,
            received_at=received_at,
            body=self._prefix + row.body,
            idempotency_key=key,
            derived=derived,
            content_type=self._content_type,
            origin=f"{self._file_name}:{row.number}",
        )

    def _own_id(self, record: bytes) -> str:
        fields = self._read(record)
        if len(fields) != self._fields:
            _refuse("", f"has {len(fields)} fields where the header has {self._fields}")
        if fields[0] in self._firsts:
            self._refuse_no_data(fields)
        own = fields[self._id_index] if self._id_index is not None else ""
        return own and _checked_id(own, self._id_pointer)

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
        # The reader takes a quote within a field for a character; others take it for the beginning of a quoted text.
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
