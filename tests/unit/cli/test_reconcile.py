"""What was acknowledged and is not stored is named; what only takes its time is not called missing."""

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from etlpay_cli.audit import exit_code, hours_between
from etlpay_cli.errors import ERROR, UNAVAILABLE, UNVOUCHED, StackError
from etlpay_cli.reconcile import reconcile
from etlpay_cli.spans import parse_span
from shared.contracts.audit import AuditLine, AuditPage, AuditSeries
from shared.contracts.event import ChannelName

HOUR = datetime(2026, 11, 23, 8, tzinfo=UTC)
NOW = HOUR + timedelta(minutes=30)
EMPTY = {"etlpay.ingest": 0, "etlpay.ingest.slow": 0, "etlpay.receipts": 0, "etlpay.parked": 0}


def line(source: str = "shop", *, channel: ChannelName = "http", age_seconds: float = 600, **numbers: int) -> AuditLine:
    """Return a line on which everything that is not given is zero, and each event has its record."""
    names = set(AuditLine.__struct_fields__) - {"source", "channel", "moved_at"}
    zeros = dict.fromkeys(names, 0) | {"success": numbers.get("events", 0)}
    moved_at = NOW - timedelta(seconds=age_seconds)
    return AuditLine(source=source, channel=channel, moved_at=moved_at, **zeros | numbers)


def page(
    *lines: AuditLine,
    queues: dict[str, int] | None = EMPTY,
    hour: datetime = HOUR,
    series: Sequence[AuditSeries] = (),
    overflowed: Sequence[ChannelName] = (),
) -> AuditPage:
    return AuditPage(
        hour=hour,
        as_of=NOW,
        items=list(lines),
        next=None,
        queues=queues,
        receipt_seconds=10,
        series=list(series),
        overflowed=list(overflowed),
    )


def process(channel: ChannelName = "http", *, silent_seconds: float = 600, missing_receipts: int = 0) -> AuditSeries:
    """Return a process that has not ended in order, or of which receipts are missing."""
    reported_at = NOW - timedelta(seconds=silent_seconds)
    return AuditSeries(
        service="api-gateway",
        instance=uuid.UUID(int=1),
        channel=channel,
        since=HOUR,
        until=HOUR + timedelta(minutes=10),
        reported_at=reported_at,
        interval_seconds=10,
        missing_receipts=missing_receipts,
    )


def test_stored_and_queued_balance_with_events_and_settlements() -> None:
    report = reconcile([page(line(stored=3, queued=7, events=7, settled_duplicate=2, settled_conflict=1))])

    assert exit_code(report) == 0


def test_a_missing_event_is_named_by_source_and_hour() -> None:
    report = reconcile([page(line(queued=5, events=5), line("bank", queued=5, events=4))])

    [found] = report.settled_wrong
    assert (found.line.source, found.hour, found.missing) == ("bank", HOUR, 1)
    assert exit_code(report) == ERROR


def test_the_surplus_of_one_source_does_not_pay_for_another() -> None:
    report = reconcile([page(line(queued=5, events=4), line("bank", queued=5, events=6))])

    assert [found.line.source for found in report.settled_wrong] == ["shop"]


def test_an_event_without_a_record_does_not_balance() -> None:
    assert exit_code(reconcile([page(line(stored=2, events=2, success=1))])) == ERROR


def test_more_stored_than_acknowledged_is_not_vouched_for() -> None:
    """Events of a killed process that are in no receipt may hide as many that were acknowledged and lost."""
    report = reconcile([page(line(stored=1, events=3))])

    assert (report.findings[0].surplus, exit_code(report)) == (2, UNVOUCHED)
    assert len(report.findings[0].doubts) == 1


def test_what_is_stored_and_was_listed_as_unconfirmed_is_no_surplus() -> None:
    assert exit_code(reconcile([page(line(stored=1, unknown=5, events=3, unconfirmed=2))])) == 0


def test_an_unconfirmed_one_that_is_stored_does_not_pay_for_one_that_is_lost() -> None:
    assert exit_code(reconcile([page(line(stored=3, unknown=1, events=3, unconfirmed=1))])) == ERROR


def test_unconfirmed_ones_that_are_not_listed_leave_the_line_unvouched_for() -> None:
    assert exit_code(reconcile([page(line(stored=3, unknown=9, unlisted=9, events=3))])) == UNVOUCHED


def test_a_process_that_was_killed_leaves_no_line_of_its_channel_vouched_for() -> None:
    """40 events in no receipt, and 40 of another that are lost: the numbers are equal."""
    lines = [line(queued=80, events=80), line(channel="grpc", stored=1, events=1)]
    report = reconcile([page(*lines, series=[process()])])

    assert exit_code(report) == UNVOUCHED
    assert [found.line.channel for found in report.unvouched] == ["http"]
    assert [doubt.instance for doubt in report.doubts] == [uuid.UUID(int=1)]


def test_a_process_that_was_killed_is_told_where_nothing_else_is_in_the_books() -> None:
    """All that it acknowledged may be lost, and with it every trace."""
    assert exit_code(reconcile([page(series=[process()])])) == UNVOUCHED


def test_a_missing_receipt_leaves_its_hours_unvouched_for_also_where_the_process_is_alive() -> None:
    alive = process(silent_seconds=1, missing_receipts=2)

    assert exit_code(reconcile([page(line(stored=1, events=1), series=[alive])])) == UNVOUCHED


def test_what_is_missing_is_told_also_where_more_cannot_be_vouched_for() -> None:
    report = reconcile([page(line(queued=5, events=4), series=[process()])])

    assert exit_code(report) == ERROR
    assert report.unvouched == report.settled_wrong


@pytest.mark.parametrize(
    ("silent_seconds", "expected"), [(19, 0), (21, UNAVAILABLE), (34, UNAVAILABLE), (36, UNVOUCHED)]
)
def test_a_process_that_lives_is_given_time_before_it_counts_as_dead(silent_seconds: float, expected: int) -> None:
    report = reconcile([page(line(stored=1, events=1), series=[process(silent_seconds=silent_seconds)])])

    assert exit_code(report) == expected
    assert report.may_clear == (expected == UNVOUCHED)


def test_a_process_that_has_been_silent_for_long_is_not_waited_for() -> None:
    assert not reconcile([page(series=[process(silent_seconds=130)])]).may_clear


def test_parts_of_an_hour_count_together() -> None:
    parts = [
        page(line(queued=5, events=2)),
        page(line(events=2)),
        page(line(events=1), line("bank", events=1, stored=1)),
    ]

    report = reconcile(parts)

    assert exit_code(report) == 0
    assert [(found.line.source, found.line.events) for found in report.findings] == [("shop", 5), ("bank", 1)]


@pytest.mark.parametrize("queue", ["etlpay.ingest", "etlpay.ingest.slow", "etlpay.receipts"])
def test_what_is_still_queued_is_not_missing(queue: str) -> None:
    report = reconcile([page(line(queued=5, events=4), queues=EMPTY | {queue: 1})])

    assert exit_code(report) == UNAVAILABLE


def test_without_the_queues_nothing_is_reported() -> None:
    assert exit_code(reconcile([page(line(queued=5, events=4), queues=None)])) == UNAVAILABLE


def test_what_moved_just_now_is_not_reported_yet() -> None:
    assert exit_code(reconcile([page(line(stored=5, events=5, age_seconds=19))])) == UNAVAILABLE
    assert exit_code(reconcile([page(line(stored=5, events=5, age_seconds=21))])) == 0


def test_a_parked_message_shows_as_what_it_is_missing() -> None:
    assert exit_code(reconcile([page(line(queued=5, events=4), queues=EMPTY | {"etlpay.parked": 1})])) == ERROR


@pytest.mark.parametrize(("counted_together", "expected"), [(3, UNVOUCHED), (4, ERROR)])
def test_sources_counted_together_are_not_vouched_for(counted_together: int, expected: int) -> None:
    """Their source is not known, so a lost event and an event in no receipt look the same."""
    named = [line(str(number), events=1) for number in range(3)]

    report = reconcile([page(line("*", stored=counted_together), *named, line("even", stored=1, events=1))])
    overflowed = reconcile([page(line("even", stored=1, events=1), overflowed=["http"])])

    assert exit_code(report) == expected
    assert exit_code(overflowed) == UNVOUCHED


def test_the_hours_of_a_day_are_those_that_it_touches() -> None:
    assert len(list(hours_between(NOW - timedelta(hours=24), NOW))) == 25


@pytest.mark.parametrize("text", ["", "24", "h", "-1h", "1w", "999999d"])
def test_a_time_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(StackError):
        parse_span(text)
