"""Whose fault an error is, state by state: each is raised by a real PostgreSQL while the store writes."""

from collections.abc import Sequence

import asyncpg
import pytest

from processor.ledger.database import Connections
from processor.ledger.sqlstates import LEDGER, Fault, LedgerRefusesError, RuleError, fault_of
from processor.ledger.store import Store
from processor.programs.active import NO_PIPELINES
from processor.stages.transform import transform
from shared.contracts.errors import PermanentError, UnavailableError
from shared.contracts.event import Envelope, now
from shared.contracts.result import Recorded, RecordStatus, ResultKind
from support.events import event
from support.raising import Raising

# Every state that the driver knows as an error; those of the classes 00, 01 and 02 are none.
STATES = sorted(
    state
    for state in asyncpg.PostgresError._message_map
    if isinstance(state, str) and state[:2] not in {"00", "01", "02", "03"}
)
POISON = b'{"poison": 1}'


def with_fault(*faults: Fault) -> list[str]:
    return [state for state in STATES if fault_of(state, writing=LEDGER) in faults]


async def write(store: Store, *events: Envelope) -> list[Recorded]:
    return await store.write([transform(each, NO_PIPELINES) for each in events], processed_at=now())


async def stored(owner: asyncpg.Connection) -> Sequence[str]:
    return [row[0] for row in await owner.fetch("SELECT idempotency_key FROM raw_events ORDER BY 1")]


def test_every_fault_has_its_states() -> None:
    assert len(STATES) > 200
    assert all(with_fault(fault) for fault in Fault if fault is not Fault.TABLE)


@pytest.mark.parametrize("copy_events_min", [1, 100])
async def test_what_is_the_events_fault_is_kept_as_failed_and_takes_no_other_event_with_it(
    connections: Connections, owner: asyncpg.Connection, raising: Raising, copy_events_min: int
) -> None:
    states = with_fault(Fault.EVENT)
    store = Store(connections, copy_events_min=copy_events_min)

    for state in states:
        await raising.tell(state, only_success=True)
        [outcome] = await write(store, event(key=state))
        assert (outcome.kind, outcome.status) == (ResultKind.STORED, RecordStatus.FAILED), state
        assert outcome.errors[0].detail == f"PostgreSQL refused it (SQLSTATE {state})"

    assert await stored(owner) == states
    assert {"22003", "22P05", "23502", "23514", "54000", "54001"} <= set(states)


async def test_what_is_the_moments_fault_stores_nothing_and_everything_when_it_has_passed(
    connections: Connections, owner: asyncpg.Connection, raising: Raising
) -> None:
    states = with_fault(Fault.MOMENT)
    store = Store(connections, copy_events_min=100)

    for state in states:
        await raising.tell(state)
        with pytest.raises(UnavailableError) as raised:
            await write(store, event(key=state), event(key=f"{state} too"))
        assert not isinstance(raised.value, LedgerRefusesError), state
        await raising.calm()
        outcomes = await write(store, event(key=state), event(key=f"{state} too"))
        assert [outcome.kind for outcome in outcomes] == [ResultKind.STORED] * 2, state

    assert len(await stored(owner)) == 2 * len(states)
    assert {"25P02", "25P03", "26000", "XX000", "57014", "08006", "40001", "53100", "55P03", "58030"} <= set(states)


async def test_what_is_our_fault_or_the_operators_is_held_and_never_kept_as_failed(
    connections: Connections, owner: asyncpg.Connection, raising: Raising
) -> None:
    states = with_fault(Fault.OURS, Fault.RULE)
    store = Store(connections, copy_events_min=100)

    for state in states:
        await raising.tell(state)
        with pytest.raises(LedgerRefusesError):
            await write(store, event(key=state), event(key=f"{state} too"))
        assert connections.gate.refused, state

    assert await stored(owner) == []
    assert {"P0001", "42501", "42P01", "0A000", "28P01", "2200H"} <= set(states)
    await raising.calm()
    await write(store, event(key="at last"))
    assert not connections.gate.refused
    assert await stored(owner) == ["at last"]


@pytest.mark.parametrize("state", ["23503", "23505"])
async def test_what_trying_again_does_not_repair_is_the_moments_fault(
    connections: Connections, owner: asyncpg.Connection, raising: Raising, state: str
) -> None:
    store = Store(connections, copy_events_min=100)
    await raising.tell(state)

    with pytest.raises(UnavailableError):
        await write(store, event(key="a"))

    await raising.calm()
    await write(store, event(key="a"))
    assert await stored(owner) == ["a"]


@pytest.mark.parametrize("state", ["P0001", "23P01", "38000"])
async def test_a_rule_that_refuses_one_event_keeps_none_of_the_others_from_being_stored(
    connections: Connections, owner: asyncpg.Connection, raising: Raising, state: str
) -> None:
    """Such as a trigger of a DBA's. It is not the event's fault, so it is not FAILED; the batch is told of it."""
    store = Store(connections, copy_events_min=2)
    await raising.tell(state, only_body=POISON)
    poison = event(POISON, key="poison")

    with pytest.raises(PermanentError, match=state):
        await write(store, *(event(key=str(number)) for number in range(20)), poison)

    assert await stored(owner) == sorted(map(str, range(20)))
    with pytest.raises(RuleError):
        await write(store, poison)
    await raising.calm()
    [outcome] = await write(store, poison)
    assert (outcome.kind, outcome.status) == (ResultKind.STORED, RecordStatus.SUCCESS)


async def test_a_rule_that_refuses_everything_is_not_asked_about_each_event(
    connections: Connections, raising: Raising, owner: asyncpg.Connection
) -> None:
    store = Store(connections, copy_events_min=1_000)
    await raising.tell("P0001")

    with pytest.raises(RuleError):
        await write(store, *(event(key=str(number)) for number in range(500)))

    assert await stored(owner) == []


@pytest.mark.parametrize(("state", "kept"), [("54000", UnavailableError), ("22021", PermanentError)])
async def test_what_is_refused_also_as_failed(
    connections: Connections, raising: Raising, state: str, kept: type[Exception]
) -> None:
    """Transaction ids that run out are no fault of an event, a text that PostgreSQL cannot hold is."""
    await raising.tell(state)

    with pytest.raises(kept, match=state):
        await write(Store(connections, copy_events_min=100), event(key="a"))


async def test_no_event_is_to_blame_for_a_schema_of_another_version(
    connections: Connections, owner: asyncpg.Connection
) -> None:
    """A later version adds a column that must be filled: all events would be parked until the watcher noticed."""
    revision = await owner.fetchval("SELECT version_num FROM alembic_version")
    store = Store(connections, copy_events_min=100)
    await write(store, event(key="before"))
    await owner.execute(
        "ALTER TABLE conflicts ADD COLUMN later integer; UPDATE alembic_version SET version_num = 'next'"
    )
    await owner.execute("ALTER TABLE raw_events ADD COLUMN later integer NOT NULL DEFAULT 0")
    await owner.execute("ALTER TABLE raw_events ALTER COLUMN later DROP DEFAULT")
    try:
        with pytest.raises(LedgerRefusesError, match="another version"):
            await write(store, event(key="a"))
    finally:
        await owner.execute("ALTER TABLE raw_events DROP COLUMN later; ALTER TABLE conflicts DROP COLUMN later")
        await owner.execute("UPDATE alembic_version SET version_num = $1", revision)

    await write(store, event(key="a"))
    assert await stored(owner) == ["a", "before"]


async def test_an_event_of_a_source_that_was_erased_meanwhile_is_stored_under_a_new_row(
    connections: Connections, owner: asyncpg.Connection
) -> None:
    store = Store(connections, copy_events_min=2)
    await write(store, event(key="a"), event(key="b"))
    await owner.execute("TRUNCATE processed_records, raw_events, conflicts, settlements")
    await owner.execute("DELETE FROM ingestion_sources")

    outcomes = [*await write(store, event(key="c")), *await write(store, event(key="d"), event(key="a"))]

    assert [outcome.kind for outcome in outcomes] == [ResultKind.STORED] * 3
    assert [row["name"] for row in await owner.fetch("SELECT name FROM ingestion_sources")] == ["test"]


async def test_ids_that_a_fail_over_gave_out_again_are_skipped(
    connections: Connections, owner: asyncpg.Connection
) -> None:
    """A replica may have the rows and not the newest value of the sequence."""
    store = Store(connections, copy_events_min=2)
    await write(store, *(event(key=str(number)) for number in range(2_500)))
    used = await owner.fetchrow("SELECT min(id) AS first, max(id) AS last FROM raw_events")
    await owner.execute(f"ALTER SEQUENCE ledger_id_blocks RESTART WITH {used['first'] // 1000 + 1}")
    after = Store(connections, copy_events_min=2)

    outcomes = [*await write(after, event(key="a"), event(key="b")), *await write(after, event(key="c"))]

    assert [outcome.kind for outcome in outcomes] == [ResultKind.STORED] * 3
    assert await owner.fetchval("SELECT count(*) FROM raw_events") == 2_503
    assert min(outcome.raw_event_id for outcome in outcomes) > used["last"]


async def test_a_session_that_a_pooler_confused_is_not_used_again(connections: Connections, raising: Raising) -> None:
    async def pid() -> int:
        async with connections.taken() as connection:
            return int(await connection.fetchval("SELECT pg_backend_pid()"))

    before = await pid()
    await raising.tell("26000")

    with pytest.raises(UnavailableError):
        await write(Store(connections, copy_events_min=100), event(key="a"))

    assert await pid() != before
