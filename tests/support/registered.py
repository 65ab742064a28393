"""Registers versions of pipelines in a ledger, as its owner: what `apply` does, for tests."""

import asyncpg
import msgspec

from processor.programs.active import ActivePipeline
from shared.pipelines.bundle import Bundle
from shared.pipelines.typed_tables import ROWS_SCHEMA, quoted

ACTIVE, CANDIDATE, OFF = 1, 2, 3


async def clear(owner: asyncpg.Connection) -> None:
    """Leave no pipeline, and no typed table."""
    await owner.execute("TRUNCATE pipelines, pipeline_states, pipeline_holds, causes, drifts RESTART IDENTITY CASCADE")
    for row in await owner.fetch("SELECT tablename FROM pg_tables WHERE schemaname = $1", ROWS_SCHEMA):
        await owner.execute(f"DROP TABLE {ROWS_SCHEMA}.{quoted(row['tablename'])} CASCADE")


async def register(  # noqa: PLR0913 - the columns of a version
    owner: asyncpg.Connection,
    name: str,
    bundle: Bundle | bytes,
    *,
    version: int = 1,
    state: int = ACTIVE,
    generations: dict[str, int] | None = None,
) -> int:
    """Register a version and set its state; return its id."""
    content = bundle if isinstance(bundle, bytes) else bundle.content
    number: int = await owner.fetchval(
        """
        INSERT INTO pipelines (name, version, sha256, content, generations, label, registered_by)
        VALUES ($1, $2, sha256($3), $3, $4::text::jsonb, 'a1b2c3', 'tests') RETURNING id
        """,
        name, version, content, msgspec.json.encode(generations or {}).decode(),
    )  # fmt: skip
    await set_state(owner, name, number, state)
    return number


async def set_state(owner: asyncpg.Connection, name: str, number: int, state: int) -> None:
    """Set which version of a pipeline counts, and its state."""
    await owner.execute(
        "INSERT INTO pipeline_states (name, pipeline_id, state, set_by, reason) VALUES ($1, $2, $3, 'tests', 'a test')",
        name, number, state,
    )  # fmt: skip


async def hold(owner: asyncpg.Connection, name: str, *, held: bool = True) -> None:
    """Hold a pipeline, or end that."""
    await owner.execute(
        "INSERT INTO pipeline_holds (name, held, set_by, reason) VALUES ($1, $2, 'tests', 'a test')", name, held
    )


async def create_tables(owner: asyncpg.Connection, pipeline: ActivePipeline) -> None:
    """Create the typed tables of a pipeline, as the role that owns them."""
    async with owner.transaction():
        await owner.execute("SET LOCAL ROLE etlpay_pipelines")
        for table in pipeline.tables:
            columns = ", ".join(
                f"{quoted(column.name)} {column.sql_type}{' NOT NULL' if column.required else ''}"
                for column in (*table.columns, *table.added)
            )
            await owner.execute(f"CREATE TABLE {ROWS_SCHEMA}.{quoted(table.name)} ({columns})")
