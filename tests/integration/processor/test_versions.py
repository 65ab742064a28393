"""The active versions of pipelines, read from a real ledger, with their tables in it."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from processor.cache import CacheFeeder
from processor.ledger.database import Connections, check
from processor.ledger.holds import Holds
from processor.ledger.rows import Processed
from processor.ledger.store import Store
from processor.programs.active import ActivePipeline
from processor.programs.versions import Versions
from processor.stages.processing import Received, Stages
from processor.stages.transform import transform
from shared.cache import Cache
from shared.contracts.result import RecordStatus
from shared.pipelines.bundle import Bundle
from support.active_pipelines import KEYS, active, bundle_of
from support.events import event
from support.registered import ACTIVE, OFF, clear, create_tables, hold, register, set_state

SHOP = (
    'etlpay = 1\nname = "shop"\nsource = "shop-*"\n[[table]]\nname = "orders"\nmode = "latest"\nkey = ["id"]\n'
    'newest = "at"\n[table.columns]\nid = "/id"\nat = { from = "/at", type = "integer" }\n'
)
NEWER = SHOP + 'note = "/note"\n'
BANK = 'etlpay = 1\nname = "bank"\nsource = "bank"\n[[table]]\nname = "bookings"\n[table.columns]\nid = "/id"\n'
MASKED = SHOP.replace("[[table]]", '[mask]\n"/m" = "hmac"\n[[table]]')


@pytest.fixture
async def registry(owner: asyncpg.Connection) -> AsyncIterator[asyncpg.Connection]:
    """The owner's connection, on a ledger without pipelines."""
    await clear(owner)
    yield owner
    await clear(owner)


class Followed(Versions):
    """Versions with the holds of the ledger."""

    def __init__(self, connections: Connections) -> None:
        self.holds = Holds(connections)
        super().__init__(connections.taken, KEYS, held=lambda: self.holds.held)


async def follow(versions: Followed, connections: Connections) -> Followed:
    """Look at the ledger as the processor does every two seconds."""
    await versions.holds.look()
    await versions.follow((await check(connections)).pipelines)
    return versions


def versions_of(connections: Connections) -> Followed:
    return Followed(connections)


def running(versions: Versions) -> dict[str, int]:
    """Return the numbers of the versions that run, by name."""
    return {each.name: each.version for each in versions.active.pipelines if each.program is not None}


def processed_by(versions: Versions, source: str = "shop-1") -> Processed:
    return transform(event(b'{"id": "1", "at": 5}', source=source), versions.active)


async def test_an_active_version_makes_rows(registry: asyncpg.Connection, connections: Connections) -> None:
    await register(registry, "shop", bundle_of(SHOP), version=3)
    await create_tables(registry, active(SHOP))

    versions = await follow(versions_of(connections), connections)

    processed = processed_by(versions)
    assert running(versions) == {"shop": 3}
    assert processed.status is RecordStatus.SUCCESS
    assert [row.values for row in processed.rows] == [("1", 5)]
    assert processed_by(versions, "other").pipeline is None


@pytest.mark.parametrize("state", [2, OFF])
async def test_what_is_not_active_makes_none(
    registry: asyncpg.Connection, connections: Connections, state: int
) -> None:
    await register(registry, "shop", bundle_of(SHOP), state=state)

    versions = await follow(versions_of(connections), connections)

    assert versions.active.pipelines == ()


async def test_another_version_replaces_it_and_one_before_is_taken_back(
    registry: asyncpg.Connection, connections: Connections
) -> None:
    first = await register(registry, "shop", bundle_of(SHOP))
    await create_tables(registry, active(NEWER))
    versions = await follow(versions_of(connections), connections)
    assert running(versions) == {"shop": 1}

    await register(registry, "shop", bundle_of(NEWER), version=2)
    await follow(versions, connections)
    assert running(versions) == {"shop": 2}
    assert [row.values for row in processed_by(versions).rows] == [("1", 5, None)]

    await set_state(registry, "shop", first, ACTIVE)
    await follow(versions, connections)
    assert running(versions) == {"shop": 1}

    await set_state(registry, "shop", first, OFF)
    await follow(versions, connections)
    assert versions.active.pipelines == ()


async def test_a_generation_has_a_table_of_its_own(registry: asyncpg.Connection, connections: Connections) -> None:
    await register(registry, "shop", bundle_of(SHOP), generations={"orders": 2})
    await create_tables(registry, active(SHOP))

    versions = await follow(versions_of(connections), connections)

    assert versions.active.held == {"shop": "its table rows.orders_2 is missing"}


FAULTS = {
    "missing": ("DROP TABLE rows.orders_1", "its table rows.orders_1 is missing"),
    "insert": ("REVOKE INSERT ON rows.orders_1 FROM etlpay_processor", "a grant is missing"),
    "delete": ("REVOKE DELETE ON rows.orders_1 FROM etlpay_processor", "a grant is missing"),
    "schema": ("REVOKE USAGE ON SCHEMA rows FROM etlpay_processor", "a grant is missing"),
    "column": ("ALTER TABLE rows.orders_1 DROP COLUMN at", "has no column at of type bigint"),
    "type": ("ALTER TABLE rows.orders_1 ALTER COLUMN at TYPE text", "has no column at of type bigint"),
    "own": ("ALTER TABLE rows.orders_1 DROP COLUMN _gone", "has no column _gone of type boolean"),
    "view": (
        "ALTER TABLE rows.orders_1 RENAME TO x; CREATE VIEW rows.orders_1 AS SELECT * FROM rows.x",
        "its table rows.orders_1 is missing",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_tables_that_cannot_be_written_hold_a_pipeline_at_the_start_and_a_set_at_a_reload(
    registry: asyncpg.Connection, connections: Connections, fault: str
) -> None:
    change, reason = FAULTS[fault]
    await register(registry, "bank", bundle_of(BANK))
    number = await register(registry, "shop", bundle_of(SHOP))
    await create_tables(registry, active(SHOP))
    await create_tables(registry, active(BANK))
    before = await follow(versions_of(connections), connections)

    await registry.execute(change)
    try:
        after = await follow(versions_of(connections), connections)
        await set_state(registry, "shop", number, ACTIVE)
        await register(registry, "bank", bundle_of(BANK + "# newer\n"), version=2)
        await follow(before, connections)
    finally:
        await registry.execute("GRANT USAGE ON SCHEMA rows TO etlpay_processor")

    assert running(after) == {} if fault == "schema" else {"bank": 1}
    assert reason in after.active.held["shop"]
    assert processed_by(after).status is RecordStatus.HELD
    assert running(before) == {"bank": 1, "shop": 1}
    assert processed_by(before).status is RecordStatus.SUCCESS


@pytest.mark.parametrize(
    "bundle",
    [b"{}", bundle_of(MASKED, {"mask_key": "k-9"}), bundle_of(SHOP).content.replace(b"etlpay = 1", b"etlpay = 9")],
    ids=["format", "mask key", "file"],
)
async def test_a_version_that_cannot_be_run_leaves_the_old_set_and_is_held_at_a_start(
    registry: asyncpg.Connection, connections: Connections, bundle: Bundle | bytes
) -> None:
    await register(registry, "shop", bundle_of(SHOP))
    await create_tables(registry, active(SHOP))
    versions = await follow(versions_of(connections), connections)

    await register(registry, "shop", bundle, version=2)
    await follow(versions, connections)
    fresh = await follow(versions_of(connections), connections)

    assert running(versions) == {"shop": 1}
    assert running(fresh) == {}
    assert fresh.active.held.keys() == {"shop"}


async def test_a_pipeline_is_held_and_resumed(registry: asyncpg.Connection, connections: Connections) -> None:
    await register(registry, "shop", bundle_of(SHOP))
    await create_tables(registry, active(SHOP))
    await hold(registry, "shop")
    versions = await follow(versions_of(connections), connections)
    assert processed_by(versions).status is RecordStatus.HELD
    assert versions.active.held == {"shop": "a test"}

    await hold(registry, "shop", held=False)
    await follow(versions, connections)
    assert processed_by(versions).status is RecordStatus.SUCCESS


async def test_a_batch_is_stored_by_the_set_that_is_active(
    registry: asyncpg.Connection, connections: Connections
) -> None:
    pipeline: ActivePipeline = active(SHOP)
    await register(registry, "shop", bundle_of(SHOP))
    await create_tables(registry, pipeline)
    versions = await follow(versions_of(connections), connections)
    feeder = CacheFeeder(Cache(None, seconds=1))
    stages = Stages(Store(connections, copy_events_min=100), feeder, lambda: versions.active)

    await hold(registry, "shop")
    await follow(versions, connections)
    [outcome] = await stages.write([Received(event(b'{"id": "1", "at": 5}', source="shop-1"), acknowledged=False)])

    assert outcome.status is RecordStatus.HELD
    assert await registry.fetchval("SELECT status FROM processed_records") == RecordStatus.HELD
    assert await registry.fetchval("SELECT status FROM events") == "HELD"
