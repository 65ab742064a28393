"""The client that follows the ledger, over a real gateway and a real PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from api_gateway.queries.feed import Feed
from api_gateway.queries.ledger import Ledger, open_reader
from api_gateway.service import server_config
from api_gateway.settings import GatewaySettings
from etlpay_client import ApiError
from etlpay_client.ledger import LedgerClient, LedgerRecord
from shared.auth.authenticator import Access
from shared.auth.keys import generate_key
from shared.runtime.ops import HttpServer
from shared.runtime.service import running
from shared.settings import PostgresPoolSettings
from support.feed import add, add_source
from support.gateway import run_gateway
from support.keys import write_keys
from support.servers import ROLE_PASSWORD, Servers

KEY = generate_key()


@pytest.fixture
async def feed(ledger: Servers, owner: asyncpg.Connection) -> AsyncIterator[Feed]:  # noqa: ARG001 - an empty ledger
    url = ledger.postgres_url("etlpay_reader")
    settings = PostgresPoolSettings(postgres_url=url, postgres_password=ROLE_PASSWORD, postgres_seconds_max=5)
    reader = Ledger(await open_reader(settings), page_bytes_max=10_000, seconds_max=10)
    yield Feed(reader)
    await reader.close()


@asynccontextmanager
async def serve(feed: Feed, access: Access, port: int = 0) -> AsyncIterator[int]:
    async with run_gateway(feed=feed, access=access) as gateway:
        config = server_config(gateway.app, GatewaySettings(http_port=port, _env_file=None))
        async with running(HttpServer(config)) as server:
            while server.port is None:  # noqa: ASYNC110 - the server tells nobody
                await asyncio.sleep(0.01)
            yield server.port


async def test_it_follows_over_an_outage_and_from_a_position_on(
    feed: Feed, owner: asyncpg.Connection, tmp_path: Path
) -> None:
    """Its key is for one source."""
    access = Access(write_keys(tmp_path / "keys.toml", (KEY, "shop", "own")))
    foreign, own = await add_source(owner, "foreign"), await add_source(owner, "own")
    seen: list[LedgerRecord] = []

    async def follow(client: LedgerClient, number: int, after: str | None = None) -> None:
        async for record in client.follow(after):
            seen.append(record)
            if len(seen) == number:
                return

    async with asyncio.TaskGroup() as group, asyncio.timeout(30):
        async with serve(feed, access) as port:
            client = LedgerClient(f"http://127.0.0.1:{port}", api_key=KEY)
            following = group.create_task(follow(client, 700))
            await add(owner, range(1, 601), own)
            await add(owner, range(601, 701), foreign)
            while len(seen) < 600:  # noqa: ASYNC110 - the list tells nobody
                await asyncio.sleep(0.05)
        await add(owner, range(701, 801), own)
        await asyncio.sleep(0.5)
        async with serve(feed, access, port):
            await following
            async with client:
                await follow(client, 701, after=seen[41].position)

    assert [record.id for record in seen[:700]] == [*range(1, 601), *range(701, 801)]
    assert seen[700].id == 43
    assert {record.source for record in seen} == {"own"}


async def test_a_ledger_that_was_restored_is_told(feed: Feed, owner: asyncpg.Connection) -> None:
    await add(owner, [1], await add_source(owner))
    async with serve(feed, Access(None)) as port, LedgerClient(f"http://127.0.0.1:{port}") as client:
        record = await anext(client.follow())
        await owner.execute("UPDATE feed SET stored_at = stored_at - interval '1 day'")

        with pytest.raises(ApiError) as raised:
            await anext(client.follow(record.position))

    assert raised.value.problem == "restored"
