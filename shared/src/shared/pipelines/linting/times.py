"""Lint how points in time are written: layouts and zones. Pure."""

from collections.abc import Iterator
from typing import Final

from shared.pipelines.document.problems import Steps
from shared.pipelines.document.words import nearest
from shared.pipelines.linting.issues import Issue
from shared.pipelines.model import ZoneNames
from shared.pipelines.values.layouts import LayoutError, read_layout
from shared.pipelines.values.times import ISO_DATE, RFC_3339, UNITS, ZoneError, read_zone, zone_names

_OF_THE_MACHINE: Final = ("localtime", "Factory", "posixrules", "posix/", "right/")


def time_issues(steps: Steps, layout: str | None, zone: str | ZoneNames | None, *, day: bool) -> Iterator[Issue]:
    """Yield what is wrong with `as` and `zone` of a timestamp, or of a date (`day`)."""
    yield from _zone_issues((*steps, "zone"), zone)
    if day and isinstance(zone, ZoneNames):
        yield Issue((*steps, "zone"), "lists names, which is for timestamp; a date is the day in one zone")
        return
    has_offset = layout in {RFC_3339, *UNITS} or (layout is None and not day)
    if not has_offset:
        try:
            has_offset = read_layout(layout or ISO_DATE).has_offset
        except LayoutError as error:
            names = ", ".join((RFC_3339, *UNITS))
            known = f"; there are {names} and layouts such as %d.%m.%Y" if "%" not in (layout or "") else ""
            yield Issue((*steps, "as"), f"{error}{known}")
            return
    if has_offset and zone is not None and not day:
        yield Issue((*steps, "zone"), "changes nothing; what is read has its offset already", "warning")
    if not has_offset and zone is None and not day:
        detail = 'is missing; this layout has no offset, so write zone = "Europe/Berlin", or "UTC"'
        yield Issue((*steps, "zone"), detail)
    if not has_offset and zone is not None and day:
        yield Issue((*steps, "zone"), "changes nothing; a day without a time is in no zone", "warning")


def known_moment_issues(
    steps: Steps, layout: str | None, zone: str | ZoneNames | None, *, day: bool
) -> Iterator[Issue]:
    """Yield what is wrong with `as` and `zone` of a column whose value is a point in time already."""
    yield from _zone_issues((*steps, "zone"), zone)
    if layout is not None:
        yield Issue((*steps, "as"), "does not fit; what is read is a point in time, and no text")
    if isinstance(zone, ZoneNames) or (zone is not None and not day):
        yield Issue((*steps, "zone"), "does not fit; a point in time is in no zone, and the day of one is in one zone")


def _zone_issues(steps: Steps, zone: str | ZoneNames | None) -> Iterator[Issue]:
    if isinstance(zone, str):
        yield from _one_zone_issues(steps, zone)
    elif zone is not None:
        if not zone.names:
            yield Issue((*steps, "names"), 'is empty; list the names with their offsets, as CET = "+01:00"')
        for name, offset in zone.names.items():
            yield from _one_zone_issues((*steps, "names", name), offset)


def _one_zone_issues(steps: Steps, text: str) -> Iterator[Issue]:
    if text.startswith(_OF_THE_MACHINE):
        yield Issue(steps, f"{text[:40]} is no time zone of its own; name one of IANA, as Europe/Berlin")
        return
    try:
        read_zone(text)
    except ZoneError as error:
        close = nearest(text, zone_names())
        yield Issue(steps, f"{error}" + (f"; did you mean {close}?" if close else ""))
