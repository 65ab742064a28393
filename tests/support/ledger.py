"""Fixtures: a migrated ledger on a real PostgreSQL, empty for every test. A plugin of tests/conftest.py."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from processor.ledger.database import Connections
from processor.migrate import migrate
from processor.settings import MigrationSettings, ProcessorSettings
from support.raising import Raising
from support.servers import ROLE_PASSWORD, Servers


@pytest.fixture(scope="session")
def ledger(servers: Servers) -> Servers:
    """The servers, with the schema and the roles."""
    asyncio.run(
        migrate(
            MigrationSettings(
                postgres_url=servers.postgres_url("etlpay_owner"),
                postgres_password=servers.owner_password,
                processor_password=ROLE_PASSWORD,
                reader_password=ROLE_PASSWORD,
                pipelines_password=ROLE_PASSWORD,
            )
        )
    )
    return servers


@pytest.fixture
async def owner(ledger: Servers) -> AsyncIterator[asyncpg.Connection]:
    """A connection of the owner's, on a ledger without rows, as if it had never had any."""
    connection = await asyncpg.connect(ledger.owner_url)
    await connection.execute(
        "TRUNCATE ingestion_sources, raw_events, processed_records, conflicts, settlements, receipts, "
        "receipt_series, receipt_gaps, unconfirmed, causes, pipelines, pipeline_states, pipeline_holds, feed, drifts "
        "RESTART IDENTITY CASCADE"
    )
    await connection.execute("UPDATE upgrades SET had_events = false")
    yield connection
    await connection.close()


@pytest.fixture
def processor_settings(ledger: Servers) -> ProcessorSettings:
    """Settings of a processor on these servers."""
    return ProcessorSettings(
        postgres_url=ledger.postgres_url("etlpay_processor"),
        postgres_password=ROLE_PASSWORD,
        amqp_url=f"amqp://operator@{ledger.amqp_host}:{ledger.amqp_port}/",
        amqp_password=ledger.amqp_password,
        redis_url=ledger.redis_url,
        processing_port=0,
        ops_port=0,
    )


@pytest.fixture
async def connections(
    processor_settings: ProcessorSettings,
    owner: asyncpg.Connection,  # noqa: ARG001 - an empty ledger
) -> AsyncIterator[Connections]:
    """The processor's connections, on a ledger without rows."""
    connections = await Connections.open(processor_settings, name="test")
    yield connections
    await connections.close()


@pytest.fixture
async def raising(owner: asyncpg.Connection) -> AsyncIterator[Raising]:
    """What makes the ledger raise an SQLSTATE."""
    async with Raising(owner) as tables:
        yield tables
