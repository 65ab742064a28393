"""Reads CSV rows as they are stored: a header and one row. Pure."""

import csv
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import islice
from typing import Final

import msgspec

from shared.contracts.csv_row import CSV_ROW, Dialect, dialect_of

CSV: Final = CSV_ROW.partition(";")[0]
"""What the content type of a row begins with."""

# Many rows have one header; one that is longer than this is read again for each.
_HEADER_CHARS_MAX: Final = 4_096
# A row is read as text, cut and written again, which takes many times its size.
_ROW_BYTES_MAX: Final = 4 * 1024 * 1024

_NO_ROW: Final = "must be a CSV header and one row"
_OTHER_NUMBER: Final = "has another number of fields than its header"
_HOLDS_NUL: Final = "holds U+0000, which PostgreSQL text cannot"


class UnreadableError(ValueError):
    """The body holds no payload that can be processed; the message says why, without a value."""


def read_row(body: bytes, content_type: str) -> dict[str, str]:
    """Return a CSV document of a header and one row as an object of strings: no value is guessed or rounded.

    The names are those of the header without the blanks around them. Raises UnreadableError.
    """
    names, fields, text = _cut(body, content_type)
    row = dict(zip(names, fields, strict=False))
    if not len(row) == len(names) == len(fields):
        twice = len(set(names)) < len(names)
        raise UnreadableError("has a header that names a column twice" if twice else _OTHER_NUMBER)
    if "\x00" in text:
        raise UnreadableError(_HOLDS_NUL)
    return row


def cut_row(body: bytes, content_type: str) -> tuple[tuple[str, ...], list[str]]:
    """Return the names and the fields of a CSV document of a header and one row; there are as many of both.

    The names are without the blanks around them, unless two differ only in these; two may be the same. Rows of one
    header have one tuple of names, where the header is short and without quotes. Raises UnreadableError.
    """
    names, fields, text = _cut(body, content_type)
    if len(names) != len(fields):
        raise UnreadableError(_OTHER_NUMBER)
    if "\x00" in text:
        raise UnreadableError(_HOLDS_NUL)
    return names, fields


def payload_of(body: bytes, content_type: str) -> bytes | None:
    """Return the payload of a stored body as JSON; None where it is a CSV row that is no object of strings."""
    if not content_type.startswith(CSV):
        return body
    try:
        return msgspec.json.encode(read_row(body, content_type))
    except UnreadableError:
        return None


def _cut(body: bytes, content_type: str) -> tuple[tuple[str, ...], list[str], str]:
    """Return the names, the fields and the text of a document. Raises UnreadableError."""
    dialect = dialect_of(content_type)
    if dialect is None:
        raise UnreadableError(f"must have the content type {CSV_ROW} and no parameters but those known for rows")
    if len(body) > _ROW_BYTES_MAX:
        raise UnreadableError("is larger than a row of 4 MiB")
    try:
        text = body.decode(dialect.charset)
    except UnicodeDecodeError as error:
        raise UnreadableError(f"must be {dialect.charset.upper()}") from error
    header, ended, row = text.partition("\n")
    if not ended or not _is_plain(header, dialect):
        header_fields, fields = _cut_records(text, 2, dialect)
        return _stripped(header_fields), fields, text
    names = (_short_names if len(header) <= _HEADER_CHARS_MAX else _names)(header, dialect.delimiter)
    if _is_plain(row, dialect):
        return names, row.split(dialect.delimiter), text
    (fields,) = _cut_records(row, 1, dialect)
    return names, fields, text


def _cut_records(text: str, number: int, dialect: Dialect) -> list[list[str]]:
    """Return the records of a text. Raises UnreadableError: there are more or fewer than `number`."""
    try:
        records = list(islice(_records(text, dialect), number + 1))
    except csv.Error as error:
        raise UnreadableError(_NO_ROW) from error
    if len(records) != number:
        raise UnreadableError(_NO_ROW)
    return records


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
    return _stripped(header.split(delimiter))


_short_names = lru_cache(maxsize=256)(_names)


def _stripped(header: Sequence[str]) -> tuple[str, ...]:
    """Return the names of a header without the blanks around them, or with them where names differ only in blanks."""
    names = tuple(name.strip() for name in header)
    return names if len(set(names)) == len(set(header)) else tuple(header)
