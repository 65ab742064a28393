"""Holds, and what is owed after them."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import asyncpg
import pytest
from msgspec.structs import replace

from processor.ledger.database import Connections
from processor.ledger.holds import SETTLED
from processor.ledger.owed import FIRST, OwedEvents
from processor.ledger.rows import Processed
from processor.ledger.store import Store
from processor.programs.active import ActiveSet
from processor.settings import ProcessorSettings
from processor.stages.held import HeldEvents
from shared.contracts.event import Envelope, now
from shared.contracts.result import Recorded, RecordStatus, ResultKind
from shared.runtime.readiness import Readiness
from shared.runtime.service import running
from support.keys import FakeClock
from support.typed import account, causes, payment, payment_gone, rows_of, statuses, transformed
from support.waiting import until_true

MAKE_SMALL = "ALTER TABLE rows.payments_1 ADD CONSTRAINT payments_small CHECK (amount < 100)"


class Processor:
    """A store and what works off its HELD events, with a clock of the test's."""

    def __init__(self, connections: Connections, pipelines: ActiveSet) -> None:
        self.store = Store(connections, copy_events_min=100)
        self.holds = self.store.holds
        self.clock = FakeClock()
        self.pipelines = pipelines.pipelines
        self.transform: Callable[[Envelope, ActiveSet], Processed] = transformed
        self.owed = OwedEvents(connections, self.store.ids, self.store.causes, self.store.typed)
        self.held = HeldEvents(
            self.holds,
            self.owed,
            active=self.active,
            transform=self._transform_now,
            look_seconds=0.05,
            clock=self.clock,
        )

    def active(self) -> ActiveSet:
        return ActiveSet(self.pipelines, self.holds.held)

    def _transform_now(self, event: Envelope, active: ActiveSet) -> Processed:
        return self.transform(event, active)

    async def write(self, *events: Envelope) -> list[Recorded]:
        active = self.active()
        return await self.store.write([transformed(event, active) for event in events], processed_at=now())

    async def turns(self, seconds: float = 0) -> None:
        """Let the time pass, then let everything be worked off that can be."""
        self.clock.now += seconds
        while await self.held.turn():
            pass


@pytest.fixture
def processor(connections: Connections, pipelines: ActiveSet) -> Processor:
    return Processor(connections, pipelines)


async def hold(owner: asyncpg.Connection, name: str, *, held: bool, set_by: str = "operator") -> None:
    await owner.execute(
        "INSERT INTO pipeline_holds (name, held, set_by, reason) VALUES ($1, $2, $3, 'why')", name, held, set_by
    )


async def last_hold(owner: asyncpg.Connection, name: str = "shop") -> tuple[bool, str, str]:
    row = await owner.fetchrow("SELECT held, set_by, reason FROM pipeline_holds WHERE name = $1 ORDER BY id DESC", name)
    return row["held"], row["set_by"], row["reason"]


async def test_a_pipeline_that_an_operator_holds_is_held_until_it_is_resumed(
    processor: Processor, owner: asyncpg.Connection
) -> None:
    await hold(owner, "shop", held=True)
    await processor.turns()
    outcomes = await processor.write(payment("a", 1, parts=["x"]), account("a", 1))
    assert [outcome.status.name for outcome in outcomes] == ["HELD", "SUCCESS"]
    assert processor.holds.held == {"shop": "why"}

    for _ in range(5):
        await processor.turns(seconds=60)
    assert await statuses(owner) == {"HELD": 1, "SUCCESS": 1}
    await hold(owner, "shop", held=False)
    await processor.turns()

    assert await statuses(owner) == {"SUCCESS": 2}
    assert await rows_of(owner, "parts", "id, label") == [("a", "x")]
    records = await owner.fetch("SELECT attempt, status, row_count FROM processed_records WHERE raw_event_id = $1 "
                                "ORDER BY attempt", outcomes[0].raw_event_id)  # fmt: skip
    assert [tuple(record) for record in records] == [(1, 3, 0), (2, 1, 3)]
    assert await rows_of(owner, "payments", "_event") == [(outcomes[0].raw_event_id,)]


async def test_a_hold_of_a_processor_ends_by_itself_when_the_table_can_be_written(
    processor: Processor, owner: asyncpg.Connection
) -> None:
    await processor.write(payment("before", 1))
    await owner.execute("REVOKE INSERT ON rows.payments_1 FROM etlpay_processor")
    await processor.write(*(payment(number, 1, parts=["x"]) for number in range(120)))
    for _ in range(3):
        await processor.turns(seconds=60)
    assert await statuses(owner) == {"HELD": 120, "SUCCESS": 1}
    assert (await last_hold(owner))[:2] == (True, "processor")
    assert await owner.fetchval("SELECT count(*) FROM pipeline_holds") == 1

    await owner.execute("GRANT INSERT ON rows.payments_1 TO etlpay_processor")
    await processor.turns(seconds=60)

    assert await statuses(owner) == {"SUCCESS": 121}
    assert processor.holds.held == {}
    assert len(await rows_of(owner, "parts")) == 120
    assert (await last_hold(owner))[:2] == (False, "processor")


async def test_a_lock_that_is_gone_leaves_nothing_to_do(processor: Processor, owner: asyncpg.Connection) -> None:
    """The part runs by itself here, as it does in the processor; other sources go on meanwhile."""
    await processor.write(payment("before", 1))
    await owner.execute("BEGIN; LOCK TABLE rows.payments_1 IN ACCESS EXCLUSIVE MODE")
    async with running(processor.held):
        outcomes = await processor.write(*(payment(number, 1) for number in range(20)), account("a", 1))
        [other] = await processor.write(payment("b", 1, source="other"))
        assert {outcome.status.name for outcome in outcomes} == {"HELD", "SUCCESS"}
        assert other.status is RecordStatus.SUCCESS
        await owner.execute("ROLLBACK")

        async def is_over() -> bool:
            processor.clock.now += 1
            return await statuses(owner) == {"SUCCESS": 23} and not processor.holds.held

        assert await until_true(is_over, 20)

    assert len(await rows_of(owner, "payments")) == 21


async def _all_succeeded(owner: asyncpg.Connection, number: int) -> bool:
    return await statuses(owner) == {"SUCCESS": number}


async def test_tries_of_a_table_that_stays_broken_come_at_longer_intervals(
    processor: Processor, owner: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await owner.execute("DROP TABLE rows.payments_1")
    await processor.write(payment("a", 1))
    tried: list[float] = []
    read = OwedEvents.read

    async def noted(self: OwedEvents, owed: Any) -> Any:  # noqa: ANN401 - takes the place of a method
        tried.append(processor.clock.now - 100)
        return await read(self, owed)

    monkeypatch.setattr(OwedEvents, "read", noted)

    for _ in range(300):
        await processor.turns(seconds=1)

    assert tried == [6, 16, 36, 76, 136, 196, 256]


async def test_no_processor_ends_the_hold_of_an_operator(processor: Processor, owner: asyncpg.Connection) -> None:
    await owner.execute("REVOKE INSERT ON rows.payments_1 FROM etlpay_processor")
    await processor.write(payment("a", 1))
    await hold(owner, "shop", held=True)
    await owner.execute("GRANT INSERT ON rows.payments_1 TO etlpay_processor")
    for _ in range(3):
        await processor.turns(seconds=60)
    assert await statuses(owner) == {"HELD": 1}
    # Even where both were written at the same moment, and that of a processor came last.
    await hold(owner, "shop", held=False, set_by="processor")
    await processor.turns(seconds=60)
    assert await statuses(owner) == {"HELD": 1}

    await hold(owner, "shop", held=False)
    await processor.turns(seconds=60)

    assert await statuses(owner) == {"SUCCESS": 1}


async def test_what_was_held_is_processed_in_the_order_in_which_it_came_and_ends_in_the_same_rows(
    processor: Processor, owner: asyncpg.Connection
) -> None:
    await hold(owner, "shop", held=True)
    await processor.turns()
    await processor.write(payment("a", 3, status="paid"), payment("b", 1))
    await processor.write(payment("a", 2), payment_gone("b", 2))
    await hold(owner, "shop", held=False)
    await processor.holds.look()
    # Live events come before what is owed.
    await processor.write(payment("a", 4, status="back"))

    await processor.turns()

    rows = [("a", 4, "back", False), ("b", 2, None, True)]
    assert await rows_of(owner, "payments", "id, at, status, _gone") == rows
    assert len(await rows_of(owner, "payment_states")) == 5


async def test_a_duplicate_of_a_held_event_is_held_and_later_what_became_of_it(
    processor: Processor, owner: asyncpg.Connection
) -> None:
    await hold(owner, "shop", held=True)
    await processor.turns()
    event = payment("a", 1)
    [first] = await processor.write(event)

    [duplicate] = await processor.write(event)
    equal = replace(event, body=event.body.replace(b'"at":1', b'"at": 1'))
    [by_value] = await processor.write(equal)
    await hold(owner, "shop", held=False)
    await processor.turns()
    [later] = await processor.write(event)

    assert [each.kind for each in (duplicate, by_value, later)] == [ResultKind.DUPLICATE] * 3
    assert (duplicate.status, duplicate.record_id) == (RecordStatus.HELD, first.record_id)
    assert by_value.status is RecordStatus.HELD
    assert later.status is RecordStatus.SUCCESS
    assert later.record_id == await owner.fetchval("SELECT record_id FROM events")
    assert later.record_id != first.record_id
    assert (await processor.write(replace(event, body=b'{"other": 1}')))[0].kind is ResultKind.CONFLICT


async def test_two_processors_work_off_what_is_owed_each_event_once(
    processor_settings: ProcessorSettings, owner: asyncpg.Connection, pipelines: ActiveSet
) -> None:
    async with AsyncExitStack() as stack:
        both: list[Processor] = []
        for name in ("one", "two"):
            connections = await Connections.open(processor_settings, name=name)
            stack.push_async_callback(connections.close)
            both.append(Processor(connections, pipelines))
        await hold(owner, "shop", held=True)
        for each in both:
            await each.turns()
        await both[0].write(*(payment(number, 1, parts=["x", "y"]) for number in range(400)))
        await hold(owner, "shop", held=False)

        async with running(both[0].held), running(both[1].held):
            assert await until_true(lambda: _all_succeeded(owner, 400), 30)

    assert len(await rows_of(owner, "parts")) == 800
    assert await owner.fetchval("SELECT max(attempt) FROM processed_records") == 2
    assert await owner.fetchval("SELECT count(*) FROM processed_records") == 800


async def test_the_next_attempt_of_an_event_is_made_once_and_by_one_processor_at_a_time(
    processor: Processor, owner: asyncpg.Connection
) -> None:
    await hold(owner, "shop", held=True)
    await processor.turns()
    await processor.write(payment("a", 1, parts=["x"]), payment("b", 1, parts=["x"]))
    owed = processor.owed
    look = await owed.find("shop", FIRST)
    events = await owed.read(look.owed)
    processed = [transformed(each.event, ActiveSet(processor.pipelines)) for each in events]
    lock = "SELECT {}(hashtextextended('etlpay held shop', 0))"
    await owner.execute(lock.format("pg_advisory_lock"))
    assert await owed.write("shop", events, processed, processed_at=now()) is None
    await owner.execute(lock.format("pg_advisory_unlock"))

    written = [await owed.write("shop", events, processed, processed_at=now()) for _ in range(2)]

    assert [len(each or ()) for each in written] == [2, 0]
    assert await rows_of(owner, "parts", "id") == [("a",), ("b",)]


async def test_an_event_whose_row_is_refused_is_failed_and_the_others_go_on(
    processor: Processor, owner: asyncpg.Connection
) -> None:
    await hold(owner, "shop", held=True)
    await processor.turns()
    await processor.write(*(payment(number, 1, amount=f"{number}.00") for number in range(80, 102)))
    await owner.execute(MAKE_SMALL)
    await hold(owner, "shop", held=False)

    await processor.turns()

    assert await statuses(owner) == {"SUCCESS": 20, "FAILED": 2}
    assert await causes(owner) == {"shop.payments:23514.payments_small"}
    assert processor.holds.held == {}


async def test_a_rule_that_refuses_all_that_is_owed_holds_the_pipeline_again(
    processor: Processor, owner: asyncpg.Connection
) -> None:
    await owner.execute(MAKE_SMALL.replace("100", "1"))
    await processor.write(*(payment(number, 1) for number in range(60)))
    assert await statuses(owner) == {"HELD": 60}

    for _ in range(3):
        await processor.turns(seconds=60)
    assert await statuses(owner) == {"HELD": 60}
    await owner.execute("ALTER TABLE rows.payments_1 DROP CONSTRAINT payments_small")
    await processor.turns(seconds=60)

    assert await statuses(owner) == {"SUCCESS": 60}


async def test_what_the_ledger_refuses_of_an_attempt_is_failed(processor: Processor, owner: asyncpg.Connection) -> None:
    await hold(owner, "shop", held=True)
    await processor.turns()
    await processor.write(payment("a", 1), payment("b", 1))
    await hold(owner, "shop", held=False)

    def with_nul(event: Envelope, active: ActiveSet) -> Processed:
        processed = transformed(event, active)
        return replace(processed, result=b'{"a": "\\u0000"}') if b'"b"' in event.body else processed

    processor.transform = with_nul
    await processor.turns()

    assert await statuses(owner) == {"SUCCESS": 1, "FAILED": 1}
    assert await causes(owner) == {"shop:refused.22P05"}


async def test_a_version_that_cannot_be_run_here_leaves_its_events_to_others(
    processor: Processor, owner: asyncpg.Connection
) -> None:
    runnable = processor.pipelines
    processor.pipelines = tuple(replace(each, program=None) for each in runnable)
    await processor.write(payment("a", 1))

    await processor.turns(seconds=60)
    assert await statuses(owner) == {"HELD": 1}
    processor.pipelines = runnable
    await processor.turns(seconds=60)

    assert await statuses(owner) == {"SUCCESS": 1}


async def test_after_a_while_it_is_kept_that_nothing_is_owed_and_a_later_process_begins_there(
    processor: Processor, connections: Connections, owner: asyncpg.Connection, pipelines: ActiveSet
) -> None:
    await hold(owner, "shop", held=True)
    await processor.turns()
    await processor.write(*(payment(number, 1) for number in range(30)))
    await hold(owner, "shop", held=False)
    for seconds in (0, 1, 60, 60):
        await processor.turns(seconds)
    assert await last_hold(owner) == (False, "processor", SETTLED)
    assert processor.held._debts == {}
    await owner.execute("UPDATE processed_records SET processed_at = processed_at - interval '1 day'")

    late = Processor(connections, pipelines)
    await late.turns()
    assert late.held._debts["shop"].position[1] == 0
    for _ in range(3):
        await late.turns(seconds=60)

    assert late.held._debts == {}
    assert await owner.fetchval("SELECT count(*) FROM pipeline_holds") == 3


async def test_what_is_committed_late_is_found(processor: Processor, owner: asyncpg.Connection) -> None:
    """A batch was transformed while its pipeline was held, and is committed when everything else is processed."""
    await hold(owner, "shop", held=True)
    await processor.turns()
    early = now()
    held = transformed(payment("late", 1), processor.active())
    await processor.write(*(payment(number, 1) for number in range(10)))
    await hold(owner, "shop", held=False)
    await processor.turns()

    await processor.store.write([held], processed_at=early)
    for _ in range(4):
        await processor.turns(seconds=60)

    assert await statuses(owner) == {"SUCCESS": 11}


async def test_a_look_for_what_is_owed_reads_no_more_than_a_part_of_what_was_held_once(
    processor: Processor, owner: asyncpg.Connection
) -> None:
    await hold(owner, "shop", held=True)
    await processor.turns()
    await processor.write(*(payment(number, 1) for number in range(1_500)))
    await hold(owner, "shop", held=False)
    await processor.turns()
    assert await statuses(owner) == {"SUCCESS": 1_500}
    await owner.execute("ANALYZE processed_records")

    plan = await owner.fetch(
        "EXPLAIN SELECT id FROM processed_records WHERE status = 3 AND (processed_at, id) > ('0001-01-01', 0) "
        "ORDER BY processed_at, id LIMIT 10"
    )
    assert "processed_records_held" in "".join(row[0] for row in plan)
    first = await processor.owed.find("shop", processor.held._debts["shop"].position)
    assert first == ([], None)


async def test_who_looks_at_readiness_or_metrics_sees_what_is_held(
    connections: Connections, owner: asyncpg.Connection, pipelines: ActiveSet
) -> None:
    readiness = Readiness()
    processor = Processor(connections, pipelines)
    processor.holds._readiness = readiness
    await hold(owner, "shop", held=True)
    await processor.turns()
    assert readiness.report() == {"pipeline shop": "missing (optional)"}
    assert readiness.ready

    await hold(owner, "shop", held=False)
    await processor.turns()

    assert readiness.report() == {"pipeline shop": "ok"}
    await asyncio.sleep(0)
