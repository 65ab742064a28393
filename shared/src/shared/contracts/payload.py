"""Payloads: the check that each edge service makes, and when two are equal."""

import codecs
import re
from typing import Any, Final

import msgspec

MORE_THAN_ONE: Final = (
    "holds more than one JSON document; each must be an event of its own: sent alone, in an array, or on its own line"
)

# Messages of the parser: bytes after the end of a document; a document that ends too early.
_TRAILING: Final = re.compile(r"trailing characters \(byte (\d+)\)")
_TRUNCATED: Final = "truncated"

# One character of four bytes makes four bytes of each in a str, so a large text is decoded in parts.
_WHOLE_BYTES_MAX: Final = 1024 * 1024
_PART_BYTES: Final = 64 * 1024

_Utf8Decoder = codecs.getincrementaldecoder("utf-8")
_scan = msgspec.json.Decoder(msgspec.Raw).decode
# A string. Outside of strings each colon belongs to a member.
_STRING: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"')


def object_problem(body: bytes) -> str | None:
    """Return why `body` is not one JSON object in UTF-8 (RFC 8259), or None when it is.

    Only scans: no value is built, so nothing is rounded. The processor checks the values.
    """
    try:
        raw = memoryview(_scan(body))
    except RecursionError:
        return "is nested too deeply"
    except msgspec.DecodeError as error:
        return malformed_problem(body, error)
    return scanned_object_problem(raw)


def malformed_problem(body: bytes, error: msgspec.DecodeError) -> str:
    """Return what is wrong with a body that the parser refused with `error`."""
    found = _TRAILING.search(str(error))
    if found and body[int(found[1]) - 1 :].startswith((b"{", b"[")):
        return MORE_THAN_ONE
    return "must be valid JSON"


def holds_more_than_one(content: bytes) -> bool:
    """Return True where a JSON document is followed by the beginning of another."""
    return object_problem(content) == MORE_THAN_ONE


def begins_a_document(content: bytes) -> bool:
    """Return True where `content` is one JSON document, or what one may begin with."""
    try:
        _scan(content)
    except (UnicodeDecodeError, RecursionError):
        return True
    except msgspec.DecodeError as error:
        return _TRUNCATED in str(error)
    return True


def scanned_object_problem(raw: bytes | memoryview) -> str | None:
    """As `object_problem`, of one JSON value that was scanned before, as part of a document (`msgspec.Raw`)."""
    try:
        # The scanner passes over strings without decoding them. Most payloads are small, and need no further call.
        if len(raw) <= _WHOLE_BYTES_MAX:
            str(raw, "utf-8")
        else:
            check_utf8(raw)
    except UnicodeDecodeError:
        return "must be UTF-8"
    if raw[:1] != b"{":
        return "must be a JSON object"
    return None


def check_utf8(content: bytes | memoryview) -> None:
    """Raise UnicodeDecodeError where the content is no UTF-8."""
    if len(content) <= _WHOLE_BYTES_MAX:
        str(content, "utf-8")
        return
    decoder = _Utf8Decoder()
    for start in range(0, len(content), _PART_BYTES):
        decoder.decode(content[start : start + _PART_BYTES])
    decoder.decode(b"", final=True)


def without_texts(body: bytes) -> bytes:
    """Return JSON with every string, also each name of a member, empty: what is left takes little memory to read."""
    return _STRING.sub(b'""', body)


def same_value(one: Any, other: Any) -> bool:  # noqa: ANN401 - any JSON values
    """Return True where two JSON values, numbers read as int or Decimal, are equal; true is not 1.

    Compares without recursion: payloads may be nested as deep as the parser allows.
    """
    waiting = [(one, other)]
    while waiting:
        one, other = waiting.pop()
        match one, other:
            case dict(), dict():
                if one.keys() != other.keys():
                    return False
                waiting += [(one[name], other[name]) for name in one]
            case list(), list():
                if len(one) != len(other):
                    return False
                waiting += zip(one, other, strict=True)
            case (bool(), _) | (_, bool()):
                if one is not other:
                    return False
            case _ if one != other:
                return False
    return True


def names_member_twice(body: bytes, payload: Any) -> bool:  # noqa: ANN401 - any JSON value
    """Return True where an object in a JSON `body`, which reads as `payload`, names a member twice.

    The payload has only one of the two then, and which one depends on the parser.
    """
    members = 0
    waiting = [payload]
    while waiting:
        match waiting.pop():
            case dict() as found:
                members += len(found)
                waiting += found.values()
            case list() as elements:
                waiting += elements
    return members < _STRING.sub(b"", body).count(b":")
