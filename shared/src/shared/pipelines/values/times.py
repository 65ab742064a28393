"""Points in time and dates as files write them: layouts and time zones, compiled to readers. Pure.

A reader takes a value and returns a datetime in UTC or a date; it raises ValueError where the value is none. An hour
that a zone has twice, or never, is no point in time: only an offset beside it could tell which is meant.
"""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from functools import cache
from importlib.resources import files as resources
from typing import Final, TypeAlias
from zoneinfo import ZoneInfo

from shared.contracts.moment import read_moment
from shared.pipelines.values.layouts import Layout, LayoutError, read_layout

RFC_3339: Final = "rfc3339"
ISO_DATE: Final = "%Y-%m-%d"
UNITS: Final = {"unix": 1, "unix_ms": 1_000, "unix_us": 1_000_000}
"""How many of a unit of time since 1970 are a second."""

_FIRST_SECOND: Final = -62_135_596_800  # of the year 1
_LAST_SECOND: Final = 253_402_300_799  # of the year 9999
_OFFSETS_MAX: Final = 100
_OFFSET: Final = re.compile(r"(?P<sign>[+-])(?P<hours>[01][0-9]|2[0-3]):(?P<minutes>[0-5][0-9])", re.ASCII)

MomentReader: TypeAlias = Callable[[str, tzinfo | None], datetime]
"""Reads a text. The zone is the one that stands beside it, where a column gives names of zones."""


class ZoneError(ValueError):
    """A zone is unknown, is needed and not given, or is given and not needed; the message says which."""


def read_zone(text: str) -> tzinfo:
    """Return the zone of an IANA name, or of an offset such as `+02:00`. Raises ZoneError."""
    if found := _OFFSET.fullmatch(text):
        offset = timedelta(hours=int(found["hours"]), minutes=int(found["minutes"]))
        return timezone(-offset if found["sign"] == "-" else offset)
    if text == "UTC":
        return UTC
    if text not in zone_names():
        raise ZoneError(f"is no time zone: {text[:40]}; name one of IANA, as Europe/Berlin")
    return _zone(text)


@cache
def zone_names() -> frozenset[str]:
    """Return the names of IANA's zones."""
    return frozenset(resources("tzdata").joinpath("zones").read_text(encoding="utf-8").split())


@cache
def _zone(name: str) -> ZoneInfo:
    """Return a zone of the locked release of `tzdata`; that of the machine may be another."""
    with resources("tzdata").joinpath("zoneinfo", *name.split("/")).open("rb") as rules:
        return ZoneInfo.from_file(rules, key=name)


def moment_of_number(number: int, per_second: int) -> datetime:
    """Return the moment that a count of units since 1970 names. Raises ValueError outside the years 1 to 9999."""
    seconds, rest = divmod(number, per_second)
    if not _FIRST_SECOND <= seconds <= _LAST_SECOND:
        raise ValueError("must be a moment of the years 1 to 9999")
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.replace(microsecond=rest * (1_000_000 // per_second)) if rest else moment


def in_utc(local: datetime, zone: tzinfo) -> datetime:
    """Return the moment of a local time. Raises ValueError where the zone has that time twice, or never."""
    moment = local.replace(tzinfo=zone)
    if type(zone) is not timezone and moment.utcoffset() != moment.replace(fold=1).utcoffset():
        raise ValueError("is a local time that its zone has twice, or never")
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("must be a moment of the years 1 to 9999") from error


def moment_reader(layout: str, zone: tzinfo | None, *, zone_beside: bool = False) -> MomentReader:
    """Return what reads texts of a layout: `rfc3339`, or one of strptime, as `%d.%m.%Y %H:%M`.

    `zone_beside`: the zone is given with each text. Raises LayoutError, ZoneError.
    """
    if layout == RFC_3339:
        return lambda text, _: read_moment(text)
    reading = read_layout(layout)
    if reading.has_offset:
        return lambda text, _: _aware_in_utc(reading.read(text))
    if zone_beside:
        return _beside_reader(reading)
    if zone is None:
        raise ZoneError(f'needs a zone: {layout} has none; write zone = "Europe/Berlin", or "UTC"')
    return lambda text, _: in_utc(reading.read(text), zone)


def _beside_reader(layout: Layout) -> MomentReader:
    """Return a reader of local times whose zone stands beside them; a fixed offset is read along with the time."""
    fits = layout.fits
    offsets: dict[tzinfo | None, str] = {}

    def read(text: str, zone: tzinfo | None) -> datetime:
        offset = offsets.get(zone)
        if offset is None:
            if fits is None or type(zone) is not timezone or len(offsets) >= _OFFSETS_MAX:
                return in_utc(layout.read(text), zone or UTC)
            offset = offsets[zone] = datetime(1970, 1, 1, tzinfo=zone).isoformat()[-len("+00:00") :]
        if fits is None or not fits(text):
            raise ValueError("is not of its layout")
        return _aware_in_utc(datetime.fromisoformat(text + offset))

    return read


def date_reader(layout: str | None, zone: tzinfo | None) -> Callable[[str], date]:
    """Return what reads dates: without a layout `2026-01-31`. Of a moment it is the day in `zone`, or in UTC.

    Raises LayoutError.
    """
    if layout == RFC_3339:
        return lambda text: date_of(read_moment(text), zone)
    reading = read_layout(layout or ISO_DATE)
    if reading.has_offset:
        return lambda text: date_of(_aware_in_utc(reading.read(text)), zone)
    return lambda text: reading.read(text).date()


def date_of(moment: datetime, zone: tzinfo | None) -> date:
    """Return the day of a moment in a zone, or in UTC. Raises ValueError outside the years 1 to 9999."""
    try:
        return moment.astimezone(zone or UTC).date()
    except OverflowError as error:
        raise ValueError("must be a moment of the years 1 to 9999") from error


def _aware_in_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("must be a moment of the years 1 to 9999") from error


__all__ = [
    "ISO_DATE",
    "RFC_3339",
    "UNITS",
    "LayoutError",
    "MomentReader",
    "ZoneError",
    "date_of",
    "date_reader",
    "in_utc",
    "moment_of_number",
    "moment_reader",
    "read_zone",
]
