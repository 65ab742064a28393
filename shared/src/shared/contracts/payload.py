"""What a payload is: the check that each door makes on it, and when two are the same."""

from typing import Any

import msgspec

_scan = msgspec.json.Decoder(msgspec.Raw).decode


def object_problem(body: bytes) -> str | None:
    """Return why `body` is not one JSON object in UTF-8 (RFC 8259), or None when it is.

    Only scans: no value is built, so nothing is rounded. Whether the values in it are fit for use is for the
    processor to say.
    """
    try:
        raw = bytes(_scan(body))
    except UnicodeDecodeError:
        return "must be UTF-8"
    except RecursionError:
        return "is nested too deeply"
    except msgspec.DecodeError:
        return "must be valid JSON"
    return scanned_object_problem(raw)


def scanned_object_problem(raw: bytes) -> str | None:
    """As `object_problem`, of one JSON value that was cut out of a document (`msgspec.Raw`), and so was scanned."""
    try:
        # The scanner passes over strings without decoding them.
        raw.decode()
    except UnicodeDecodeError:
        return "must be UTF-8"
    if not raw.startswith(b"{"):
        return "must be a JSON object"
    return None


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
