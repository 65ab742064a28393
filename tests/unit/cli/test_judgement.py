"""What was acknowledged and is not stored is named; what only takes its time is not called missing."""

from datetime import UTC, datetime, timedelta

import pytest

from etlpay_cli.audit import exit_code, hours_between
from etlpay_cli.errors import ERROR, UNAVAILABLE, StackError
from etlpay_cli.judgement import Line, Page, judge
from etlpay_cli.spans import parse_span

HOUR = datetime(2026, 11, 23, 8, tzinfo=UTC)
NOW = HOUR + timedelta(minutes=30)
EMPTY = {"etlpay.ingest": 0, "etlpay.ingest.slow": 0, "etlpay.receipts": 0, "etlpay.parked": 0}


def line(source: str = "shop", *, channel: str = "http", age_seconds: float = 600, **numbers: int) -> Line:
    """Return a line on which everything that is not given is zero, and each event has its record."""
    names = set(Line.__struct_fields__) - {"source", "channel", "moved_at"}
    zeros = dict.fromkeys(names, 0) | {"success": numbers.get("events", 0)}
    moved_at = NOW - timedelta(seconds=age_seconds)
    return Line(source=source, channel=channel, moved_at=moved_at, **zeros | numbers)


def page(*lines: Line, queues: dict[str, int] | None = EMPTY, hour: datetime = HOUR) -> Page:
    return Page(hour=hour, as_of=NOW, items=list(lines), next=None, queues=queues, receipt_seconds=10)


def test_stored_and_queued_balance_with_events_and_settlements() -> None:
    verdict = judge([page(line(stored=3, queued=7, events=7, settled_duplicate=2, settled_conflict=1))])

    assert exit_code(verdict) == 0


def test_a_missing_event_is_named_by_source_and_hour() -> None:
    verdict = judge([page(line(queued=5, events=5), line("bank", queued=5, events=4))])

    [found] = verdict.settled_wrong
    assert (found.line.source, found.hour, found.missing) == ("bank", HOUR, 1)
    assert exit_code(verdict) == ERROR


def test_the_surplus_of_one_source_does_not_pay_for_another() -> None:
    verdict = judge([page(line(queued=5, events=4), line("bank", queued=5, events=6))])

    assert [found.line.source for found in verdict.settled_wrong] == ["shop"]


def test_an_event_without_a_record_does_not_balance() -> None:
    assert exit_code(judge([page(line(stored=2, events=2, success=1))])) == ERROR


def test_more_stored_than_acknowledged_is_shown_and_is_no_error() -> None:
    verdict = judge([page(line(stored=1, unknown=2, events=3))])

    assert (verdict.findings[0].surplus, exit_code(verdict)) == (2, 0)


@pytest.mark.parametrize("queue", ["etlpay.ingest", "etlpay.ingest.slow", "etlpay.receipts"])
def test_what_is_still_queued_is_not_missing(queue: str) -> None:
    verdict = judge([page(line(queued=5, events=4), queues=EMPTY | {queue: 1})])

    assert exit_code(verdict) == UNAVAILABLE


def test_without_the_queues_nothing_is_judged() -> None:
    assert exit_code(judge([page(line(queued=5, events=4), queues=None)])) == UNAVAILABLE


def test_what_moved_just_now_is_not_judged_yet() -> None:
    assert exit_code(judge([page(line(stored=5, events=5, age_seconds=19))])) == UNAVAILABLE
    assert exit_code(judge([page(line(stored=5, events=5, age_seconds=21))])) == 0


def test_a_parked_message_shows_as_what_it_is_missing() -> None:
    assert exit_code(judge([page(line(queued=5, events=4), queues=EMPTY | {"etlpay.parked": 1})])) == ERROR


@pytest.mark.parametrize(("counted_together", "expected"), [(3, 0), (4, ERROR)])
def test_sources_counted_together_are_found_under_their_own_names(counted_together: int, expected: int) -> None:
    named = [line(str(number), events=1) for number in range(3)]

    assert exit_code(judge([page(line("*", stored=counted_together), *named)])) == expected


def test_the_hours_of_a_day_are_those_that_it_touches() -> None:
    assert len(list(hours_between(NOW - timedelta(hours=24), NOW))) == 25


@pytest.mark.parametrize("text", ["", "24", "h", "-1h", "1w", "999999d"])
def test_a_time_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(StackError):
        parse_span(text)
