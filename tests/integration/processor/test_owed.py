"""What is owed of pipelines that were held."""

from contextlib import AsyncExitStack

import asyncpg
from msgspec.structs import replace

from processor.ledger.database import Connections
from processor.ledger.holds import SETTLED
from processor.ledger.owed import FIRST
from processor.ledger.rows import Processed
from processor.programs.active import ActiveSet
from processor.settings import ProcessorSettings
from shared.contracts.event import Envelope, now
from shared.contracts.result import RecordStatus, ResultKind
from shared.runtime.service import running
from support.holding import Processor, all_succeeded, hold, last_hold
from support.typed import causes, payment, payment_gone, rows_of, statuses, transformed
from support.waiting import until_true

MAKE_SMALL = "ALTER TABLE rows.payments_1 ADD CONSTRAINT payments_small CHECK (amount < 100)"


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
            assert await until_true(lambda: all_succeeded(owner, 400), 30)

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
