"""Reads moments of RFC 3339, in one way for all channels. Pure."""

import re
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

# Shorter texts have at most six digits of a second, and msgspec reads those.
_CHARS_MIN_TO_CUT: Final = len("2024-01-01T00:00:00.0000000Z")
_RFC_3339: Final = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d):(\d\d)(?:\.(\d{1,6})\d*)?([Zz]|[+-]\d\d:?\d\d)", re.ASCII
)
_LEAP_SECOND: Final = "60"
_MICROSECOND: Final = timedelta(microseconds=1)
_MINUTE: Final = timedelta(minutes=1)

_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
# A `+` that was not escaped in a query arrives as a blank. Nothing else puts a blank before an offset.
_LOST_PLUS: Final = re.compile(r"(\d\d:\d\d:\d\d(?:\.\d+)?) (\d\d:\d\d)", re.ASCII)


def read_moment(text: str) -> datetime:
    """Return a moment of RFC 3339, in UTC.

    What is finer than a microsecond is cut off, never rounded: a moment stays in its second, and in its day. A leap
    second, which Python has no number for, is the last microsecond before the next minute.

    Raises:
        ValueError: it is none, or not of the years 1 to 9999; the message says which.
    """
    if len(text) < _CHARS_MIN_TO_CUT:
        try:
            moment = msgspec.convert(text, datetime)
            if moment.tzinfo is not None:
                return moment.astimezone(UTC)
        except (msgspec.ValidationError, OverflowError):
            # The regular expression below says what is wrong, and reads a leap second.
            pass
    found = _RFC_3339.fullmatch(text)
    if found is None:
        raise ValueError("must be a date and time with an offset (RFC 3339)")
    date, minute, second, fraction, offset = found.groups()
    leaps = second == _LEAP_SECOND
    fraction = "" if fraction is None or leaps else f".{fraction:0<6}"
    try:
        written = f"{date}T{minute}:{'00' if leaps else second}{fraction}{offset.upper()}"
        moment = datetime.fromisoformat(written).astimezone(UTC)
        if not leaps:
            return moment
        end = moment + _MINUTE
    except OverflowError as error:
        raise ValueError("must be a moment of the years 1 to 9999") from error
    except ValueError as error:
        raise ValueError("must be a date and time with an offset (RFC 3339)") from error
    if (end.hour, end.minute) != (0, 0):
        raise ValueError("has a second 60, which only the last minute of a day in UTC may have")
    return end - _MICROSECOND


def read_moment_of_query(text: str) -> datetime:
    """Return the moment that a query parameter names, in UTC.

    As `read_moment`. A date alone is the beginning of that day in UTC, and a blank before an offset is a `+` that was
    not escaped. Raises ValueError.
    """
    if _DATE.fullmatch(text):
        return read_moment(f"{text}T00:00:00Z")
    return read_moment(_LOST_PLUS.sub(r"\1+\2", text))
