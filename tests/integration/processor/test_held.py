"""Holds: of operators, and of processors that cannot write a table."""

import asyncio
from typing import Any

import asyncpg
import pytest

from processor.ledger.database import Connections
from processor.ledger.owed import OwedEvents
from processor.programs.active import ActiveSet
from shared.contracts.result import RecordStatus
from shared.runtime.readiness import Readiness
from shared.runtime.service import running
from support.holding import Processor, hold, last_hold
from support.typed import account, payment, rows_of, statuses
from support.waiting import until_true


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
