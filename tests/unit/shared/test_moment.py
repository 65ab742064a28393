"""Moments as producers write them, and what becomes of what Python cannot hold."""

from datetime import UTC, datetime

import pytest

from shared.contracts.moment import read_moment, read_moment_of_query


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2024-01-01T00:00:00Z", datetime(2024, 1, 1, tzinfo=UTC)),
        ("2024-01-01t01:00:00.5+01:00", datetime(2024, 1, 1, 0, 0, 0, 500_000, tzinfo=UTC)),
        ("2024-01-01 00:00:00z", datetime(2024, 1, 1, tzinfo=UTC)),
        ("2024-12-31T23:59:59.1234567Z", datetime(2024, 12, 31, 23, 59, 59, 123_456, tzinfo=UTC)),
        ("2024-12-31T23:59:59.9999999Z", datetime(2024, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)),
        ("2024-12-31T23:59:59.999999999999Z", datetime(2024, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)),
        ("1969-12-31T23:59:59.9999999Z", datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)),
        ("2016-12-31T23:59:60Z", datetime(2016, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)),
        ("2016-12-31T23:59:60.25Z", datetime(2016, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)),
        ("1990-12-31T15:59:60-08:00", datetime(1990, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)),
        ("2024-02-29T00:00:00-00:00", datetime(2024, 2, 29, tzinfo=UTC)),
    ],
)
def test_a_moment_is_read_and_never_leaves_its_second(text: str, moment: datetime) -> None:
    assert read_moment(text) == moment


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("2024-01-01", "offset"),
        ("2024-01-01T00:00:00", "offset"),
        ("2024-01-01T00:00Z", "RFC 3339"),
        ("20240101T000000Z", "RFC 3339"),
        ("2024-W01-1T00:00:00Z", "RFC 3339"),
        ("2024-01-01T00:00:00,5Z", "RFC 3339"),
        ("2024-01-01T24:00:00Z", "RFC 3339"),
        ("2024-01-01T00:00:61Z", "RFC 3339"),
        ("2024-01-01T00:00:00+24:00", "RFC 3339"),
        ("2023-02-29T00:00:00Z", "RFC 3339"),
        ("0000-01-01T00:00:00Z", "RFC 3339"),
        ("2024-01-01T00:00:00Z\n", "RFC 3339"),
        ("٢024-01-01T00:00:00Z", "RFC 3339"),
        ("1704067200", "RFC 3339"),
        ("", "RFC 3339"),
        ("2016-12-31T12:00:60Z", "second 60"),
        ("0001-01-01T00:00:00+01:00", "years"),
        ("9999-12-31T23:59:59-01:00", "years"),
        ("9999-12-31T23:59:60Z", "years"),
    ],
)
def test_what_is_no_moment_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        read_moment(text)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2024-01-01", datetime(2024, 1, 1, tzinfo=UTC)),
        ("2024-01-01T00:00:00 00:00", datetime(2024, 1, 1, tzinfo=UTC)),
        ("2024-01-01T02:00:00.5 02:00", datetime(2024, 1, 1, 0, 0, 0, 500_000, tzinfo=UTC)),
        ("2024-01-01 02:00:00 02:00", datetime(2024, 1, 1, tzinfo=UTC)),
        ("2024-01-01T00:00:00Z", datetime(2024, 1, 1, tzinfo=UTC)),
    ],
)
def test_a_query_may_name_a_day_and_lose_a_plus(text: str, moment: datetime) -> None:
    assert read_moment_of_query(text) == moment


@pytest.mark.parametrize("text", ["2024-01-01T00:00:00", "2024-13-01", "yesterday", "2024-01-01T00:00:00  00:00"])
def test_a_query_that_names_no_moment_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="RFC 3339"):
        read_moment_of_query(text)
