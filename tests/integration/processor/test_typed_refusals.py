"""Typed tables that refuse rows, and typed tables that are broken: what the ledger keeps then."""

from collections import Counter
from collections.abc import AsyncIterator

import asyncpg
import pytest
from msgspec.structs import replace

from processor.ledger.database import Connections
from processor.ledger.rows import Processed
from processor.ledger.sqlstates import TYPED, Fault, fault_of
from processor.ledger.store import Store
from processor.programs.active import ActiveSet
from shared.contracts.errors import UnavailableError
from shared.contracts.event import Envelope, now
from shared.contracts.result import Recorded, RecordStatus, ResultKind
from support.typed import account, causes, payment, rows_of, statuses, transformed

SIZES = pytest.mark.parametrize("copy_events_min", [10_000, 1], ids=["inserted", "copied"])
RAISE = """
    CREATE FUNCTION refuse_for_test() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF NEW.{condition} THEN RAISE EXCEPTION 'no: %', NEW.id USING ERRCODE = '{state}'; END IF;
        RETURN NEW;
    END $$;
    GRANT EXECUTE ON FUNCTION refuse_for_test TO etlpay_processor;
    CREATE TRIGGER refuse BEFORE INSERT ON rows.payments_1 FOR EACH ROW EXECUTE FUNCTION refuse_for_test();
"""


@pytest.fixture
async def refusing(owner: asyncpg.Connection, pipelines: ActiveSet) -> AsyncIterator[ActiveSet]:
    """The pipelines; what a test adds to their tables is gone after it."""
    yield pipelines
    await owner.execute("DROP FUNCTION IF EXISTS refuse_for_test CASCADE")


async def write(store: Store, pipelines: ActiveSet, *events: Envelope) -> list[Recorded]:
    return await store.write([transformed(event, pipelines) for event in events], processed_at=now())


async def holds(owner: asyncpg.Connection) -> list[tuple[str, bool, str]]:
    rows = await owner.fetch("SELECT name, held, set_by, reason FROM pipeline_holds ORDER BY id")
    return [(row["name"], row["held"], f"{row['set_by']}: {row['reason']}") for row in rows]


@SIZES
async def test_a_constraint_that_refuses_one_row_of_a_thousand_fails_its_event_alone(
    connections: Connections, owner: asyncpg.Connection, refusing: ActiveSet, copy_events_min: int
) -> None:
    await owner.execute("ALTER TABLE rows.payments_1 ADD CONSTRAINT payments_small CHECK (amount < 100)")
    store = Store(connections, copy_events_min=copy_events_min)
    events = [payment(number, 1, amount="100.00" if number == 617 else "5.00", parts=["x"]) for number in range(1_000)]

    outcomes = await write(store, refusing, *events)

    assert Counter(outcome.kind for outcome in outcomes) == {ResultKind.STORED: 1_000}
    assert outcomes[617].status is RecordStatus.FAILED
    assert outcomes[617].errors[0].detail == "table payments refused its row (SQLSTATE 23514, payments_small)"
    assert await statuses(owner) == {"SUCCESS": 999, "FAILED": 1}
    assert await causes(owner) == {"shop.payments:23514.payments_small"}
    # All or nothing: it has no row in any table.
    assert [len(await rows_of(owner, table)) for table in ("payments", "payment_states", "parts")] == [999] * 3
    assert await holds(owner) == []


async def test_a_unique_constraint_of_the_users_is_named_in_the_cause(
    connections: Connections, owner: asyncpg.Connection, refusing: ActiveSet
) -> None:
    await owner.execute("ALTER TABLE rows.payments_1 ADD CONSTRAINT payments_order_key UNIQUE (amount)")

    await write(Store(connections, copy_events_min=100), refusing, payment("a", 1), payment("b", 1))

    assert await causes(owner) == {"shop.payments:23505.payments_order_key"}
    assert await statuses(owner) == {"SUCCESS": 1, "FAILED": 1}


@SIZES
async def test_an_event_whose_first_delivery_is_stored_is_never_refused(
    connections: Connections, owner: asyncpg.Connection, refusing: ActiveSet, copy_events_min: int
) -> None:
    """Its own row is what its unique constraint would meet. These come again in other bytes, with the same values."""
    await owner.execute("ALTER TABLE rows.parts_1 ADD CONSTRAINT parts_once UNIQUE (label)")
    store = Store(connections, copy_events_min=copy_events_min)
    events = [payment(number, 1, parts=[str(number)]) for number in range(30)]
    await write(store, refusing, *events)
    again = [replace(event, body=event.body.replace(b'"at":', b'"at": ')) for event in events]

    outcomes = await write(store, refusing, *again, payment("twice", 1, parts=["3"]))

    assert [outcome.kind for outcome in outcomes] == [ResultKind.DUPLICATE] * 30 + [ResultKind.STORED]
    assert outcomes[-1].status is RecordStatus.FAILED
    assert await causes(owner) == {"shop.parts:23505.parts_once"}


async def test_a_constraint_that_is_checked_at_the_commit_fails_its_event_alone(
    connections: Connections, owner: asyncpg.Connection, refusing: ActiveSet
) -> None:
    await owner.execute("ALTER TABLE rows.payments_1 ADD CONSTRAINT late UNIQUE (amount) DEFERRABLE INITIALLY DEFERRED")
    store = Store(connections, copy_events_min=100)
    events = [payment(number, 1, amount=f"{number}.00") for number in range(10)]

    await write(store, refusing, *events, payment("twice", 1, amount="3.00"))

    assert await statuses(owner) == {"SUCCESS": 10, "FAILED": 1}
    assert await causes(owner) == {"shop.payments:23505.late"}


async def test_a_constraint_that_refuses_every_row_holds_the_pipeline(
    connections: Connections, owner: asyncpg.Connection, refusing: ActiveSet
) -> None:
    await owner.execute("ALTER TABLE rows.payments_1 ADD CONSTRAINT payments_small CHECK (amount < 1)")
    events = [payment(number, 1, parts=["x"]) for number in range(500)]

    outcomes = await write(Store(connections, copy_events_min=100), refusing, *events, account("a", 1))

    assert Counter(outcome.status for outcome in outcomes) == {RecordStatus.HELD: 500, RecordStatus.SUCCESS: 1}
    assert await holds(owner) == [
        ("shop", True, "processor: rows.payments_1 refuses rows (SQLSTATE 23514, payments_small)")
    ]
    assert await causes(owner) == {"shop:held"}
    assert [len(await rows_of(owner, table)) for table in ("accounts", "payments", "parts")] == [1, 0, 0]


async def test_a_constraint_that_refuses_few_of_a_small_batch_holds_nothing(
    connections: Connections, owner: asyncpg.Connection, refusing: ActiveSet
) -> None:
    await owner.execute("ALTER TABLE rows.payments_1 ADD CONSTRAINT payments_small CHECK (amount < 10)")
    events = [payment(number, 1) for number in range(15)]

    await write(Store(connections, copy_events_min=100), refusing, *events, account("a", 1))

    assert await statuses(owner) == {"SUCCESS": 1, "FAILED": 15}
    assert await holds(owner) == []


async def test_a_trigger_of_the_users_that_raises_for_one_row_fails_its_event_alone(
    connections: Connections, owner: asyncpg.Connection, refusing: ActiveSet
) -> None:
    """It is a rule about a row, as a constraint is. What it says may hold a value, so nothing of it is kept."""
    await owner.execute(RAISE.format(condition="amount = 13", state="P0001"))
    store = Store(connections, copy_events_min=100)
    events = [payment(f"secret-{number}", 1, amount=f"{number}.00") for number in range(30)]

    await write(store, refusing, *events)

    assert await statuses(owner) == {"SUCCESS": 29, "FAILED": 1}
    assert await causes(owner) == {"shop.payments:P0001"}
    errors = await owner.fetchval("SELECT errors::text FROM events WHERE status = 'FAILED'")
    assert errors == '[{"detail": "table payments refused its row (SQLSTATE P0001)", "pointer": ""}]'


async def test_no_text_of_a_trigger_becomes_part_of_a_cause(
    connections: Connections, owner: asyncpg.Connection, refusing: ActiveSet
) -> None:
    text = RAISE.format(condition="amount = 13", state="23514").replace("ERRCODE", "CONSTRAINT = NEW.id, ERRCODE")
    await owner.execute(text)

    await write(Store(connections, copy_events_min=100), refusing, payment("a@b.example", 1, amount="13.00"))

    assert await causes(owner) == {"shop.payments:23514"}


TABLE_FAULTS = {
    "dropped": ("DROP TABLE rows.payments_1", "42P01"),
    "without a column": ("ALTER TABLE rows.payments_1 DROP COLUMN rate", "42703"),
    "of another type": ("ALTER TABLE rows.payments_1 ALTER COLUMN rate TYPE boolean USING false", "42804"),
    "revoked": ("REVOKE INSERT ON rows.payments_1 FROM etlpay_processor", "42501"),
    "without its key": ("ALTER TABLE rows.payments_1 DROP CONSTRAINT payments_1_pkey", "42P10"),
    "with a broken trigger": (RAISE.format(condition="nothing", state="P0001"), "42703"),
    "on a full disk": (RAISE.format(condition="amount > 0", state="53100"), "53100"),
    "on a broken disk": (RAISE.format(condition="amount > 0", state="58030"), "58030"),
    "slow": (RAISE.format(condition="amount > 0", state="57014"), "57014"),
}


@SIZES
@pytest.mark.parametrize("what", TABLE_FAULTS)
async def test_a_table_that_cannot_be_written_holds_its_pipeline_and_nothing_else(
    connections: Connections, owner: asyncpg.Connection, refusing: ActiveSet, copy_events_min: int, what: str
) -> None:
    statement, state = TABLE_FAULTS[what]
    store = Store(connections, copy_events_min=copy_events_min)
    # Its statements are prepared by then.
    await write(store, refusing, payment("before", 1), account("before", 1))
    await owner.execute(statement)

    outcomes = await write(
        store, refusing, payment("a", 1, parts=["x"]), account("a", 1), payment("b", 1, source="other")
    )

    assert [outcome.status.name for outcome in outcomes] == ["HELD", "SUCCESS", "SUCCESS"]
    assert {outcome.kind for outcome in outcomes} == {ResultKind.STORED}
    assert await holds(owner) == [("shop", True, f"processor: rows.payments_1 refuses rows (SQLSTATE {state})")]
    assert [len(await rows_of(owner, table)) for table in ("accounts", "payment_states", "parts")] == [2, 1, 0]
    assert not connections.gate.refused
    [held] = await owner.fetch("SELECT row_count, payload, cause FROM events WHERE status = 'HELD'")
    assert tuple(held) == (0, None, "shop:held")
    # The next batch does not try the table at all.
    [again] = await write(store, refusing, payment("c", 1))
    assert again.status is RecordStatus.HELD
    assert len(await holds(owner)) == 1


async def test_two_tables_of_two_pipelines_that_are_broken_hold_both(
    connections: Connections, owner: asyncpg.Connection, refusing: ActiveSet
) -> None:
    await owner.execute("DROP TABLE rows.payments_1; DROP TABLE rows.accounts_1")

    await write(Store(connections, copy_events_min=1), refusing, payment("a", 1), account("a", 1), payment("b", 1))

    assert await statuses(owner) == {"HELD": 3}
    assert [hold[0] for hold in await holds(owner)] == ["bank", "shop"]


@SIZES
async def test_a_value_that_the_ledger_refuses_fails_its_event_and_the_rows_of_the_others_are_written(
    connections: Connections, owner: asyncpg.Connection, refusing: ActiveSet, copy_events_min: int
) -> None:
    await owner.execute("ALTER TABLE rows.payments_1 ADD CONSTRAINT payments_small CHECK (amount < 100)")
    batch = [transformed(payment(number, 1, amount=f"{number}.00"), refusing) for number in (*range(40), 100)]
    refused = batch[17]
    # jsonb refuses this result; no program would have made it.
    batch[17] = Processed(
        refused.event, RecordStatus.SUCCESS, b'{"a": "\\u0000"}', pipeline=refused.pipeline, rows=refused.rows
    )
    batch.append(Processed(payment("x", 1, source="other"), RecordStatus.SUCCESS, b'{"a": "\\u0000"}'))

    await Store(connections, copy_events_min=copy_events_min).write(batch, processed_at=now())

    assert await statuses(owner) == {"SUCCESS": 39, "FAILED": 3}
    assert await causes(owner) == {"shop:refused.22P05", "-:refused.22P05", "shop.payments:23514.payments_small"}
    assert len(await rows_of(owner, "payments")) == 39


@pytest.mark.parametrize("state", ["40P01", "40001", "57P01", "08006"])
async def test_what_is_no_fault_of_the_table_is_tried_again(
    connections: Connections, owner: asyncpg.Connection, refusing: ActiveSet, state: str
) -> None:
    """A deadlock, a lost connection, a server that stops: an outage is an outage, and nothing is FAILED or held."""
    await owner.execute(RAISE.format(condition="amount > 0", state=state))
    store = Store(connections, copy_events_min=100)

    with pytest.raises(UnavailableError):
        await write(store, refusing, payment("a", 1))

    assert (await statuses(owner), await holds(owner)) == ({}, [])
    await owner.execute("DROP FUNCTION refuse_for_test CASCADE")
    await write(store, refusing, payment("a", 1))
    assert await statuses(owner) == {"SUCCESS": 1}


def test_only_values_tables_and_moments_are_faults_of_typed_rows() -> None:
    states = [state for state in asyncpg.PostgresError._message_map if isinstance(state, str)]
    faults = {state: fault_of(state, writing=TYPED) for state in states}

    assert set(faults.values()) == {Fault.EVENT, Fault.TABLE, Fault.MOMENT, Fault.OURS}
    assert {state for state, fault in faults.items() if fault is Fault.OURS} == {"57P04"}
    moments = {state[:2] for state, fault in faults.items() if fault is Fault.MOMENT}
    assert moments == {"08", "25", "26", "40", "42", "57"}
    assert faults["42P05"] is Fault.MOMENT
    assert faults["42P01"] is faults["55P03"] is faults["53100"] is faults["XX001"] is Fault.TABLE
