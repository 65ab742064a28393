"""The checks of the fault matrix fail where they should: each of these ledgers is wrong in one way."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import msgspec
import pytest

from etlpay_cli.audit import exit_code
from etlpay_cli.errors import UNVOUCHED
from etlpay_cli.reconcile import Doubt, Report, reconcile
from faults.harness.audit import imbalance, unvouched
from faults.harness.checks import Ledger, Verdict, _without_injected_error, compare
from faults.harness.journal import Answer, Attempt, Journal, Sent, Version
from faults.harness.mutants import net
from faults.harness.runner_compose import check_logs
from shared.contracts.audit import AuditLine, AuditPage


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path / "journal", "case", seed=1)
    yield journal
    journal.close()


def answered(journal: Journal, answer: Answer, *, valid: bool = True) -> Sent:
    """Return an event of which its producer got this answer."""
    sent = journal.new("http", valid=valid)
    journal.learn(Attempt(sent, sent.first), answer)
    return sent


def row(sent: Sent, number: int = 1, **others: object) -> dict[str, object]:
    """Return the row that an event should have."""
    return {
        "id": number,
        "source": sent.source,
        "key": sent.key,
        "body": sent.first.body,
        "records": 1,
        "status": 1,
    } | others


def verdict_of(journal: Journal, *rows: dict[str, object], conflicts: tuple[dict[str, object], ...] = ()) -> Verdict:
    return compare(journal, Ledger(list(rows), list(conflicts)))


def problems(verdict: Verdict) -> list[str]:
    return list(verdict.problems)


def test_a_ledger_that_holds_what_was_acknowledged_is_right(journal: Journal) -> None:
    sent = answered(journal, Answer.STORED)

    verdict = verdict_of(journal, row(sent))

    assert (verdict.acknowledged, verdict.stored, verdict.lost, verdict.doubled, problems(verdict)) == (1, 1, 0, 0, [])


@pytest.mark.parametrize("answer", [Answer.STORED, Answer.ACCEPTED])
def test_an_acknowledged_event_that_is_not_there_is_lost(journal: Journal, answer: Answer) -> None:
    answered(journal, answer)

    assert verdict_of(journal).lost == 1


def test_an_event_of_which_nothing_is_known_may_be_there_or_not_but_not_twice(journal: Journal) -> None:
    sent = journal.new("http")

    assert verdict_of(journal).lost == 0
    assert verdict_of(journal, row(sent)).doubled == 0
    assert verdict_of(journal, row(sent, 1), row(sent, 2)).doubled == 1


@pytest.mark.parametrize(
    ("others", "problem"),
    [
        ({"body": b"{}"}, "stored with another content than sent"),
        ({"records": 0, "status": None}, "a raw event with 0 records"),
        ({"records": 2}, "a raw event with 2 records"),
        ({"status": 2}, "its record has the wrong status"),
    ],
)
def test_a_row_that_is_not_as_it_should_be_is_noted(journal: Journal, others: dict[str, object], problem: str) -> None:
    sent = answered(journal, Answer.STORED)

    assert problem in problems(verdict_of(journal, row(sent) | others))


def test_a_refused_event_must_not_be_there(journal: Journal) -> None:
    sent = answered(journal, Answer.REFUSED, valid=False)

    assert problems(verdict_of(journal, row(sent))) == ["refused, and stored"]


@pytest.mark.parametrize("later", [None, Answer.STORED, Answer.ACCEPTED])
def test_a_valid_event_must_not_be_refused_whatever_the_later_answer(journal: Journal, later: Answer | None) -> None:
    sent = answered(journal, Answer.REFUSED)
    if later is not None:
        journal.learn(Attempt(sent, sent.first), later)

    assert problems(verdict_of(journal, *([row(sent)] if later else []))) == ["valid, and refused"]


def test_a_second_content_must_not_be_refused_either(journal: Journal) -> None:
    sent = answered(journal, Answer.STORED)
    sent.versions.append(Version(b'{"other": 1}'))
    journal.learn(Attempt(sent, sent.versions[1]), Answer.REFUSED)

    assert problems(verdict_of(journal, row(sent))) == ["valid, and refused"]


@pytest.mark.parametrize("answer", [Answer.STORED, Answer.ACCEPTED, Answer.CONFLICT])
def test_an_invalid_event_must_not_be_acknowledged(journal: Journal, answer: Answer) -> None:
    answered(journal, answer, valid=False)

    assert problems(verdict_of(journal)) == ["invalid, and acknowledged"]


@pytest.mark.parametrize("answers", [[Answer.STORED, Answer.CONFLICT], [Answer.CONFLICT, Answer.STORED]])
def test_an_event_must_never_be_a_conflict_with_itself(journal: Journal, answers: list[Answer]) -> None:
    sent = journal.new("http")
    for answer in answers:
        journal.learn(Attempt(sent, sent.first), answer)

    assert problems(verdict_of(journal, row(sent))) == ["a conflict where nothing else was sent before"]


def test_a_row_that_nobody_sent_is_noted(journal: Journal) -> None:
    sent = answered(journal, Answer.STORED)

    assert problems(verdict_of(journal, row(sent), row(sent, 2, key="never-sent"))) == ["stored, and sent by nobody"]


def test_a_second_content_must_not_take_the_place_of_the_first_and_must_be_kept(journal: Journal) -> None:
    sent = answered(journal, Answer.STORED)
    sent.versions.append(Version(b'{"other": 1}', Answer.CONFLICT))
    kept = {"raw_event_id": 1, "body": b'{"other": 1}'}

    assert problems(verdict_of(journal, row(sent), conflicts=(kept,))) == []
    assert problems(verdict_of(journal, row(sent)))
    assert "stored first, and then overwritten" in problems(verdict_of(journal, row(sent, body=b'{"other": 1}')))


def test_an_answer_that_nobody_expects_is_noted(journal: Journal) -> None:
    journal.calls["unexpected HTTP 500"] += 2

    assert verdict_of(journal).problems == {"unexpected HTTP 500": 2}


def test_a_recovery_that_takes_too_long_is_noted() -> None:
    verdict = Verdict()

    verdict.expect_recovery(29.9, seconds_max=30)
    assert problems(verdict) == []

    verdict.expect_recovery(31.2, seconds_max=30)
    assert problems(verdict) == ["ready, answered and drained 31 s after the fault, instead of 30 s"]


def test_a_producer_without_an_answer_is_waited_for(journal: Journal) -> None:
    answered(journal, Answer.STORED)
    journal.new("never sent")
    sent = journal.new("http")
    journal.expect([Attempt(sent, sent.first)])

    assert journal.unanswered() == [sent]


def test_a_surprise_that_was_asked_for_hides_no_other() -> None:
    asked = b"Traceback (most recent call last):\n  | shared.failpoints.InjectedError: processor.received\n"
    logged = b'{"exception": "Traceback ... shared.failpoints.InjectedError: processor.received"}\n'
    other = b"Traceback (most recent call last):\nKeyError: 1\n"

    assert b"Traceback" not in _without_injected_error(asked + logged)
    assert b"Traceback" in _without_injected_error(asked + other)
    assert b"Traceback" in _without_injected_error(asked + b'{"exception": "Traceback ... KeyError: 1"}\n')


@pytest.mark.parametrize(
    ("services", "servers", "problems_found"),
    [
        pytest.param(b"all is well", b"LOG: all is well", [], id="well"),
        pytest.param(b"", b"connecting with hunter2", ["a secret in the logs"], id="a secret of a server"),
        pytest.param(b"hunter2", b"", ["a secret in the logs"], id="a secret of a service"),
        pytest.param(b"", b"DETAIL: payload-canary-1", ["a payload in the logs"], id="a payload of a server"),
        pytest.param(b"Traceback", b"", ["a traceback in the logs"], id="a traceback of a service"),
        pytest.param(b"", b"Traceback", [], id="what a server calls so"),
    ],
)
def test_the_logs_of_all_containers_are_looked_through(
    services: bytes, servers: bytes, problems_found: list[str]
) -> None:
    verdict = Verdict()

    check_logs(verdict, services, everything=services + servers, secrets={b"hunter2"})

    assert problems(verdict) == problems_found


def reports(**numbers: int) -> list[Report]:
    """Return the report on one source: what is not given is zero, and each event has its record."""
    names = set(AuditLine.__struct_fields__) - {"source", "channel", "moved_at"}
    zeros = dict.fromkeys(names, 0) | {"success": numbers.get("events", 0)}
    moment = datetime(2026, 11, 24, 12, 30, tzinfo=UTC)
    line = AuditLine(source="case.http", channel="http", moved_at=moment - timedelta(minutes=1), **zeros | numbers)
    hour = moment.replace(minute=0)
    return [
        reconcile(
            [
                AuditPage(
                    hour=hour,
                    as_of=moment,
                    items=[line],
                    next=None,
                    series=[],
                    overflowed=[],
                    queues={},
                    receipt_seconds=1,
                )
            ]
        ),
    ]


def test_an_audit_that_finds_what_was_acknowledged_is_right() -> None:
    assert imbalance(reports(stored=2, queued=3, events=4, settled_duplicate=1), stored=4, parked=0) == []


@pytest.mark.parametrize(
    ("numbers", "stored", "parked"),
    [
        pytest.param({"stored": 2, "queued": 3, "events": 4}, 4, 0, id="one is missing"),
        pytest.param({"stored": 2, "queued": 3, "events": 5}, 5, 1, id="none is missing, and one is parked"),
        pytest.param({"stored": 2, "events": 2, "success": 1}, 2, 0, id="one has no record"),
        pytest.param({"stored": 2, "events": 2}, 3, 0, id="the ledger has one more"),
    ],
)
def test_an_audit_that_does_not_balance_is_noted(numbers: dict[str, int], stored: int, parked: int) -> None:
    assert len(imbalance(reports(**numbers), stored=stored, parked=parked)) == 1


def killed(report_of_source: Report, instance: UUID) -> list[Report]:
    """Return a report that does not vouch because of a process."""
    doubt = Doubt(hour=report_of_source.findings[0].hour, channel="http", reason="it was killed", instance=instance)
    [finding] = report_of_source.findings
    doubted = msgspec.structs.replace(finding, doubts=["it was killed"])
    return [msgspec.structs.replace(report_of_source, findings=[doubted], doubts=[doubt])]


def test_an_audit_that_does_not_vouch_is_noted_unless_the_process_died_before() -> None:
    instance = UUID(int=1)
    even, surplus = reports(stored=2, events=2), reports(stored=2, events=3)

    assert unvouched(even, set()) == []
    assert len(unvouched(surplus, {instance})) == 1
    assert len(unvouched(killed(even[0], instance), set())) == 1
    assert unvouched(killed(even[0], instance), {instance}) == []


def test_an_audit_that_nets_says_of_a_surplus_that_it_balances() -> None:
    [page] = [AuditPage(
        hour=report.findings[0].hour, as_of=report.findings[0].hour + timedelta(hours=1), next=None, series=[],
        items=[report.findings[0].line], overflowed=[], queues={}, receipt_seconds=1,
    ) for report in reports(stored=2, events=3)]  # fmt: skip

    assert (exit_code(reconcile([page])), exit_code(net([page]))) == (UNVOUCHED, 0)
