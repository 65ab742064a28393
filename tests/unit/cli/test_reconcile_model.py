"""With a loss behind an acknowledgement the audit never says that it balances, whatever is killed, lost or unknown.

Processes take events in, answer, report and die. The tally and the reconciliation are the real ones. The ledger between
them is a model of what the processor and the gateway do with receipts.
"""

import uuid
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from etlpay_cli.audit import exit_code
from etlpay_cli.errors import ERROR, UNVOUCHED
from etlpay_cli.reconcile import reconcile
from shared.contracts.audit import AuditLine, AuditPage, AuditSeries
from shared.contracts.event import Channel, stamp
from shared.contracts.receipt import SILENT_INTERVALS, SILENT_SECONDS, Count, Unconfirmed, hour_of, start_of
from shared.contracts.result import ResultKind
from shared.counters import InHand, Taken, Tally

BEGIN = datetime(2026, 11, 23, 8, 59, tzinfo=UTC)
INTERVAL_SECONDS = 10.0
SILENCE = timedelta(seconds=SILENT_INTERVALS * INTERVAL_SECONDS + SILENT_SECONDS)
SOURCES = ("shop", "bank")
HOUR = timedelta(hours=1)


@dataclass
class Event:
    """An acceptance on its way."""

    source: str
    name: Unconfirmed
    held: InHand


@dataclass
class Receipts:
    """What the ledger knows of the receipts of one process."""

    numbers: set[int] = field(default_factory=set)
    gaps: list[tuple[range, datetime, datetime]] = field(default_factory=list)
    open_since: datetime = BEGIN
    taken_at: datetime = BEGIN
    reported_at: datetime = BEGIN
    closed: bool = False


@dataclass
class Process:
    """A process of a channel: it counts, and tells what it has counted."""

    began_at: datetime
    tally: Tally
    instance: uuid.UUID = field(default_factory=uuid.uuid4)
    number: int = 0
    alive: bool = True
    in_hand: list[Event] = field(default_factory=list)


class Counters(RuleBasedStateMachine):
    """The rules are what happens to processes, events and receipts; `teardown` is the audit."""

    def __init__(self) -> None:
        super().__init__()
        self.now = BEGIN
        self.processes: list[Process] = []
        self.ledger: dict[Unconfirmed, str] = {}
        self.listed: set[Unconfirmed] = set()
        self.reported: set[Unconfirmed] = set()
        self.counts: list[Count] = []
        self.receipts: dict[uuid.UUID, Receipts] = {}
        self.killed = self.lost_a_receipt = False
        self.moments = 0
        self.killing = self.losing_receipts = False
        self.listed_max = 1

    @initialize(killing=st.booleans(), losing_receipts=st.booleans(), listed_max=st.sampled_from([1, 100]))
    def begin(self, killing: bool, losing_receipts: bool, listed_max: int) -> None:  # noqa: FBT001 - hypothesis
        """Choose what may happen: alone each thing must be reported as well."""
        self.killing, self.losing_receipts, self.listed_max = killing, losing_receipts, listed_max
        self.start()

    @rule()
    def start(self) -> None:
        if len(self.processes) < 3:
            self.processes.append(Process(self.now, Tally(unconfirmed_max=self.listed_max, began_at=self.now)))
            self._tell(self.processes[-1])

    @rule(which=st.integers(0, 9), source=st.sampled_from(SOURCES))
    def take_in(self, which: int, source: str) -> None:
        if process := self._alive(which):
            self.moments += 1
            held = process.tally.in_hand
            held.begin()
            name = Unconfirmed(uuid.uuid4(), stamp(self.now, self.moments), Channel.HTTP)
            process.in_hand.append(Event(source, name, held))

    @rule(which=st.integers(0, 9), stored=st.booleans(), kind=st.sampled_from([ResultKind.STORED, ResultKind.QUEUED]))
    def acknowledge(self, which: int, stored: bool, kind: ResultKind) -> None:  # noqa: FBT001 - hypothesis hands it over
        """What is acknowledged and not stored is lost."""
        if (process := self._alive(which)) and process.in_hand:
            event = self._answer(process, stored=stored)
            self.reported.add(event.name)
            process.tally.add(Channel.HTTP, kind, event.source, event.name.received_at)

    @rule(which=st.integers(0, 9), stored=st.booleans())
    def leave_unknown(self, which: int, stored: bool) -> None:  # noqa: FBT001 - hypothesis hands it over by name
        """No confirmation came, or the client had gone."""
        if (process := self._alive(which)) and process.in_hand:
            event = self._answer(process, stored=stored)
            process.tally.add_unconfirmed(event.source, event.name)

    @rule(which=st.integers(0, 9), source=st.sampled_from(SOURCES), number=st.integers(1, 5))
    def leave_many_unknown(self, which: int, source: str, number: int) -> None:
        """And lose one that was acknowledged, beside them."""
        self.take_in(which, source)
        self.acknowledge(which, stored=False, kind=ResultKind.QUEUED)
        for position in range(number):
            self.take_in(which, source)
            self.leave_unknown(which, stored=position == 1)

    @rule(which=st.integers(0, 9))
    def refuse(self, which: int) -> None:
        if (process := self._alive(which)) and process.in_hand:
            event = self._answer(process, stored=False)
            process.tally.add(Channel.HTTP, ResultKind.UNKNOWN, event.source, event.name.received_at)

    @rule(seconds=st.sampled_from([1, 9, 9, 9]))
    def pass_time(self, seconds: int) -> None:
        """Whoever lives tells in each interval."""
        self.now += timedelta(seconds=seconds)
        for process in self.processes:
            if process.alive and self.now - self.receipts[process.instance].taken_at > timedelta(seconds=8):
                self._tell(process)

    @rule(which=st.integers(0, 9))
    def tell(self, which: int) -> None:
        if process := self._alive(which):
            self._tell(process)

    @precondition(lambda self: self.losing_receipts)
    @rule(which=st.integers(0, 9))
    def lose_a_receipt(self, which: int) -> None:
        """The broker confirms it, and keeps nothing."""
        if process := self._alive(which):
            self.lost_a_receipt = True
            process.tally.take(self.now)
            process.number += 1

    @rule(which=st.integers(0, 9))
    def end(self, which: int) -> None:
        if (process := self._alive(which)) and not process.in_hand:
            self._tell(process, closing=True)
            process.alive = False

    @precondition(lambda self: self.killing)
    @rule(which=st.integers(0, 9), stored=st.booleans(), reported=st.booleans())
    def kill(self, which: int, stored: bool, reported: bool) -> None:  # noqa: FBT001 - hypothesis hands it over by name
        """What it had in hand may be stored, and it may have acknowledged it just before."""
        if process := self._alive(which):
            self.killed = True
            process.alive = False
            self.ledger |= {event.name: event.source for event in process.in_hand if stored}
            self.reported |= {event.name for event in process.in_hand if reported}

    @rule()
    def hours_pass(self) -> None:
        """Nothing happens for longer than an hour but that the living tell."""
        for process in self.processes:
            if process.alive:
                self._tell(process)
        self.now += HOUR
        for process in self.processes:
            if process.alive:
                self._tell(process)

    def teardown(self) -> None:
        for process in self.processes:
            while process.alive and process.in_hand:
                event = self._answer(process, stored=False)
                process.tally.add(Channel.HTTP, ResultKind.UNKNOWN, event.source, event.name.received_at)
            if process.alive:
                self._tell(process)
        as_of = self.now + SILENCE + timedelta(seconds=1)
        for process in self.processes:
            if process.alive:
                self.receipts[process.instance].reported_at = as_of
        for hour in self._hours():
            self._check(hour, exit_code(reconcile([self._page(hour, as_of)])))

    def _check(self, hour: datetime, code: int) -> None:
        lost = [name for name in self.reported - self.ledger.keys() if hour <= name.received_at < hour + HOUR]
        if lost:
            assert code in {ERROR, UNVOUCHED}
        if self.killed or self.lost_a_receipt or any(count.unlisted for count in self.counts):
            return
        assert code == (ERROR if lost else 0)

    def _alive(self, which: int) -> Process | None:
        alive = [process for process in self.processes if process.alive]
        return alive[which % len(alive)] if alive else None

    def _answer(self, process: Process, *, stored: bool) -> Event:
        event = process.in_hand.pop(0)
        event.held.end()
        if stored:
            self.ledger[event.name] = event.source
        return event

    def _tell(self, process: Process, *, closing: bool = False) -> None:
        process.number += 1
        self._keep(process, process.tally.take(self.now), closing=closing)

    def _keep(self, process: Process, taken: Taken, *, closing: bool) -> None:
        """Do what the processor does with a receipt."""
        kept = self.receipts.setdefault(process.instance, Receipts(open_since=process.began_at))
        expected = max(kept.numbers, default=0) + 1
        if expected < process.number:
            kept.gaps.append((range(expected, process.number), kept.open_since, self.now))
        kept.numbers.add(process.number)
        kept.open_since, kept.taken_at, kept.reported_at = taken.open_since, self.now, self.now
        kept.closed = kept.closed or closing
        self.counts += taken.counts
        self.listed |= set(taken.unconfirmed)

    def _hours(self) -> list[datetime]:
        first, last = hour_of(BEGIN), hour_of(self.now)
        return [start_of(hour) for hour in range(first, last + 1)]

    def _page(self, hour: datetime, as_of: datetime) -> AuditPage:
        """Do what the gateway does when it is asked for an hour."""
        of_ledger = {name: source for name, source in self.ledger.items() if hour <= name.received_at < hour + HOUR}
        answered: dict[str, Counter[str]] = {source: Counter() for source in SOURCES}
        for count in self.counts:
            if start_of(count.hour) == hour:
                numbers = dict(zip((kind.name.lower() for kind in ResultKind), count.results, strict=True))
                answered[count.source].update(numbers | {"unlisted": count.unlisted})
        return AuditPage(
            hour=hour,
            as_of=as_of,
            items=[_line(source, answered[source], of_ledger, self.listed) for source in SOURCES],
            next=None,
            series=[series for process in self.processes for series in self._series(process, hour)],
            overflowed=[],
            queues={},
            receipt_seconds=INTERVAL_SECONDS,
        )

    def _series(self, process: Process, hour: datetime) -> list[AuditSeries]:
        kept = self.receipts[process.instance]
        spans = [(since, until, len(numbers)) for numbers, since, until in kept.gaps]
        if not kept.closed:
            spans.append((kept.open_since, kept.taken_at + SILENCE, 0))
        return [
            AuditSeries(
                service="api-gateway",
                instance=process.instance,
                channel="http",
                since=since,
                until=until,
                reported_at=kept.reported_at,
                interval_seconds=INTERVAL_SECONDS,
                missing_receipts=missing,
            )
            for since, until, missing in spans
            if since < hour + HOUR and until >= hour
        ]


def _line(source: str, answered: Counter[str], ledger: dict[Unconfirmed, str], listed: set[Unconfirmed]) -> AuditLine:
    names = {name for name, of in ledger.items() if of == source}
    zeros = dict.fromkeys(set(AuditLine.__struct_fields__) - {"source", "channel", "moved_at"}, 0)
    held = {"events": len(names), "success": len(names), "unconfirmed": len(names & listed)}
    return AuditLine(source=source, channel="http", moved_at=BEGIN - HOUR, **zeros | dict(answered) | held)


TestCounters = Counters.TestCase
TestCounters.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)


def test_what_a_process_had_in_hand_for_hours_and_acknowledged_before_it_was_killed_is_in_doubt() -> None:
    """The hour in which it came in has ended, and nothing else is counted in it."""
    counters = Counters()
    counters.begin(killing=True, losing_receipts=False, listed_max=1)
    counters.take_in(0, "shop")
    counters.hours_pass()
    counters.kill(0, stored=False, reported=True)

    counters.teardown()
