"""Times as files write them: nothing is guessed, and an hour that a zone has twice is no point in time."""

from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.pipelines.values.layouts import LayoutError, read_layout
from shared.pipelines.values.times import ZoneError, date_reader, in_utc, moment_of_number, moment_reader, read_zone

BERLIN = read_zone("Europe/Berlin")
STAMP = "%Y-%m-%d %H:%M:%S"
locals_of_any_year = st.datetimes().map(lambda moment: moment.replace(microsecond=0))


def read(text: str, layout: str = STAMP, zone: str = "UTC") -> datetime:
    return moment_reader(layout, read_zone(zone))(text, None)


@given(locals_of_any_year)
@pytest.mark.parametrize("layout", [STAMP, "%Y-%m-%dT%H:%M:%S", "%d.%m.%Y %H:%M:%S", "%Y%m%d%H%M%S", "%j/%Y %H.%M.%S"])
def test_a_layout_reads_what_strftime_writes(layout: str, moment: datetime) -> None:
    padded = layout.replace("%Y", f"{moment.year:04}")

    assert read(moment.strftime(padded), layout) == moment.replace(tzinfo=UTC)


@given(st.datetimes(datetime(1970, 1, 1), datetime(2037, 12, 31)))  # noqa: DTZ001 - local times
def test_a_local_time_of_a_zone_is_the_moment_that_the_zone_says(moment: datetime) -> None:
    moments = {moment.replace(tzinfo=BERLIN, fold=fold).astimezone(UTC) for fold in (0, 1)}
    if len(moments) == 2:
        with pytest.raises(ValueError, match="twice, or never"):
            in_utc(moment, BERLIN)
    else:
        assert {in_utc(moment, BERLIN)} == moments


@pytest.mark.parametrize("text", ["2024-03-31 02:30:00", "2024-10-27 02:00:00", "2024-10-27 02:59:59"])
def test_an_hour_that_comes_never_or_twice_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="twice, or never"):
        read(text, zone="Europe/Berlin")


def test_an_offset_beside_the_time_tells_the_two_hours_apart() -> None:
    reader = moment_reader(STAMP, None, zone_beside=True)
    summer, winter = timezone(timedelta(hours=2)), timezone(timedelta(hours=1))

    assert reader("2024-10-27 02:30:00", summer) == datetime(2024, 10, 27, 0, 30, tzinfo=UTC)
    assert reader("2024-10-27 02:30:00", winter) == datetime(2024, 10, 27, 1, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        *("2024-01-01 24:00:00", "2024-02-30 10:00:00", "0000-01-01 00:00:00", "10000-01-01 00:00:00"),
        *("2024-01-01T10:00:00", "2024-01-01 10:00", "2024-W01-1 10:00:00", "20240101 10:00:00", "2024-1-01 10:00:000"),
        *("2024-01-01 10:00:60", " 2024-01-01 10:00:00", "2024-01-01 10:00:00\n", "٢٠٢٤-01-01 10:00:00", ""),
    ],
)
@pytest.mark.parametrize("beside", [False, True])
def test_a_text_that_is_not_of_its_layout_is_refused(text: str, *, beside: bool) -> None:
    reader = moment_reader(STAMP, None if beside else UTC, zone_beside=beside)

    with pytest.raises(ValueError, match=r"."):
        reader(text, timezone(timedelta(hours=1)) if beside else None)


@pytest.mark.parametrize(
    ("layout", "text", "expected"),
    [
        ("%d/%b/%Y %I:%M %p", "05/mar/2024 12:07 AM", datetime(2024, 3, 5, 0, 7, tzinfo=UTC)),
        ("%d %B %y", "05 March 68", datetime(2068, 3, 5, tzinfo=UTC)),
        ("%d %B %y", "05 May 69", datetime(1969, 5, 5, tzinfo=UTC)),
        ("%-d.%-m.%Y", "5.3.2024", datetime(2024, 3, 5, tzinfo=UTC)),
        ("%F %T.%f", "2024-03-05 01:02:03.5", datetime(2024, 3, 5, 1, 2, 3, 500_000, tzinfo=UTC)),
        ("%a, %d %b %Y %T %z", "Tue, 05 Mar 2024 01:02:03 +0530", datetime(2024, 3, 4, 19, 32, 3, tzinfo=UTC)),
        ("%Y.%m.%d%%", "2024.03.05%", datetime(2024, 3, 5, tzinfo=UTC)),
    ],
)
def test_the_other_directives_of_strptime_are_read(layout: str, text: str, expected: datetime) -> None:
    assert read(text, layout) == expected


@pytest.mark.parametrize(
    ("layout", "text"),
    [
        ("%d.%m.%Y", "5.3.2024"),
        ("%Y%j", "2023366"),
        ("%Y%j", "2024000"),
        ("%d.%m.%Y %I %p", "05.03.2024 13 PM"),
        ("%a %d.%m.%Y", "Mon 05.03.2024"),
        ("%d.%m.%Y", "05x03x2024"),
        ("%Y-%m-%d %z", "0001-01-01 +01:00"),
    ],
)
def test_what_strptime_would_guess_is_refused(layout: str, text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        read(text, layout)


@pytest.mark.parametrize("layout", ["%Q", "%Y-%m", "%d.%m.%Y %d", "%d.%m.%Y %I", "%d.%m.%Y %", "%y %Y-%m-%d", "rfc822"])
def test_a_layout_that_cannot_be_read_is_refused(layout: str) -> None:
    with pytest.raises(LayoutError):
        read_layout(layout)


def test_a_layout_without_a_zone_needs_one() -> None:
    with pytest.raises(ZoneError, match="needs a zone"):
        moment_reader(STAMP, None)


@pytest.mark.parametrize("name", ["Mars/Olympus", "", "../etc/passwd", "/etc/passwd", "+25:00", "CEST2"])
def test_an_unknown_zone_is_refused(name: str) -> None:
    with pytest.raises(ZoneError):
        read_zone(name)


@pytest.mark.parametrize(
    ("number", "per_second", "expected"),
    [
        (1_700_000_000, 1, datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)),
        (-1, 1_000, datetime(1969, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC)),
        (253_402_300_799_999_999, 1_000_000, datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)),
        (-62_135_596_800, 1, datetime(1, 1, 1, tzinfo=UTC)),
    ],
)
def test_counts_of_time_since_1970_are_exact(number: int, per_second: int, expected: datetime) -> None:
    assert moment_of_number(number, per_second) == expected


@pytest.mark.parametrize("number", [253_402_300_800, -62_135_596_801, 10**30])
def test_counts_beyond_the_years_1_to_9999_are_refused(number: int) -> None:
    with pytest.raises(ValueError, match="years 1 to 9999"):
        moment_of_number(number, 1)


def test_a_date_is_ten_characters_and_that_of_a_moment_is_of_its_zone() -> None:
    assert date_reader(None, None)("2024-02-29") == date(2024, 2, 29)
    assert date_reader("rfc3339", BERLIN)("2024-12-31T23:30:00Z") == date(2025, 1, 1)
    assert date_reader("%d.%m.%Y", None)("31.12.2024") == date(2024, 12, 31)
    for text in ("20240229", "2024-02-29T10:00:00", "2024-2-29", "2023-02-29"):
        with pytest.raises(ValueError, match=r"."):
            date_reader(None, None)(text)
