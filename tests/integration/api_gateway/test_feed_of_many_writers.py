"""Whoever follows the feed while many transactions write, wait, commit and roll back sees every record."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count

import asyncpg
import pytest

from api_gateway.queries.feed import Feed
from api_gateway.queries.ledger import Ledger, open_reader
from processor.ledger.database import Connections
from processor.ledger.store import Store
from processor.programs.active import NO_PIPELINES
from processor.stages.transform import transform
from shared.auth.scopes import Scope
from shared.contracts.event import now
from shared.settings import PostgresPoolSettings
from support.events import event
from support.feed import Follower, add, add_source, order, position
from support.servers import ROLE_PASSWORD, Servers

BATCHES = 25


@asynccontextmanager
async def connected(ledger: Servers) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(ledger.owner_url)
    try:
        yield connection
    finally:
        await connection.close()


async def write_slowly(
    connection: asyncpg.Connection, take_id: Callable[[], int], sources: list[int], chance: random.Random
) -> None:
    """Transactions with several statements and pauses, one in five rolled back."""
    for _ in range(BATCHES):
        transaction = connection.transaction()
        await transaction.start()
        for _ in range(chance.randint(1, 3)):
            ids = [take_id() for _ in range(chance.randint(1, 5))]
            await asyncio.sleep(chance.choice((0, 0, 0.001, 0.02)))
            await add(connection, chance.sample(ids, len(ids)), chance.choice(sources))
        await asyncio.sleep(chance.choice((0, 0, 0.005, 0.05)))
        await (transaction.rollback() if chance.random() < 0.2 else transaction.commit())


async def write_batches(store: Store, name: str, chance: random.Random) -> None:
    """Batches as the processor stores them, some of whose events are stored already."""
    keys = count(1)
    for _ in range(BATCHES):
        sent = [event(key=f"{name}-{next(keys)}", source="a") for _ in range(chance.randint(1, 40))]
        known = [event(key=f"{name}-{n}", source="a") for n in range(1, chance.randint(1, 4))]
        await store.write([transform(each, NO_PIPELINES) for each in sent + known], processed_at=now())
        await asyncio.sleep(chance.choice((0, 0, 0.01)))


async def follow(follower: Follower, chance: random.Random, written: asyncio.Event) -> None:
    while not written.is_set():
        follower.limit = chance.choice((1, 3, 50))
        await follower.read_page()
        await asyncio.sleep(chance.choice((0, 0, 0.003)))
    await follower.read()


@pytest.mark.parametrize("seed", range(4))
async def test_everything_that_is_stored_is_seen_once_and_positions_only_grow(
    ledger: Servers, connections: Connections, owner: asyncpg.Connection, seed: int
) -> None:
    chance = random.Random(seed)  # noqa: S311 - a repeatable test
    sources = [await add_source(owner, name) for name in ("a", "b", "c")]
    # Ids beyond those of the stores, which two transactions take in turns.
    take_id = count(1_000_000).__next__
    url = ledger.postgres_url("etlpay_reader")
    settings = PostgresPoolSettings(postgres_url=url, postgres_password=ROLE_PASSWORD, postgres_seconds_max=5)
    reader = Ledger(await open_reader(settings), page_bytes_max=10_000, seconds_max=10)
    everything, some = Follower(Feed(reader)), Follower(Feed(reader), scope=Scope(("b", "c")))
    written = asyncio.Event()
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
        following = [group.create_task(follow(each, chance, written)) for each in (everything, some)]
        writers = [await stack.enter_async_context(connected(ledger)) for _ in range(3)]
        async with asyncio.TaskGroup() as writing:
            for number, connection in enumerate(writers):
                own_chance = random.Random(f"{seed} {number}")  # noqa: S311 - as above
                writing.create_task(write_slowly(connection, take_id, sources, own_chance))
            for name in ("x", "y"):
                store = Store(connections, copy_events_min=20)
                writing.create_task(write_batches(store, name, random.Random(f"{seed} {name}")))  # noqa: S311 - as above
        written.set()
        await asyncio.gather(*following)
    await reader.close()

    stored = await owner.fetch("SELECT id, source_id FROM processed_records")
    assert sorted(set(everything.ids)) == sorted(row["id"] for row in stored)
    assert sorted(set(some.ids)) == sorted(row["id"] for row in stored if row["source_id"] in sources[1:])
    for follower in (everything, some):
        places = [order(position(record.position)) for record in follower.seen]
        assert places == sorted(places)
