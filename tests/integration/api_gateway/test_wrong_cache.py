"""Whatever the cache holds, the gateway answers what the ledger says; after a restore too."""

import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import asyncpg
import msgspec
import pytest
import redis.asyncio

from api_gateway.http.problems import HttpProblem
from api_gateway.queries.events import Events
from api_gateway.queries.ledger import Ledger, open_reader
from api_gateway.queries.records import RECORD, Records
from api_gateway.queries.sources import Sources
from etlpay_cli.local.postgres import _find_programs
from processor.cache import CacheFeeder
from processor.ledger.database import Connections, check
from processor.ledger.store import Store
from processor.settings import ProcessorSettings
from processor.stages.processing import Stages, checked
from shared.auth.scopes import EVERY_SOURCE
from shared.cache import Cache
from shared.contracts.event import Envelope
from shared.contracts.record import Record
from shared.runtime.service import running
from shared.settings import PostgresPoolSettings, RedisSettings
from support.events import event
from support.servers import ROLE_PASSWORD, Servers

KEY = "the key of these tests"


class Gateway(NamedTuple):
    """The queries of a gateway, and what they read."""

    sources: Sources
    records: Records
    events: Events
    ledger: Ledger
    cache: Cache

    async def look(self) -> None:
        """Find out which ledger it is, as the gateway does every second."""
        self.cache.turn_to(await self.ledger.epoch())

    async def answers(self, *events: Envelope) -> list[object]:
        """Ask every question about these events, and about one that never was."""
        found: list[object] = [await self.sources.page(EVERY_SOURCE, after=None, limit=1_000)]
        for each in events:
            state = await self.events.find(each.event_id, EVERY_SOURCE)
            assert isinstance(state.record, Record)
            found += [state, await self.records.find(state.record.id, EVERY_SOURCE)]
        for question in (self.events.find(UUID(int=7), EVERY_SOURCE), self.records.find(7_000_000, EVERY_SOURCE)):
            with pytest.raises(HttpProblem):
                await question
        return found


def connect(servers: Servers) -> Cache:
    return Cache.connect(RedisSettings(redis_url=servers.redis_url, redis_seconds_max=2, cache_key=KEY))


@pytest.fixture
async def gateway(ledger: Servers, owner: asyncpg.Connection, server: redis.asyncio.Redis) -> AsyncIterator[Gateway]:  # noqa: ARG001 - both are empty
    """A gateway on an empty ledger with an empty cache."""
    settings = PostgresPoolSettings(postgres_url=ledger.postgres_url("etlpay_reader"), postgres_password=ROLE_PASSWORD)
    reader = Ledger(await open_reader(settings), page_bytes_max=10_000, seconds_max=10)
    cache = connect(ledger)
    records = Records(reader, cache)
    gateway = Gateway(Sources(reader), records, Events(records, cache), reader, cache)
    await gateway.look()
    yield gateway
    await cache.close()
    await reader.close()


@pytest.fixture
async def server(ledger: Servers) -> AsyncIterator[redis.asyncio.Redis]:
    """A client of the cache's own, which is empty."""
    client = redis.asyncio.Redis.from_url(ledger.redis_url)
    await client.flushall()
    yield client
    await client.aclose()


@asynccontextmanager
async def processor(servers: Servers, connections: Connections) -> AsyncIterator[Stages]:
    """What a processor stores with, and tells the cache with."""
    cache = connect(servers)
    cache.turn_to((await check(connections)).epoch)
    async with running(CacheFeeder(cache)) as feeder:
        yield Stages(Store(connections, copy_events_min=100), feeder)
    await cache.close()


async def test_the_gateway_reads_what_the_processor_has_cached(
    ledger: Servers, connections: Connections, gateway: Gateway, owner: asyncpg.Connection
) -> None:
    sent = event(key="a")
    async with processor(ledger, connections) as stages:
        [stored] = await checked(stages.write, acknowledged=False)([sent])

    found = await gateway.cache.record(stored.record_id)

    assert found == await gateway.cache.record_of_event(sent.event_id)
    assert found == await gateway.records.read(RECORD, stored.record_id)
    assert await owner.fetchval("SELECT count(*) FROM raw_events") == 1


@pytest.mark.parametrize("tampering", ["garbage", "another kind", "forged", "swapped", "brought back"])
async def test_whatever_the_cache_holds_the_answers_are_the_ledgers(
    ledger: Servers, connections: Connections, gateway: Gateway, server: redis.asyncio.Redis, tampering: str
) -> None:
    sent = [event(b'{"amount": 1.10}', key="a"), event(b'{"amount": 2.20}', key="b")]
    async with processor(ledger, connections) as stages:
        await checked(stages.write, acknowledged=False)(sent)
    await gateway.cache.put_queued([(UUID(int=6), "shop")])
    truth = await gateway.answers(*sent)

    await tamper(server, tampering)

    assert truth == await gateway.answers(*sent)
    assert truth == await gateway.answers(*sent), "what the cache has learned of the ledger since"


async def tamper(server: redis.asyncio.Redis, how: str) -> None:
    """Do to every key what a wrong cache might."""
    names = sorted(await server.keys("etlpay:*"))
    entries = [entry for entry in await server.mget(names) if isinstance(entry, bytes)]
    forged = msgspec.json.encode({"id": 7_000_000, "result_payload": {"amount": 1000000}})
    for name, entry, other in zip(names, entries, entries[1:] + entries[:1], strict=True):
        await server.delete(name)
        match how:
            case "garbage":
                await server.set(name, b"\xff{")
            case "another kind":
                await server.hset(name, mapping={"a": "b"})
            case "forged":
                await server.set(name, entry.replace(b"0", b"9"))
            case "swapped":
                await server.set(name, other)
            case "brought back":
                await server.set(name, entry)
    for name in ("etlpay:record:7000000", f"etlpay:event:{UUID(int=7)}"):
        await server.set(name, entries[0] if how == "swapped" else forged)
    await server.set("etlpay:sources", b"[]")


async def test_after_a_restore_no_record_of_before_is_answered(
    ledger: Servers, processor_settings: ProcessorSettings, gateway: Gateway, tmp_path: Path
) -> None:
    """Ids of records are given again, and the cache still holds what they named."""
    dump = tmp_path / "ledger.dump"
    run_tool(ledger, "pg_dump", "--format", "custom", "--file", str(dump), "etlpay")
    lost, stored_after = event(b'{"amount": 1}', key="lost"), event(b'{"amount": 2}', key="stored after")

    before = await store_as_a_processor(ledger, processor_settings, lost)
    assert (await gateway.records.find(before, EVERY_SOURCE)).event_id == lost.event_id
    run_tool(ledger, "pg_restore", "--clean", "--if-exists", "--single-transaction", "--dbname", "etlpay", str(dump))
    await gateway.look()
    after = await store_as_a_processor(ledger, processor_settings, stored_after)

    assert before == after, "the id was not given again: nothing is tried"
    assert (await gateway.records.find(after, EVERY_SOURCE)).event_id == stored_after.event_id
    with pytest.raises(HttpProblem):
        await gateway.events.find(lost.event_id, EVERY_SOURCE)


async def store_as_a_processor(servers: Servers, settings: ProcessorSettings, sent: Envelope) -> int:
    """Store an event as a processor does that is started anew; return the id of its record."""
    connections = await Connections.open(settings, name="test")
    async with processor(servers, connections) as stages:
        [stored] = await checked(stages.write, acknowledged=False)([sent])
    await connections.close()
    return stored.record_id


def run_tool(servers: Servers, name: str, *arguments: str) -> None:
    """Run one of PostgreSQL's own programs as the owner."""
    address = ("-h", servers.postgres_host, "-p", str(servers.postgres_port), "-U", "etlpay_owner")
    subprocess.run(
        (_find_programs() / name, *address, *arguments),
        env=dict(os.environ) | {"PGPASSWORD": servers.owner_password},  # noqa: TID251 - a child's environment
        check=True,
        capture_output=True,
        timeout=60,
    )
