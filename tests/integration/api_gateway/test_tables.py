"""Rows of typed tables over the API, on a real PostgreSQL, as the role that only reads."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import asyncpg
import msgspec
import pytest

from api_gateway.http.problems import HttpProblem
from api_gateway.queries.ledger import Ledger, open_reader
from api_gateway.queries.parameters import read_cursor
from api_gateway.queries.pipelines import Pipelines
from api_gateway.queries.tables import RowCursor, Tables
from shared.auth.scopes import EVERY_SOURCE, Scope
from shared.settings import PostgresPoolSettings
from support.active_pipelines import active, bundle_of
from support.registered import clear, create_tables, register
from support.servers import ROLE_PASSWORD, Servers

RULES = (
    'etlpay = 1\nname = "shop"\nsource = ["shop-*", "outlet"]\n'
    '[[table]]\nname = "orders"\nmode = "latest"\nkey = ["day", "number"]\nnewest = "at"\n[table.columns]\n'
    'day = "/day"\nnumber = { from = "/n", type = "integer" }\nat = { from = "/at", type = "timestamp" }\n'
    'gross = { from = "/gross", type = "decimal" }\npaid = { from = "/paid", type = "boolean" }\n'
    'more = { from = "/more", type = "json" }\n'
    '[[table]]\nname = "lines"\n[table.columns]\nsku = "/sku"\n'
)


@pytest.fixture
async def registry(owner: asyncpg.Connection) -> AsyncIterator[asyncpg.Connection]:
    """The owner's connection, on a ledger with a pipeline, its tables and their views."""
    await clear(owner)
    await register(owner, "shop", bundle_of(RULES))
    pipeline = active(RULES)
    await create_tables(owner, pipeline)
    async with owner.transaction():
        await owner.execute("SET LOCAL ROLE etlpay_pipelines")
        for table in pipeline.tables:
            view = f"CREATE VIEW data.{table.table.name} AS SELECT * FROM rows.{table.name}"  # noqa: S608 - names of our own
            await owner.execute(view)
    yield owner
    await clear(owner)


@pytest.fixture
async def tables(ledger: Servers, registry: asyncpg.Connection) -> AsyncIterator[Tables]:  # noqa: ARG001 - what it reads
    """The gateway's view of them."""
    url = ledger.postgres_url("etlpay_reader")
    settings = PostgresPoolSettings(postgres_url=url, postgres_password=ROLE_PASSWORD, postgres_seconds_max=5)
    reader = Ledger(await open_reader(settings), page_bytes_max=2_000, seconds_max=10)
    yield Tables(reader, Pipelines(reader))
    await reader.close()


async def add_order(owner: asyncpg.Connection, day: str, number: int, gross: str = "1.10", more: str = "null") -> None:
    await owner.execute(
        """
        INSERT INTO rows.orders_1
        VALUES ($1, $2, '2026-03-01T09:30:05.123456Z', $3::text::numeric, true, $4::text::jsonb,
                7, 0, 1, now(), 0, false)
        """,
        day, number, gross, more,
    )  # fmt: skip


async def pages(tables: Tables, limit: int = 3, **filters: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    after: RowCursor | None = None
    while True:
        page = await tables.page("orders", EVERY_SOURCE, filters, after=after, limit=limit)
        found += map(msgspec.json.decode, page.items)
        after = read_cursor(page.next, RowCursor)
        if after is None:
            return found


async def test_a_row_is_shown_without_a_binary_float(registry: asyncpg.Connection, tables: Tables) -> None:
    await add_order(registry, "d", 9_007_199_254_740_993, "0.1000000000000000055", '{"a": [1]}')

    [row] = await pages(tables)

    assert row.pop("_loaded_at")
    assert datetime.fromisoformat(row.pop("at")) == datetime(2026, 3, 1, 9, 30, 5, 123456, tzinfo=UTC)
    assert row == {
        "day": "d", "number": "9007199254740993",
        "gross": "0.1000000000000000055", "paid": True, "more": {"a": [1]}, "_event": "7", "_part": 0, "_pipeline": 1,
    }  # fmt: skip


async def test_pages_hold_every_row_once_in_the_order_of_the_key(registry: asyncpg.Connection, tables: Tables) -> None:
    keys = [(day, number) for day in ("a", "b", "c") for number in (2, 10, 3)]
    for day, number in keys:
        await add_order(registry, day, number)

    rows = await pages(tables)

    assert [(row["day"], int(row["number"])) for row in rows] == sorted(keys)


async def test_a_page_of_large_rows_ends_early_and_a_larger_row_is_a_page(
    registry: asyncpg.Connection, tables: Tables
) -> None:
    for number, size in enumerate((900, 900, 900, 5_000, 900)):
        await add_order(registry, "a", number, more=f'"{"x" * size}"')

    first = await tables.page("orders", EVERY_SOURCE, {}, after=None, limit=3)

    assert len(first.items) == 1
    assert [row["number"] for row in await pages(tables)] == ["0", "1", "2", "3", "4"]


async def test_rows_are_found_by_columns_of_the_key(registry: asyncpg.Connection, tables: Tables) -> None:
    for day, number in (("a", 1), ("a", 2), ("b", 1)):
        await add_order(registry, day, number)

    assert [row["number"] for row in await pages(tables, limit=1, day="a")] == ["1", "2"]
    assert [row["day"] for row in await pages(tables, number="1")] == ["a", "b"]
    assert await pages(tables, day="a'; DROP TABLE x; --") == []


@pytest.mark.parametrize("filters", [{"gross": "1"}, {"number": "many"}, {'day" OR true --': "1"}])
async def test_a_filter_that_is_none_is_refused(tables: Tables, filters: dict[str, str]) -> None:
    with pytest.raises(HttpProblem) as raised:
        await tables.page("orders", EVERY_SOURCE, filters, after=None, limit=1)

    assert raised.value.type.status == 422


async def test_a_cursor_of_another_table_is_refused(tables: Tables) -> None:
    with pytest.raises(HttpProblem):
        await tables.page("orders", EVERY_SOURCE, {}, after=RowCursor(("1",)), limit=1)


async def test_rows_of_an_append_table_are_in_the_order_of_events(registry: asyncpg.Connection, tables: Tables) -> None:
    for event, part in ((2, 0), (1, 1), (1, 0)):
        await registry.execute("INSERT INTO rows.lines_1 VALUES ('s', $1, $2, 1, now())", event, part)

    page = await tables.page("lines", EVERY_SOURCE, {}, after=None, limit=10)
    rows = [msgspec.json.decode(item) for item in page.items]

    assert [(row["_event"], row["_part"]) for row in rows] == [("1", 0), ("1", 1), ("2", 0)]


@pytest.mark.parametrize(
    ("key", "readable"),
    [
        (["*"], True),
        (["shop-*", "outlet"], True),
        (["s*", "outlet"], True),
        (["shop-*"], False),
        (["shop-eu-*", "outlet"], False),
        (["shop-1", "outlet"], False),
    ],
)
async def test_a_table_is_for_keys_of_all_sources_of_its_pipeline(
    tables: Tables, key: list[str], *, readable: bool
) -> None:
    question = tables.page("orders", Scope(key), {}, after=None, limit=1)
    if readable:
        assert (await question).items == []
        return
    with pytest.raises(HttpProblem):
        await question


async def test_a_table_whose_view_is_not_there_yet_is_not_found(registry: asyncpg.Connection, tables: Tables) -> None:
    await registry.execute("DROP VIEW data.orders")

    for name in ("orders", "none"):
        with pytest.raises(HttpProblem) as raised:
            await tables.page(name, EVERY_SOURCE, {}, after=None, limit=1)
        assert raised.value.type.status == 404
