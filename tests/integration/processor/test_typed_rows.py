"""Typed rows are written with their events, in one transaction: what the tables hold then."""

import asyncio
from datetime import UTC, datetime
from decimal import Decimal, localcontext

import asyncpg
import pytest
from msgspec.structs import replace

from processor.ledger.database import Connections
from processor.ledger.rows import Processed
from processor.ledger.store import Store
from processor.programs.active import ActiveSet
from shared.contracts.errors import UnavailableError
from shared.contracts.event import Envelope, now
from shared.contracts.result import Recorded, RecordStatus, ResultKind
from shared.pipelines.program import TypedRow
from support.typed import account, causes, is_waiting, payment, payment_gone, rows_of, statuses, transformed
from support.waiting import until_true

# By INSERT, by COPY.
SIZES = pytest.mark.parametrize("copy_events_min", [1_000, 1], ids=["inserted", "copied"])


def new_store(connections: Connections, *, copy_events_min: int = 100) -> Store:
    return Store(connections, copy_events_min=copy_events_min)


async def write(store: Store, pipelines: ActiveSet, *events: Envelope) -> list[Recorded]:
    return await store.write([transformed(event, pipelines) for event in events], processed_at=now())


@SIZES
async def test_an_event_is_stored_with_its_rows_in_all_tables(
    connections: Connections, owner: asyncpg.Connection, pipelines: ActiveSet, copy_events_min: int
) -> None:
    event = payment(
        "a", 1, parts=["x", "y"], rate="0.10", paid_at="2026-03-01T10:00:00Z", extra={"n": [Decimal("1.10"), "é"]}
    )

    [outcome] = await write(new_store(connections, copy_events_min=copy_events_min), pipelines, event)

    assert (outcome.kind, outcome.status) == (ResultKind.STORED, RecordStatus.SUCCESS)
    [row] = await owner.fetch("SELECT * FROM rows.payments_1")
    number = outcome.raw_event_id
    paid_at = datetime(2026, 3, 1, 10, tzinfo=UTC)
    assert tuple(row)[:7] == ("a", 1, "open", Decimal("10.99"), "EUR", Decimal("0.10"), paid_at)
    assert (str(row["amount"]), str(row["rate"]), row["extra"]) == ("10.99", "0.10", '{"n": [1.10, "é"]}')
    assert (row["_event"], row["_part"], row["_pipeline"], row["_rank"], row["_gone"]) == (number, 0, 1, 0, False)
    [state] = await owner.fetch("SELECT * FROM rows.payment_states_1")
    assert tuple(state)[:11] == tuple(row)[:11]
    parts = await rows_of(owner, "parts", "id, part, label, _event, _part", "part")
    assert parts == [("a", 0, "x", number, 0), ("a", 1, "y", number, 1)]
    loaded = await owner.fetchval("SELECT count(DISTINCT moment) FROM (SELECT _loaded_at FROM rows.payments_1 "
                                  "UNION ALL SELECT _loaded_at FROM rows.parts_1) AS all_rows (moment)")  # fmt: skip
    assert loaded == 1


@SIZES
async def test_the_record_names_its_version_its_rows_its_cause_and_the_person(
    connections: Connections, owner: asyncpg.Connection, pipelines: ActiveSet, copy_events_min: int
) -> None:
    good = replace(transformed(payment("a", 1, parts=["x"]), pipelines), subject="hash")
    bad = transformed(payment("b", 1, amount="1.999"), pipelines)
    plain = transformed(payment("c", 1, source="other"), pipelines)

    await new_store(connections, copy_events_min=copy_events_min).write([good, bad, plain], processed_at=now())

    read = "SELECT pipeline, pipeline_version, row_count, cause, subject, status FROM events ORDER BY source, status"
    assert [tuple(row) for row in await owner.fetch(read)] == [
        (None, None, None, None, None, "SUCCESS"),
        ("shop", 1, 0, "shop.payments.amount:precision", None, "FAILED"),
        ("shop", 1, 3, None, "hash", "SUCCESS"),
    ]


@SIZES
async def test_the_newest_row_of_a_key_wins_within_and_across_batches(
    connections: Connections, owner: asyncpg.Connection, pipelines: ActiveSet, copy_events_min: int
) -> None:
    store = new_store(connections, copy_events_min=copy_events_min)
    await write(store, pipelines, payment("a", 2), payment("a", 3, status="paid"), payment("a", 1))
    before = await owner.fetchval("SELECT _loaded_at FROM rows.payments_1")

    await write(store, pipelines, payment("a", 3), payment("b", 9))
    assert await rows_of(owner, "payments", "id, at, status") == [("a", 3, "paid"), ("b", 9, "open")]
    await write(store, pipelines, payment("a", 4, status="back"))

    assert await rows_of(owner, "payments", "id, at, status") == [("a", 4, "back"), ("b", 9, "open")]
    assert await owner.fetchval("SELECT _loaded_at FROM rows.payments_1 WHERE id = 'a'") > before
    assert len(await rows_of(owner, "payment_states")) == 6


async def test_of_equal_newest_and_rank_the_event_counts_that_was_stored_later(
    connections: Connections, owner: asyncpg.Connection, pipelines: ActiveSet
) -> None:
    store = new_store(connections)
    await write(store, pipelines, payment("a", 1, amount="1.00", key="x"), payment("a", 1, amount="2.00", key="y"))
    assert await rows_of(owner, "payments", "amount") == [(Decimal("2.00"),)]

    await write(store, pipelines, payment("a", 1, amount="3.00", key="z"))

    assert await rows_of(owner, "payments", "amount") == [(Decimal("3.00"),)]


async def test_a_tombstone_stays_until_a_newer_row_comes(
    connections: Connections, owner: asyncpg.Connection, pipelines: ActiveSet
) -> None:
    store = new_store(connections)
    read = "id, at, status, _gone"
    await write(store, pipelines, payment("a", 1))

    await write(store, pipelines, payment_gone("a", 5), payment_gone("b", 5))
    assert await rows_of(owner, "payments", read) == [("a", 5, None, True), ("b", 5, None, True)]
    await write(store, pipelines, payment("a", 4, status="paid"), payment("b", 4))
    assert await rows_of(owner, "payments", read) == [("a", 5, None, True), ("b", 5, None, True)]
    await write(store, pipelines, payment("a", 6))

    assert await rows_of(owner, "payments", read) == [("a", 6, "open", False), ("b", 5, None, True)]


async def test_a_row_without_newest_is_replaced_and_replaces_no_other(
    connections: Connections, owner: asyncpg.Connection, pipelines: ActiveSet
) -> None:
    """No program makes one; a user's UPDATE may. A comparison with null would keep such a row for ever."""
    store = new_store(connections)
    await write(store, pipelines, payment("a", 1), payment("b", 1))
    await owner.execute("UPDATE rows.payments_1 SET at = NULL WHERE id = 'a'")
    [unknown, known] = [_without_newest(transformed(payment(key, 9), pipelines)) for key in ("a", "b")]

    await store.write([unknown, known], processed_at=now())
    assert await rows_of(owner, "payments", "id, at") == [("a", None), ("b", 1)]
    assert await owner.fetchval("SELECT count(*) FROM rows.payments_1 WHERE _event = "
                                "(SELECT max(id) - 1 FROM raw_events)") == 1  # fmt: skip
    await write(store, pipelines, payment("a", 0))

    assert await rows_of(owner, "payments", "id, at") == [("a", 0), ("b", 1)]


def _without_newest(processed: Processed) -> Processed:
    rows = tuple(row._replace(values=(row.values[0], None, *row.values[2:])) for row in processed.rows)
    return replace(processed, rows=rows)


@SIZES
async def test_a_batch_that_comes_again_changes_nothing(
    connections: Connections, owner: asyncpg.Connection, pipelines: ActiveSet, copy_events_min: int
) -> None:
    events = [payment(number % 7, number, parts=["x"]) for number in range(50)]
    store = new_store(connections, copy_events_min=copy_events_min)
    await write(store, pipelines, *events)
    before = [await rows_of(owner, table) for table in ("payments", "payment_states", "parts")]

    again = await write(store, pipelines, *events)
    mixed = await write(store, pipelines, *events[:10], payment("new", 1, parts=["x"]))

    assert {outcome.kind for outcome in again} == {ResultKind.DUPLICATE}
    assert [outcome.kind for outcome in mixed].count(ResultKind.STORED) == 1
    await owner.execute("DELETE FROM rows.payments_1 WHERE id = 'new'; DELETE FROM rows.parts_1 WHERE id = 'new'")
    await owner.execute("DELETE FROM rows.payment_states_1 WHERE id = 'new'")
    assert [await rows_of(owner, table) for table in ("payments", "payment_states", "parts")] == before


EXTREMES = (
    *("0", "-0", "0.000", "-0.000", "1e30", "-1e30", "1e-30", "12345678901234567890.123456789", "1e400", "1.5e-400"),
    *("9999", "10000", "0.0001", "0.00001", "1e39000", "99999999999999999999999999999999999999.99"),
)


@SIZES
async def test_numbers_are_exact(
    connections: Connections, owner: asyncpg.Connection, pipelines: ActiveSet, copy_events_min: int
) -> None:
    """1e400 is beyond a float, and PostgreSQL holds it."""
    store = new_store(connections, copy_events_min=copy_events_min)
    batch = [_with_balance(pipelines, number, text) for number, text in enumerate(EXTREMES)]
    for number, amount in enumerate(((0, 0), (-1, 3), (10**18 - 1, 3), (5, 0)), len(EXTREMES)):
        processed = _with_balance(pipelines, number, "0")
        [row] = processed.rows
        batch.append(replace(processed, rows=(row._replace(values=(*row.values[:2], amount)),)))

    outcomes = await store.write(batch, processed_at=now())

    assert {outcome.status for outcome in outcomes} == {RecordStatus.SUCCESS}
    rows = await owner.fetch("SELECT balance::text FROM rows.accounts_1 ORDER BY iban::int")
    with localcontext(prec=200_000):
        expected = [
            f"{Decimal(text):f}".removeprefix("-") if Decimal(text) == 0 else f"{Decimal(text):f}" for text in EXTREMES
        ]
    assert [row[0] for row in rows] == [*expected, "0", "-0.001", "999999999999999.999", "5"]


def _with_balance(pipelines: ActiveSet, number: int, text: str) -> Processed:
    processed = transformed(account(number, 1), pipelines)
    [row] = processed.rows
    return replace(processed, rows=(TypedRow(row.table, row.part, (*row.values[:2], Decimal(text))),))


@SIZES
async def test_a_value_that_the_driver_cannot_send_fails_its_event_alone(
    connections: Connections, owner: asyncpg.Connection, pipelines: ActiveSet, copy_events_min: int
) -> None:
    batch = [transformed(payment(number, 1, parts=["x"]), pipelines) for number in range(20)]
    rows = tuple(row._replace(values=(row.values[0], 2**63, *row.values[2:])) for row in batch[7].rows)
    batch[7] = replace(batch[7], rows=rows)

    await new_store(connections, copy_events_min=copy_events_min).write(batch, processed_at=now())

    assert await statuses(owner) == {"SUCCESS": 19, "FAILED": 1}
    assert await causes(owner) == {"shop.parts:22000"}
    assert len(await rows_of(owner, "parts")) == 19


@pytest.mark.parametrize("text", ["1e50000", "1e-17000", "NaN", "Infinity"])
@SIZES
async def test_a_number_that_postgresql_cannot_hold_fails_its_event_alone(
    connections: Connections, owner: asyncpg.Connection, pipelines: ActiveSet, copy_events_min: int, text: str
) -> None:
    batch = [_with_balance(pipelines, number, "1") for number in range(10)]
    batch[7] = _with_balance(pipelines, 7, text)

    await new_store(connections, copy_events_min=copy_events_min).write(batch, processed_at=now())

    assert await statuses(owner) == {"SUCCESS": 9, "FAILED": 1}
    assert await causes(owner) == {"bank.accounts:22000"}
    assert len(await rows_of(owner, "accounts")) == 9


async def test_the_ledger_is_written_as_before_where_no_event_has_rows(
    connections: Connections, owner: asyncpg.Connection, pipelines: ActiveSet
) -> None:
    """The same statements: no transaction around one INSERT, no limit for locks."""
    store = new_store(connections)
    await write(store, pipelines, payment("a", 1, source="other"))
    seen: list[str] = []

    async with connections.taken() as connection:
        connection.add_query_logger(lambda query: seen.append(query.query))
    await write(store, pipelines, *(payment(number, 1, source="other") for number in range(10)))

    assert len(seen) == 1
    assert seen[0].startswith("WITH stored AS (INSERT INTO raw_events")
    assert not {"set_config", "pipeline_id", "subject"} & set(seen[0].replace("(", " ").replace(",", " ").split())
    assert await owner.fetchval("SELECT count(*) FROM raw_events") == 11


async def test_what_fails_after_the_ledger_takes_the_ledger_with_it(
    connections: Connections, owner: asyncpg.Connection, pipelines: ActiveSet
) -> None:
    """Such as a lost connection: neither the event nor its rows are there, and writing again stores both."""
    store = new_store(connections)
    await write(store, pipelines, payment("warm", 1))
    await owner.execute("BEGIN; LOCK TABLE rows.payments_1 IN ACCESS EXCLUSIVE MODE")
    task = asyncio.ensure_future(write(store, pipelines, payment("a", 1, parts=["x"])))
    assert await until_true(lambda: is_waiting(owner), 10)
    await owner.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'test'")
    with pytest.raises(UnavailableError):
        await task
    await owner.execute("ROLLBACK")

    assert await statuses(owner) == {"SUCCESS": 1}
    assert await rows_of(owner, "parts") == []
    await write(store, pipelines, payment("a", 1, parts=["x"]))
    assert await statuses(owner) == {"SUCCESS": 2}
    assert len(await rows_of(owner, "parts")) == 1
