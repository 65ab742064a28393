"""Fixtures for typed rows: two pipelines with empty tables."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from processor.programs.active import ActiveSet
from support.typed import BANK, SHOP, active_pipeline, create_tables

SHOP_PIPELINE = active_pipeline(SHOP)
BANK_PIPELINE = active_pipeline(BANK, number=2)


@pytest.fixture
async def pipelines(owner: asyncpg.Connection) -> AsyncIterator[ActiveSet]:
    """Two pipelines, `shop` and `bank`, whose tables are there and empty."""
    await create_tables(owner, SHOP_PIPELINE, BANK_PIPELINE)
    has_index = await owner.fetchval("SELECT to_regclass('processed_records_held') IS NOT NULL")
    if not has_index:
        await owner.execute(
            "CREATE INDEX processed_records_held ON processed_records (processed_at, id) WHERE status = 3"
        )
    yield ActiveSet([SHOP_PIPELINE, BANK_PIPELINE])
    for table in (*SHOP_PIPELINE.tables, *BANK_PIPELINE.tables):
        await owner.execute(f'DROP TABLE IF EXISTS rows."{table.name}" CASCADE')
    if not has_index:
        await owner.execute("DROP INDEX processed_records_held")
