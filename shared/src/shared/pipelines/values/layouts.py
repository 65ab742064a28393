"""Layouts of strptime as readers of fixed positions: no locale, no missing digits, no blanks more or less. Pure."""

import re
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone
from typing import Final

import msgspec

_MONTHS: Final = (
    *("january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november"),
    "december",
)
_DAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_CENTURY_PIVOT: Final = 69  # two digits from here on are of the years 19xx, as POSIX has it
_NOON: Final = 12
_DIRECTIVE: Final = re.compile(r"%(-?.)", re.DOTALL)


def _one_of(names: tuple[str, ...]) -> str:
    return "(?i:" + "|".join(names) + ")"


# What stands for each directive. `-` allows one digit where there are two.
_PATTERNS: Final = {
    "Y": "[0-9]{4}",
    **dict.fromkeys("ymdHIMS", "[0-9]{2}"),
    **dict.fromkeys(("-m", "-d", "-H", "-I", "-M", "-S"), "[0-9]{1,2}"),
    "j": "[0-9]{3}",
    "f": "[0-9]{1,6}",
    "b": _one_of(tuple(name[:3] for name in _MONTHS)),
    "B": _one_of(_MONTHS),
    "a": _one_of(tuple(name[:3] for name in _DAYS)),
    "A": _one_of(_DAYS),
    "p": "(?i:am|pm)",
    "z": "Z|[+-][0-9]{2}:?[0-9]{2}",
}
_GIVES: Final = {
    "y": "Y",
    "b": "m",
    "B": "m",
    "A": "a",
    "-m": "m",
    "-d": "d",
    "-H": "H",
    "-I": "I",
    "-M": "M",
    "-S": "S",
}
_SHORTHANDS: Final = {"F": "%Y-%m-%d", "T": "%H:%M:%S", "R": "%H:%M", "D": "%m/%d/%y"}
DIRECTIVES: Final = tuple(f"%{directive}" for directive in (*_PATTERNS, *_SHORTHANDS))
"""Of strptime, and what stands for a usual group of them."""

# Layouts that the reader of Python knows too, and faster; the sign between date and time.
_ISO_SECONDS: Final = {"%Y-%m-%d %H:%M:%S": " ", "%Y-%m-%dT%H:%M:%S": "T"}


class LayoutError(ValueError):
    """A layout has a directive that is unknown, comes twice or is missing; the message says which."""


class Layout(msgspec.Struct, frozen=True):
    """A layout that was read. `read` raises ValueError; what it returns has an offset where `has_offset`.

    `fits`: of a layout like ISO 8601, whether a text is of it. `datetime.fromisoformat` reads such a text, also with an
    offset behind it.
    """

    read: Callable[[str], datetime]
    has_offset: bool
    fits: Callable[[str], bool] | None = None


def read_layout(layout: str) -> Layout:
    """Return the reader of a layout such as `%d.%m.%Y %H:%M:%S`. Raises LayoutError."""
    if separator := _ISO_SECONDS.get(layout):
        fits = _iso_shape(separator)
        return Layout(_iso_reader(fits), has_offset=False, fits=fits)
    text = layout
    for name, meaning in _SHORTHANDS.items():
        text = text.replace(f"%{name}", meaning)
    pattern, given = _pattern(text)
    if not {"Y", "m", "d"} <= given and not {"Y", "j"} <= given:
        raise LayoutError(f"must give a year, a month and a day; {layout[:40]} does not")
    if ("I" in given) != ("p" in given):
        raise LayoutError("has %I without %p, or %p without %I")
    return Layout(_reader(re.compile(pattern, re.ASCII)), has_offset="z" in given)


def _iso_shape(separator: str) -> Callable[[str], bool]:
    """Return what tells a text of the layout from the other forms that `datetime.fromisoformat` reads."""
    length = len("2026-01-31 23:59:59")

    def fits(text: str) -> bool:
        return (
            len(text) == length and text[4] == text[7] == "-" and text[10] == separator and text[13] == text[16] == ":"
        )

    return fits


def _iso_reader(fits: Callable[[str], bool]) -> Callable[[str], datetime]:
    def read(text: str) -> datetime:
        if not fits(text):
            raise ValueError("is not of its layout")
        return datetime.fromisoformat(text)

    return read


def _pattern(layout: str) -> tuple[str, set[str]]:
    parts: list[str] = []
    given: set[str] = set()
    position = 0
    for found in _DIRECTIVE.finditer(layout):
        parts.append(re.escape(layout[position : found.start()]))
        position = found.end()
        directive = found[1]
        if directive == "%":
            parts.append("%")
            continue
        if directive not in _PATTERNS:
            raise LayoutError(
                f"has %{directive}, which is no directive; there are {' '.join('%' + d for d in _PATTERNS)}"
            )
        meaning = _GIVES.get(directive, directive)
        if meaning in given:
            raise LayoutError(f"says twice what %{meaning} says")
        given.add(meaning)
        parts.append(f"(?P<{directive.replace('-', '')}>{_PATTERNS[directive]})")
    parts.append(re.escape(layout[position:]))
    if "%" in layout[position:]:
        raise LayoutError("ends in a % without a directive")
    return "".join(parts), given


def _reader(pattern: re.Pattern[str]) -> Callable[[str], datetime]:
    def read(text: str) -> datetime:
        found = pattern.fullmatch(text)
        if found is None:
            raise ValueError("is not of its layout")
        parts = found.groupdict()
        moment = datetime.combine(_date(parts), _time(parts))
        _check_weekday(parts, moment)
        return moment.replace(tzinfo=_offset(parts["z"])) if "z" in parts else moment

    return read


def _date(parts: dict[str, str]) -> date:
    day_of_year = parts.get("j")
    if day_of_year is None:
        return date(_year(parts), _month(parts), int(parts["d"]))
    first = date(_year(parts), 1, 1)
    number = int(day_of_year)
    if not 1 <= number <= (first.replace(month=12, day=31) - first).days + 1:
        raise ValueError("has a day that its year does not have")
    return first + timedelta(days=number - 1)


def _year(parts: dict[str, str]) -> int:
    if "Y" in parts:
        return int(parts["Y"])
    year = int(parts["y"])
    return year + (1900 if year >= _CENTURY_PIVOT else 2000)


def _month(parts: dict[str, str]) -> int:
    name = parts.get("b") or parts.get("B")
    if name is None:
        return int(parts["m"])
    return next(number for number, month in enumerate(_MONTHS, 1) if month.startswith(name.lower()))


def _time(parts: dict[str, str]) -> time:
    hour = int(parts.get("H", 0))
    if (twelve := parts.get("I")) is not None:
        if not 1 <= int(twelve) <= _NOON:
            raise ValueError("has an hour that a clock of twelve hours does not have")
        hour = int(twelve) % _NOON + (_NOON if parts["p"].lower() == "pm" else 0)
    return time(hour, int(parts.get("M", 0)), int(parts.get("S", 0)), int(f"{parts.get('f', '0'):0<6}"))


def _check_weekday(parts: dict[str, str], moment: datetime) -> None:
    name = parts.get("a") or parts.get("A")
    if name is not None and not _DAYS[moment.weekday()].startswith(name.lower()):
        raise ValueError("has another day of the week than its date")


def _offset(text: str) -> timezone:
    if text == "Z":
        return timezone(timedelta(0))
    digits = text.replace(":", "")
    offset = timedelta(hours=int(digits[1:3]), minutes=int(digits[3:5]))
    return timezone(-offset if text[0] == "-" else offset)
