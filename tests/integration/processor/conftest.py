"""Fixtures for typed rows: two pipelines with empty tables."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from processor.ledger.database import Connections
from processor.programs.active import ActiveSet
from support.holding import Processor
from support.typed import BANK, SHOP, active_pipeline, create_tables

SHOP_PIPELINE = active_pipeline(SHOP)
BANK_PIPELINE = active_pipeline(BANK, number=2)


@pytest.fixture
async def pipelines(owner: asyncpg.Connection) -> AsyncIterator[ActiveSet]:
    """Two pipelines, `shop` and `bank`, whose tables are there and empty."""
    await create_tables(owner, SHOP_PIPELINE, BANK_PIPELINE)
    yield ActiveSet([SHOP_PIPELINE, BANK_PIPELINE])
    for table in (*SHOP_PIPELINE.tables, *BANK_PIPELINE.tables):
        await owner.execute(f'DROP TABLE IF EXISTS rows."{table.name}" CASCADE')


@pytest.fixture
def processor(connections: Connections, pipelines: ActiveSet) -> Processor:
    """A processor of these pipelines."""
    return Processor(connections, pipelines)
