"""Compares two payloads by value. Pure."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

import msgspec

from shared.contracts.csv_reading import CSV, UnreadableError, read_row
from shared.contracts.event import Envelope
from shared.contracts.payload import names_member_twice, same_value

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


def may_be_same(one_bytes: int, other_bytes: int) -> bool:
    """Return False where bodies of these sizes are too large, or too far apart, to be the same in other bytes."""
    shorter, longer = sorted((one_bytes, other_bytes))
    return longer <= min(max(_ALWAYS_COMPARED_BYTES, _TIMES_LONGER_MAX * shorter), _COMPARED_BYTES_MAX)


def same_payload(
    event: Envelope, content_type: str, body: bytes, *, counted: Callable[[object], object] | None = None
) -> bool:
    """Return True where two bodies are the same event content: equal bytes, else equal JSON values.

    `counted` returns what of a payload is compared; None: all of it.

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
    if _names_twice(one, event.content_type, event.body) or _names_twice(other, content_type, body):
        return False
    return same_value(one, other) if counted is None else same_value(counted(one), counted(other))


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
