"""Pipelines with their typed tables on a real PostgreSQL, events for them, and what the tables hold."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import asyncpg
import msgspec

from processor.ledger.rows import Processed
from processor.programs.active import ActivePipeline, ActiveSet
from processor.stages.pipeline import attributes_of
from shared.contracts.event import Channel, Envelope, identify, now
from shared.contracts.result import RecordStatus
from shared.pipelines.compiling import compile_pipeline
from shared.pipelines.program import Made
from shared.pipelines.typed_tables import ROWS_SCHEMA, TypedTable, quoted, typed_tables
from support.pipeline_texts import pipeline_of

# Payments in their latest state, with their history, and the parts of each payment.
SHOP = """
etlpay = 1
name   = "shop"
source = "shop*"

[[table]]
name   = "payments"
mode   = "latest"
key    = ["id"]
newest = "at"
rank   = "status"
gone   = { "/gone" = true }

[table.columns]
id       = "/id"
at       = { from = "/at", type = "integer" }
status   = { from = "/status", required = true, values = ["open", "paid", "back"] }
amount   = { from = "/amount", type = "money", currency = "currency", required = true }
currency = { from = "/currency", type = "currency" }
rate     = { from = "/rate", type = "decimal" }
paid_at  = { from = "/paid_at", type = "timestamp" }
extra    = { from = "/extra", type = "json" }

[[table]]
name = "payment_states"
like = "payments"

[[table]]
name = "parts"
at   = "/parts/*"
of   = { table = "payments", on = ["id"] }

[table.columns]
id    = { from = "/id", required = true }
part  = { from = "@index", type = "integer" }
label = { from = "label", required = true }
"""
# One table of another pipeline, whose name comes before all of the above.
BANK = """
etlpay = 1
name   = "bank"
source = "bank"

[[table]]
name   = "accounts"
mode   = "latest"
key    = ["iban"]
newest = "on"

[table.columns]
iban    = "/iban"
on      = { from = "/on", type = "date" }
balance = { from = "/balance", type = "decimal", required = true }
"""

_decode = msgspec.json.Decoder(float_hook=Decimal).decode


def active_pipeline(text: str, *, number: int = 1, version: int = 1) -> ActivePipeline:
    """Return a version of a pipeline file, compiled."""
    pipeline = pipeline_of(text)
    return ActivePipeline(
        id=number,
        name=pipeline.name,
        version=version,
        sources=pipeline.sources,
        program=compile_pipeline(pipeline),
        tables=typed_tables(pipeline, {}),
    )


def create_statement(table: TypedTable) -> str:
    """Return a simple statement that creates a typed table."""
    columns = [
        f"{quoted(column.name)} {column.sql_type}{' NOT NULL' if column.required else ''}"
        for column in (*table.columns, *table.added)
    ]
    key = ", ".join(map(quoted, table.key))
    return f"CREATE TABLE {ROWS_SCHEMA}.{quoted(table.name)} ({', '.join(columns)}, PRIMARY KEY ({key}))"


async def create_tables(owner: asyncpg.Connection, *pipelines: ActivePipeline) -> None:
    """Create the tables of pipelines, empty, as the role that owns them."""
    await owner.execute("SET ROLE etlpay_pipelines")
    for table in (table for pipeline in pipelines for table in pipeline.tables):
        await owner.execute(f"DROP TABLE IF EXISTS {ROWS_SCHEMA}.{quoted(table.name)} CASCADE")
        await owner.execute(create_statement(table))
    await owner.execute("RESET ROLE")
    for pipeline in pipelines:
        await owner.execute(
            "INSERT INTO pipelines (id, name, version, sha256, content, generations, registered_by) "
            "OVERRIDING SYSTEM VALUE VALUES ($1, $2, $3, $4, '', '{}', 'test')",
            pipeline.id,
            pipeline.name,
            pipeline.version,
            pipeline.name.encode(),
        )


def transformed(event: Envelope, pipelines: ActiveSet) -> Processed:
    """Return the event with the record and the rows that its pipeline makes of it."""
    pipeline = pipelines.of(event.source)
    if pipeline is None:
        return Processed(event, RecordStatus.SUCCESS)
    if pipeline.program is None or pipeline.name in pipelines.held:
        return Processed(event, RecordStatus.HELD, pipeline=pipeline, cause=f"{pipeline.name}:held")
    made: Made = pipeline.program.run(_decode(event.body), attributes_of(event))
    if made.problems:
        return Processed(event, RecordStatus.FAILED, pipeline=pipeline, cause=made.problems[0].cause)
    return Processed(event, RecordStatus.SUCCESS, pipeline=pipeline, rows=made.rows, gone=made.gone)


def event_of(body: dict[str, Any], *, key: str = "", source: str = "shop") -> Envelope:
    """Return an event with a JSON body. Decimals become numbers with their digits."""
    return Envelope(
        event_id=identify(source, key),
        source=source,
        channel=Channel.HTTP,
        received_at=now(),
        body=msgspec.json.Encoder(decimal_format="number").encode(body),
        idempotency_key=key,
    )


def payment(  # noqa: PLR0913 - the columns
    number: int | str,
    at: int,
    *,
    status: str = "open",
    amount: str = "10.99",
    currency: str = "EUR",
    key: str = "",
    source: str = "shop",
    parts: Sequence[str] = (),
    **more: Any,  # noqa: ANN401 - any JSON
) -> Envelope:
    """Return an event of a payment in a state."""
    body = {"id": str(number), "at": at, "status": status, "amount": amount, "currency": currency}
    labels = [{"label": label} for label in parts]
    return event_of({**body, "parts": labels, **more}, key=key or f"{number}/{at}/{status}", source=source)


def payment_gone(number: int | str, at: int) -> Envelope:
    """Return an event that says that a payment is gone."""
    return event_of({"id": str(number), "at": at, "gone": True}, key=f"{number}/{at}/gone")


def account(number: int | str, day: int, balance: str = "1.5", *, key: str = "") -> Envelope:
    """Return an event of an account on a day."""
    on = (datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=day)).date().isoformat()
    return event_of({"iban": str(number), "on": on, "balance": balance}, key=key or f"{number}/{day}", source="bank")


async def rows_of(owner: asyncpg.Connection, table: str, columns: str = "*", order: str = "1") -> list[tuple[Any, ...]]:
    """Return the rows of the first generation of a typed table."""
    statement = f'SELECT {columns} FROM rows."{table}_1" ORDER BY {order}'  # noqa: S608 - names of the tests' own
    return [tuple(row) for row in await owner.fetch(statement)]


async def statuses(owner: asyncpg.Connection) -> dict[str, int]:
    """Return how many events have which status: that of their current record."""
    rows = await owner.fetch("SELECT status, count(*) AS number FROM events GROUP BY 1")
    return {row["status"]: row["number"] for row in rows}


async def causes(owner: asyncpg.Connection) -> set[str]:
    """Return the causes of the current records."""
    rows: Iterable[Any] = await owner.fetch("SELECT DISTINCT cause FROM events WHERE cause IS NOT NULL")
    return {row["cause"] for row in rows}


async def is_waiting(owner: asyncpg.Connection) -> bool:
    """Tell whether a session of the processor waits for a lock."""
    return bool(
        await owner.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE usename = 'etlpay_processor' AND wait_event_type = 'Lock'"
        )
    )
