"""The client reads typed tables from a real gateway on a real PostgreSQL, to the last digit."""

from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from api_gateway.queries.ledger import Ledger, open_reader
from api_gateway.queries.pipelines import Pipelines
from api_gateway.queries.tables import Tables, table_router
from api_gateway.service import server_config
from api_gateway.settings import GatewaySettings
from etlpay_client.errors import ApiError
from etlpay_client.http import HttpClient
from etlpay_client.tables import read_polars, read_rows
from shared.runtime.ops import HttpServer
from shared.runtime.service import running
from shared.settings import PostgresPoolSettings
from support.active_pipelines import active, bundle_of
from support.gateway import run_gateway
from support.registered import clear, create_tables, register
from support.servers import ROLE_PASSWORD, Servers
from support.waiting import until_true

RULES = (
    'etlpay = 1\nname = "shop"\nsource = "shop"\n'
    '[[table]]\nname = "orders"\nmode = "latest"\nkey = ["day", "number"]\nnewest = "at"\n[table.columns]\n'
    'day = { from = "/day", type = "date" }\nnumber = { from = "/n", type = "integer" }\n'
    'at = { from = "/at", type = "timestamp" }\ngross = { from = "/gross", type = "decimal" }\n'
    'paid = { from = "/paid", type = "boolean" }\nwho = { from = "/who", type = "uuid" }\n'
    'more = { from = "/more", type = "json" }\nnote = "/note"\n'
)
DAY = date(2026, 3, 1)
AT = datetime(2026, 3, 1, 9, 30, 5, 123456, tzinfo=UTC)
WHO = UUID("0190b5a0-0000-7000-8000-000000000000")
MORE = {"a": [Decimal("0.1"), 123456789012345678901234567890, None, "é"]}


@pytest.fixture
async def registry(owner: asyncpg.Connection) -> AsyncIterator[asyncpg.Connection]:
    """The owner's connection, on a ledger with a pipeline, its table and its view."""
    await clear(owner)
    await register(owner, "shop", bundle_of(RULES))
    await create_tables(owner, active(RULES))
    async with owner.transaction():
        await owner.execute("SET LOCAL ROLE etlpay_pipelines")
        await owner.execute("CREATE VIEW data.orders AS SELECT * FROM rows.orders_1")
    yield owner
    await clear(owner)


@pytest.fixture
async def http(ledger: Servers, registry: asyncpg.Connection) -> AsyncIterator[HttpClient]:  # noqa: ARG001 - what it reads
    """A client of a gateway that serves these tables."""
    url = ledger.postgres_url("etlpay_reader")
    settings = PostgresPoolSettings(postgres_url=url, postgres_password=ROLE_PASSWORD, postgres_seconds_max=5)
    reader = Ledger(await open_reader(settings), page_bytes_max=100_000, seconds_max=10)
    tables = Tables(reader, Pipelines(reader))
    async with (
        run_gateway(queries=[table_router(tables)]) as gateway,
        running(HttpServer(server_config(gateway.app, GatewaySettings(http_port=0)))) as server,
    ):
        assert await until_true(lambda: server.port is not None, 10)
        async with HttpClient(f"http://127.0.0.1:{server.port}", api_key="") as client:
            yield client
    await reader.close()


async def add(owner: asyncpg.Connection, number: int, gross: str | None, **more: object) -> None:
    values = {"at": AT, "paid": True, "who": WHO, "more": None, "note": None} | more
    await owner.execute(
        """
        INSERT INTO rows.orders_1
        VALUES ($1, $2, $3, $4::text::numeric, $5, $6, $7::text::jsonb, $8, 7, 0, 1, '2026-03-01T09:30:05.123456Z', 0,
                false)
        """,
        DAY, number, values["at"], gross, values["paid"], values["who"], values["more"], values["note"],
    )  # fmt: skip


async def rows_of(http: HttpClient, key: dict[str, object] | None = None, rows_a_page: int = 2) -> list[dict[str, Any]]:
    return [row async for row in read_rows(http, "orders", key, rows_a_page=rows_a_page)]


async def test_a_row_is_what_postgresql_holds(registry: asyncpg.Connection, http: HttpClient) -> None:
    await add(registry, 2**53 + 1, "1" + "0" * 30, more='{"a": [0.1, 123456789012345678901234567890, null, "é"]}')
    await add(registry, 2**53 + 2, None, at=None, paid=None, who=None)

    full, empty = await rows_of(http)

    given = {"_event": 7, "_part": 0, "_pipeline": 1, "_loaded_at": AT, "day": DAY}
    assert full == given | {
        "number": 2**53 + 1, "at": AT, "gross": Decimal(10) ** 30, "paid": True, "who": WHO, "more": MORE, "note": None,
    }  # fmt: skip
    assert {name for name, value in empty.items() if value is None} == {"at", "gross", "paid", "who", "more", "note"}


async def test_amounts_are_exact_over_many_pages_and_in_a_frame(registry: asyncpg.Connection, http: HttpClient) -> None:
    amounts = ["0.01", "-0.00", "1.10", "1000000000000000000000000000000", "0.1000000", "-12.34", "0"]
    for number, amount in enumerate(amounts):
        await add(registry, number, amount)

    rows, frame = await rows_of(http), await read_polars(http, "orders")

    assert [str(row["gross"]) for row in rows] == [
        amount.removeprefix("-") if amount == "-0.00" else amount for amount in amounts
    ]
    assert frame["gross"].to_list() == [row["gross"] for row in rows]
    # Python's own sum would round to 28 digits.
    assert frame["gross"].sum() == Decimal("999999999999999999999999999988.87")
    assert frame["at"].to_list() == [AT] * len(amounts)


async def test_rows_of_a_key_are_found_by_python_values(registry: asyncpg.Connection, http: HttpClient) -> None:
    for number in (1, 2, 10):
        await add(registry, number, "1")

    assert [row["number"] for row in await rows_of(http, {"day": DAY, "number": 10})] == [10]
    assert await rows_of(http, {"day": date(2020, 1, 1)}) == []


async def test_an_empty_table_and_one_that_is_not_there(http: HttpClient) -> None:
    frame = await read_polars(http, "orders")

    assert (len(frame), frame.columns[:4]) == (0, ["day", "number", "at", "gross"])
    with pytest.raises(ApiError, match="404 not-found"):
        [row async for row in read_rows(http, "none")]
    with pytest.raises(ApiError, match="422 invalid"):
        await rows_of(http, {"gross": Decimal(1)})
