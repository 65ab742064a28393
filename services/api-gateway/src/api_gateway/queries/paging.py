"""Cursors: where the next page begins, as an opaque text. Pure."""

import base64
import binascii
import struct
from datetime import datetime
from typing import Final, NamedTuple

from shared.contracts.event import Channel
from shared.wire import from_microseconds, to_microseconds

_RECORDS_MARK: Final = b"r"
_SOURCES_MARK: Final = b"s"
_AUDIT_MARK: Final = b"a"
_AUDIT_BYTES_MIN: Final = 2  # the mark and the channel
_RECORDS: Final = struct.Struct(">cqq")
_SOURCES: Final = struct.Struct(">ci")


class Position(NamedTuple):
    """The last record of a page, in the order of the pages."""

    processed_at: datetime
    id: int


class AuditPosition(NamedTuple):
    """The last line of a page of the audit."""

    source: str
    channel: Channel


def record_cursor(position: Position) -> str:
    """Return the cursor of the page that follows `position`."""
    return _write(_RECORDS.pack(_RECORDS_MARK, to_microseconds(position.processed_at), position.id))


def read_record_cursor(cursor: str) -> Position:
    """Return what `record_cursor` wrote. Raises ValueError where it did not write it."""
    microseconds, record_id = _read(_RECORDS, _RECORDS_MARK, cursor)
    try:
        return Position(from_microseconds(microseconds), record_id)
    except OverflowError as error:
        raise ValueError("not a cursor of records") from error


def source_cursor(source_id: int) -> str:
    """Return the cursor of the page that follows a source."""
    return _write(_SOURCES.pack(_SOURCES_MARK, source_id))


def read_source_cursor(cursor: str) -> int:
    """Return what `source_cursor` wrote. Raises ValueError where it did not write it."""
    (source_id,) = _read(_SOURCES, _SOURCES_MARK, cursor)
    return source_id


def audit_cursor(position: AuditPosition) -> str:
    """Return the cursor of the page that follows `position`."""
    return _write(_AUDIT_MARK + bytes([position.channel]) + position.source.encode())


def read_audit_cursor(cursor: str) -> AuditPosition:
    """Return what `audit_cursor` wrote. Raises ValueError where it did not write it."""
    packed = _unpack(cursor)
    if packed[:1] != _AUDIT_MARK or len(packed) < _AUDIT_BYTES_MIN:
        raise ValueError("a cursor of something else")
    source = packed[_AUDIT_BYTES_MIN:].decode()
    if "\0" in source:
        raise ValueError("not a cursor of the audit")
    return AuditPosition(source, Channel(packed[1]))


def _write(packed: bytes) -> str:
    return base64.urlsafe_b64encode(packed).decode().rstrip("=")


def _read(layout: struct.Struct, expected: bytes, cursor: str) -> tuple[int, ...]:
    try:
        mark, *numbers = layout.unpack(_unpack(cursor))
    except struct.error as error:
        raise ValueError("not a cursor") from error
    if mark != expected:
        raise ValueError("a cursor of something else")
    return tuple(numbers)


def _unpack(cursor: str) -> bytes:
    try:
        return base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError("not a cursor") from error
