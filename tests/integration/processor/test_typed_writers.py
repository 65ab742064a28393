"""Several writers of typed rows at the same time, and somebody who locks a table."""

import asyncio
import os
import subprocess
import sys
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random

import asyncpg
import pytest

from processor.ledger.database import Connections
from processor.ledger.store import Store
from processor.programs.active import ActiveSet
from processor.settings import ProcessorSettings
from shared.contracts.event import Envelope, now
from shared.contracts.result import Recorded, RecordStatus, ResultKind
from support.servers import CHECKOUT
from support.typed import account, is_waiting, payment, rows_of, statuses, transformed
from support.typed_batch import EVENTS
from support.waiting import until_true


async def write(store: Store, pipelines: ActiveSet, *events: Envelope) -> list[Recorded]:
    return await store.write([transformed(event, pipelines) for event in events], processed_at=now())


def shuffled(events: list[Envelope], seed: int) -> list[Envelope]:
    Random(seed).shuffle(events)  # noqa: S311 - the same order in every run
    return events


async def test_small_and_large_batches_over_shared_keys_never_deadlock(
    connections: Connections, owner: asyncpg.Connection, pipelines: ActiveSet
) -> None:
    """Small batches use INSERT, large ones COPY; each writes the same keys of two tables in another order."""
    stores = [Store(connections, copy_events_min=30) for _ in range(4)]
    before = await owner.fetchval("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
    written = 0

    for turn in range(30):
        batches = [
            shuffled(
                [payment(key, turn, key=f"{turn}.{writer}.{key}", parts=["x"]) for key in range(size)]
                + [account(key, turn, key=f"{turn}.{writer}.{key}") for key in range(size)],
                seed=100 * turn + writer,
            )
            for writer, size in enumerate((5, 30, 5, 30))
        ]
        outcomes = await asyncio.gather(
            *(write(store, pipelines, *batch) for store, batch in zip(stores, batches, strict=True))
        )
        written += sum(map(len, outcomes))

    assert await statuses(owner) == {"SUCCESS": written}
    await owner.execute("SELECT pg_stat_force_next_flush()")
    assert await owner.fetchval("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()") == before
    assert await rows_of(owner, "payments", "DISTINCT at") == [(29,)]
    assert len(await rows_of(owner, "payments")) == len(await rows_of(owner, "accounts")) == 30


async def test_two_processors_that_write_the_same_events_and_keys_end_in_the_rows_of_one(
    processor_settings: ProcessorSettings, owner: asyncpg.Connection, pipelines: ActiveSet
) -> None:
    async with AsyncExitStack() as stack:
        stores: list[Store] = []
        for name in ("one", "two"):
            connections = await Connections.open(processor_settings, name=name)
            stack.push_async_callback(connections.close)
            stores.append(Store(connections, copy_events_min=20))
        events = [payment(number % 9, number, parts=["x", "y"]) for number in range(120)]

        outcomes = await asyncio.gather(
            *(
                write(store, pipelines, *shuffled(events[start : start + size], seed=start))
                for store, size in zip(stores, (10, 40), strict=True)
                for start in range(0, 120, size)
            )
        )

    assert Counter(each.kind for batch in outcomes for each in batch) == {
        ResultKind.STORED: 120,
        ResultKind.DUPLICATE: 120,
    }
    assert len(await rows_of(owner, "parts")) == 240
    assert sorted(await rows_of(owner, "payments", "id, at")) == [(str(key), 111 + (key + 6) % 9) for key in range(9)]


async def test_who_locks_a_typed_table_stops_its_pipeline_and_no_other_source(
    connections: Connections, owner: asyncpg.Connection, pipelines: ActiveSet
) -> None:
    store = Store(connections, copy_events_min=100)
    await write(store, pipelines, payment("warm", 1), account("warm", 1))
    await owner.execute("BEGIN; LOCK TABLE rows.payments_1 IN ACCESS EXCLUSIVE MODE")
    waiting = asyncio.ensure_future(write(store, pipelines, payment("a", 1, parts=["x"])))
    assert await until_true(lambda: is_waiting(owner), 10)

    others = await write(store, pipelines, account("b", 1), payment("c", 1, source="other"))
    assert not waiting.done()
    [locked] = await waiting
    [later] = await write(store, pipelines, payment("d", 1))
    await owner.execute("ROLLBACK")

    assert [outcome.status for outcome in others] == [RecordStatus.SUCCESS] * 2
    assert locked.status is later.status is RecordStatus.HELD
    assert store.holds.held == {"shop": "rows.payments_1 refuses rows (SQLSTATE 55P03)"}
    assert await rows_of(owner, "parts") == []


async def test_the_ledger_itself_waits_for_its_locks_as_long_as_before(
    connections: Connections, owner: asyncpg.Connection, pipelines: ActiveSet
) -> None:
    """The limit is for typed tables: whoever waits for an event's id waits on, by INSERT and by COPY."""
    for copy_events_min in (1, 100):
        store = Store(connections, copy_events_min=copy_events_min, typed_lock_seconds_max=0.2)
        await write(store, pipelines, payment("warm", copy_events_min))
        await owner.execute("BEGIN; LOCK TABLE raw_events IN SHARE MODE")
        waiting = asyncio.ensure_future(write(store, pipelines, payment("a", copy_events_min)))
        await asyncio.sleep(0.6)
        assert not waiting.done()
        await owner.execute("ROLLBACK")
        [outcome] = await waiting
        assert outcome.status is RecordStatus.SUCCESS


@pytest.mark.parametrize("point", ["rows_next", "table_written", "rows_written"])
@pytest.mark.parametrize("copy_events_min", ["1", "1000"], ids=["copied", "inserted"])
async def test_a_processor_that_is_killed_leaves_an_event_with_all_of_its_rows_or_nothing(  # noqa: PLR0913, PLR0917 - fixtures
    processor_settings: ProcessorSettings,
    connections: Connections,
    owner: asyncpg.Connection,
    pipelines: ActiveSet,
    tmp_path: Path,
    point: str,
    copy_events_min: str,
) -> None:
    log = tmp_path / "failpoints"
    environment = {
        **os.environ,  # noqa: TID251 - a child's environment
        "PYTHONPATH": os.pathsep.join((str(CHECKOUT / "tests"), *sys.path)),
        "URL": processor_settings.postgres_url,
        "PASSWORD": processor_settings.postgres_password.get_secret_value(),
        "COPY_EVENTS_MIN": copy_events_min,
        "POINT": f"processor.{point}:kill",
        "LOG": str(log),
    }

    done = await asyncio.to_thread(
        subprocess.run, (sys.executable, "-m", "support.typed_batch"), env=environment, check=False, timeout=60
    )

    assert done.returncode == -9
    assert log.read_text().startswith(f"processor.{point}:kill")
    assert await until_true(lambda: _is_gone(owner), 10)
    assert await statuses(owner) == {}
    assert [len(await rows_of(owner, table)) for table in ("accounts", "payments", "parts")] == [0, 0, 0]
    outcomes = await write(Store(connections, copy_events_min=100), pipelines, *EVENTS)
    assert {outcome.kind for outcome in outcomes} == {ResultKind.STORED}
    assert [len(await rows_of(owner, table)) for table in ("accounts", "payments", "parts")] == [5, 5, 5]


async def _is_gone(owner: asyncpg.Connection) -> bool:
    return not await owner.fetchval("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'killed'")
