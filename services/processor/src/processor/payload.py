"""Reads CSV rows, and compares two payloads by value. Pure."""

import csv
from collections.abc import Iterator, Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final

import msgspec

from shared.contracts.csv_row import CSV_ROW, Dialect, dialect_of
from shared.contracts.event import Envelope
from shared.contracts.payload import names_member_twice, same_value

CSV: Final = CSV_ROW.partition(";")[0]
# Many rows have one header; one that is longer than this is read again for each.
_HEADER_CHARS_MAX: Final = 4_096
# A row is read as text, cut and written again, which takes many times its size.
_ROW_BYTES_MAX: Final = 4 * 1024 * 1024

# Two bodies are read at once to be compared, and their numbers take more memory than those of one.
_COMPARED_VALUES_MAX: Final = 100_000
_COMPARED_BYTES_MAX: Final = 4 * 1024 * 1024
# Blanks and escapes make a body several times as long, and no more. So the stored body that is read for a comparison is
# at most a multiple of the body that was sent.
_ALWAYS_COMPARED_BYTES: Final = 64 * 1024
_TIMES_LONGER_MAX: Final = 16

READ_ERRORS: Final = (UnicodeDecodeError, RecursionError, ArithmeticError, msgspec.DecodeError)
"""The errors of reading a body."""

_read_exactly = msgspec.json.Decoder(float_hook=Decimal).decode


class UnreadableError(ValueError):
    """The body holds no payload that can be processed; the message says why, without a value."""


def may_be_same(one_bytes: int, other_bytes: int) -> bool:
    """Return False where bodies of these sizes are too large, or too far apart, to be the same in other bytes."""
    shorter, longer = sorted((one_bytes, other_bytes))
    return longer <= min(max(_ALWAYS_COMPARED_BYTES, _TIMES_LONGER_MAX * shorter), _COMPARED_BYTES_MAX)


def same_payload(event: Envelope, content_type: str, body: bytes) -> bool:
    """Return True where two bodies are the same event content: equal bytes, else equal JSON values.

    Numbers compare by value and exactly (1.10 equals 1.1, 0.1 does not equal 0.1000000000000000055); true is not 1. A
    body that names a member twice has no value that all readers agree on, so it equals its own bytes only; and so does
    one that is very large.
    """
    if event.body == body:
        return True
    if not may_be_same(len(event.body), len(body)):
        return False
    try:
        one, other = _exact_payload(event.content_type, event.body), _exact_payload(content_type, body)
    except (UnreadableError, *READ_ERRORS):
        return False
    return (
        same_value(one, other)
        and not _names_twice(one, event.content_type, event.body)
        and not _names_twice(other, content_type, body)
    )


def _exact_payload(content_type: str, body: bytes) -> Any:  # noqa: ANN401 - any JSON value
    if content_type.startswith(CSV):
        return read_row(body, content_type)
    if values_at_most(body) > _COMPARED_VALUES_MAX:
        raise UnreadableError("holds too many values")
    return _read_exactly(body)


def values_at_most(body: bytes) -> int:
    """Return a number that a JSON body has no more values than, without reading it."""
    return body.count(b",") + body.count(b"[") + body.count(b"{")


def _names_twice(payload: Any, content_type: str, body: bytes) -> bool:  # noqa: ANN401 - any JSON value
    return not content_type.startswith(CSV) and names_member_twice(body, payload)


def read_row(body: bytes, content_type: str) -> dict[str, str]:
    """Return a CSV document of a header and one row as an object of strings: no value is guessed or rounded.

    The names are those of the header without the blanks around them. Raises UnreadableError.
    """
    dialect = dialect_of(content_type)
    if dialect is None:
        raise UnreadableError(f"must have the content type {CSV_ROW} and no parameters but those known for rows")
    if len(body) > _ROW_BYTES_MAX:
        raise UnreadableError("is larger than a row of 4 MiB")
    try:
        text = body.decode(dialect.charset)
    except UnicodeDecodeError as error:
        raise UnreadableError(f"must be {dialect.charset.upper()}") from error
    names, row = _cut_row(text, dialect)
    if len(names) != len(row):
        raise UnreadableError("has another number of fields than its header")
    if "\x00" in text:
        raise UnreadableError("holds U+0000, which PostgreSQL text cannot")
    return dict(zip(names, row, strict=True))


def _cut_row(text: str, dialect: Dialect) -> tuple[Sequence[str], list[str]]:
    """Return the names and the fields of a CSV document of a header and one row. Raises UnreadableError."""
    header, ended, row = text.partition("\n")
    try:
        if not ended or not _is_plain(header, dialect):
            fields, cut = _records(text, dialect)
            return _unique(fields), cut
        names = (_short_names if len(header) <= _HEADER_CHARS_MAX else _names)(header, dialect.delimiter)
        if _is_plain(row, dialect):
            return names, row.split(dialect.delimiter)
        (cut,) = _records(row, dialect)
    except UnreadableError:
        raise
    except (csv.Error, ValueError) as error:
        raise UnreadableError("must be a CSV header and one row") from error
    return names, cut


def _is_plain(record: str, dialect: Dialect) -> bool:
    """Return True where a delimiter in the record can only mean one thing."""
    if not record or "\n" in record or "\r" in record:
        return False
    return not dialect.quote or dialect.quote not in record


def _records(text: str, dialect: Dialect) -> Iterator[list[str]]:
    """Return a reader of the records of a text."""
    # A field may be as long as the row.
    csv.field_size_limit(_ROW_BYTES_MAX)
    # Cut at line feeds alone, and each kept: one in quotes belongs to its value.
    return csv.reader(
        (f"{line}\n" for line in text.split("\n")),
        strict=True,
        delimiter=dialect.delimiter,
        quotechar=dialect.quote or None,
        quoting=csv.QUOTE_MINIMAL if dialect.quote else csv.QUOTE_NONE,
    )


def _names(header: str, delimiter: str) -> tuple[str, ...]:
    return _unique(header.split(delimiter))


_short_names = lru_cache(maxsize=256)(_names)


def _unique(header: Sequence[str]) -> tuple[str, ...]:
    """Return the names of a header without the blanks around them, or with them where names differ only in blanks."""
    names = tuple(name.strip() for name in header)
    if len(set(names)) < len(names):
        names = tuple(header)
    if len(set(names)) < len(names):
        raise UnreadableError("has a header that names a column twice")
    return names
