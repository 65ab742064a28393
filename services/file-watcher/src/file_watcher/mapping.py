"""Mapping: one row of a file becomes an envelope, or is refused with the reason. Pure."""

import csv
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final, NoReturn, Protocol

import msgspec

from file_watcher.rows import RecordReader, Row
from shared.contracts.errors import RefusedError
from shared.contracts.event import ID_CHARS_MAX, Channel, Envelope, id_problem, identify
from shared.contracts.outcome import Problem

JSON: Final = "application/json"
CSV_ROW: Final = "text/csv; header=present"

DeriveKey = Callable[[Row], str]
"""Gives the idempotency key of a row that has no id of its own; the same for the same row, whenever it is read."""


class MapRow(Protocol):
    """Maps rows of one format."""

    def __call__(self, row: Row, received_at: datetime) -> Envelope:
        """Return the envelope. Raises RefusedError."""


class JsonRows:
    """Rows that are JSON objects; the body is the row."""

    def __init__(self, source: str, file_name: str, *, id_field: str, derive_key: DeriveKey) -> None:
        """`id_field` is the member that holds a row's own id, a string or an integer."""
        self._source = source
        self._file_name = file_name
        self._derive_key = derive_key
        self._id_pointer = "/" + id_field.replace("~", "~0").replace("/", "~1")
        # Only the id becomes a value; the rest is checked to be JSON and skipped.
        own = msgspec.defstruct("OwnId", [("value", str | int | None, None)], rename={"value": id_field}, gc=False)
        self._decode: Callable[[bytes], Any] = msgspec.json.Decoder(own).decode

    def __call__(self, row: Row, received_at: datetime) -> Envelope:
        """See `MapRow`."""
        key = self._own_id(row.body) or self._derive_key(row)
        return Envelope(
            event_id=identify(self._source, key),
            source=self._source,
            channel=Channel.FILE,
            received_at=received_at,
            body=row.body,
            idempotency_key=key,
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
        except msgspec.DecodeError:
            _refuse("", "must be valid JSON")
        return "" if own is None else _checked_id(own if isinstance(own, str) else _digits(own), self._id_pointer)


class CsvRows:
    """Records of a CSV file; the body is the header, a line feed and the record, so that it can be read alone."""

    def __init__(  # noqa: PLR0913 - what is one for all rows of a file
        self,
        source: str,
        file_name: str,
        *,
        header: bytes,
        columns: list[str],
        id_field: str,
        derive_key: DeriveKey,
    ) -> None:
        """`id_field` is the column that holds a row's own id; an empty one is none."""
        self._source = source
        self._file_name = file_name
        self._prefix = header + b"\n"
        self._reader = RecordReader()
        self._fields = len(columns)
        self._id_index = columns.index(id_field) if id_field in columns else None
        self._id_pointer = "/" + id_field.replace("~", "~0").replace("/", "~1")
        self._derive_key = derive_key

    def __call__(self, row: Row, received_at: datetime) -> Envelope:
        """See `MapRow`."""
        key = self._own_id(row.body) or self._derive_key(row)
        return Envelope(
            event_id=identify(self._source, key),
            source=self._source,
            channel=Channel.FILE,
            received_at=received_at,
            body=self._prefix + row.body,
            idempotency_key=key,
            content_type=CSV_ROW,
            origin=f"{self._file_name}:{row.number}",
        )

    def _own_id(self, record: bytes) -> str:
        fields = self._read(record)
        if len(fields) != self._fields:
            _refuse("", f"has {len(fields)} fields where the header has {self._fields}")
        own = fields[self._id_index] if self._id_index is not None else ""
        return own and _checked_id(own, self._id_pointer)

    def _read(self, record: bytes) -> list[str]:
        try:
            # Without quotes and carriage returns a comma can only mean one thing.
            if b'"' not in record and b"\r" not in record:
                return record.decode().split(",")
            return self._reader.read(record)
        except UnicodeDecodeError:
            _refuse("", "must be UTF-8")
        except csv.Error:
            _refuse("", "is not valid CSV")


def _digits(own: int) -> str:
    # An id is short; Python refuses to write out integers of some thousand digits.
    return str(own) if abs(own) < 10**ID_CHARS_MAX else ""


def _checked_id(own: str, pointer: str) -> str:
    problem = id_problem(own)
    if problem:
        _refuse(pointer, problem)
    return own


def _refuse(pointer: str, detail: str) -> NoReturn:
    raise RefusedError([Problem(pointer, detail)]) from None
