"""Pipelines over the API, on a real PostgreSQL, as the role that only reads."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from api_gateway.http.problems import HttpProblem
from api_gateway.queries.ledger import Ledger, open_reader
from api_gateway.queries.parameters import read_cursor
from api_gateway.queries.pipelines import PipelineCursor, Pipelines, VersionCursor
from shared.auth.scopes import EVERY_SOURCE, Scope
from shared.settings import PostgresPoolSettings
from support.active_pipelines import bundle_of
from support.registered import CANDIDATE, OFF, clear, hold, register, set_state
from support.servers import ROLE_PASSWORD, Servers

SHOP = (
    'etlpay = 1\nname = "shop"\nsource = "shop-*"\n[[table]]\nname = "orders"\nabout = "Orders."\nmode = "latest"\n'
    'key = ["id"]\nnewest = "at"\n[table.columns]\nid = "/id"\nat = { from = "/at", type = "timestamp" }\n'
    'gross = { from = "/gross", type = "money", currency = "currency" }\n'
    'currency = { from = "/c", type = "currency" }\n'
)
BANK = 'etlpay = 1\nname = "bank"\nsource = ["bank-a", "bank-b"]\n'


@pytest.fixture
async def registry(owner: asyncpg.Connection) -> AsyncIterator[asyncpg.Connection]:
    """The owner's connection, on a ledger without pipelines."""
    await clear(owner)
    yield owner
    await clear(owner)


@pytest.fixture
async def pipelines(ledger: Servers, registry: asyncpg.Connection) -> AsyncIterator[Pipelines]:  # noqa: ARG001 - no pipelines
    """The gateway's view of them."""
    url = ledger.postgres_url("etlpay_reader")
    settings = PostgresPoolSettings(postgres_url=url, postgres_password=ROLE_PASSWORD, postgres_seconds_max=5)
    reader = Ledger(await open_reader(settings), page_bytes_max=10_000, seconds_max=10)
    yield Pipelines(reader)
    await reader.close()


async def names(pipelines: Pipelines, *sources: str) -> list[str]:
    page = await pipelines.page(Scope(sources), after=None, limit=100)
    return [item.name for item in page.items]


async def test_a_pipeline_is_shown_with_its_state_sources_and_tables(
    registry: asyncpg.Connection, pipelines: Pipelines
) -> None:
    await register(registry, "shop", bundle_of(SHOP), version=4)

    shown = await pipelines.find("shop", EVERY_SOURCE)

    assert (shown.name, shown.version, shown.state, shown.pinned) == ("shop", 4, "active", False)
    assert (shown.sources, shown.held, shown.reason, shown.set_by) == (("shop-*",), None, "a test", "tests")
    [table] = shown.tables
    assert (table.name, table.view, table.mode, table.key, table.about) == (
        *("orders", "data.orders", "latest"),
        ("id",),
        "Orders.",
    )
    assert table.columns == {"id": "text", "at": "timestamptz", "gross": "numeric", "currency": "text"}
    assert (await pipelines.page(EVERY_SOURCE, after=None, limit=1)).items == [shown]


async def test_the_last_state_and_the_last_hold_count(registry: asyncpg.Connection, pipelines: Pipelines) -> None:
    first = await register(registry, "shop", bundle_of(SHOP))
    await register(registry, "shop", bundle_of(SHOP + "# newer\n"), version=2, state=CANDIDATE)
    await hold(registry, "shop")
    shown = await pipelines.find("shop", EVERY_SOURCE)
    assert (shown.version, shown.state) == (2, "candidate")
    assert shown.held is not None
    assert (shown.held.reason, shown.held.set_by) == ("a test", "tests")

    await set_state(registry, "shop", first, OFF)
    await hold(registry, "shop", held=False)
    shown = await pipelines.find("shop", EVERY_SOURCE)
    assert (shown.version, shown.state, shown.held) == (1, "off", None)


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (["*"], ["bank", "shop"]),
        (["bank-a"], ["bank"]),
        (["bank-c"], []),
        (["bank-*"], ["bank"]),
        (["shop-eu"], ["shop"]),
        (["shop-eu-*"], ["shop"]),
        (["s*"], ["shop"]),
        (["shop"], []),
        (["other", "bank-b", "shop-1"], ["bank", "shop"]),
    ],
)
async def test_a_key_is_told_of_the_pipelines_of_its_sources(
    registry: asyncpg.Connection, pipelines: Pipelines, key: list[str], expected: list[str]
) -> None:
    await register(registry, "shop", bundle_of(SHOP))
    await register(registry, "bank", bundle_of(BANK))

    assert await names(pipelines, *key) == expected
    for name in {"bank", "shop"} - set(expected):
        for question in (pipelines.find(name, Scope(key)), pipelines.version(name, 1, Scope(key))):
            with pytest.raises(HttpProblem):
                await question
        with pytest.raises(HttpProblem):
            await pipelines.versions(name, Scope(key), after=None, limit=1)


async def test_a_version_of_other_sources_is_not_shown(registry: asyncpg.Connection, pipelines: Pipelines) -> None:
    await register(registry, "shop", bundle_of(SHOP.replace("shop-*", "secret-*")))
    await register(registry, "shop", bundle_of(SHOP), version=2)
    scope = Scope(["shop-*"])

    assert (await pipelines.version("shop", 2, scope)).version == 2
    with pytest.raises(HttpProblem):
        await pipelines.version("shop", 1, scope)


async def test_pages_hold_every_pipeline_once(registry: asyncpg.Connection, pipelines: Pipelines) -> None:
    expected = [f"p{number}" for number in range(7)]
    for name in expected:
        await register(registry, name, bundle_of(BANK.replace('"bank"', f'"{name}"')))

    seen: list[str] = []
    after: PipelineCursor | None = None
    while True:
        page = await pipelines.page(Scope(["bank-a"]), after=after, limit=3)
        seen += [item.name for item in page.items]
        after = read_cursor(page.next, PipelineCursor)
        if after is None:
            break

    assert seen == expected


async def test_versions_come_newest_first_and_each_with_its_files(
    registry: asyncpg.Connection, pipelines: Pipelines
) -> None:
    texts = [SHOP + f"# {number}\n" for number in range(1, 6)]
    bundles = [bundle_of(text, {"mask_key": "k-1"}) for text in texts]
    for number, bundle in enumerate(bundles, 1):
        await register(registry, "shop", bundle, version=number)

    first = await pipelines.versions("shop", EVERY_SOURCE, after=None, limit=3)
    rest = await pipelines.versions("shop", EVERY_SOURCE, after=read_cursor(first.next, VersionCursor), limit=3)
    shown = await pipelines.version("shop", 2, EVERY_SOURCE)

    assert [item.version for item in (*first.items, *rest.items)] == [5, 4, 3, 2, 1]
    assert rest.next is None
    assert (shown.file, shown.files, shown.facts) == ("p.toml", {"p.toml": texts[1]}, {"mask_key": "k-1"})
    assert (shown.sha256, shown.label, shown.registered_by) == (bundles[1].sha256, "a1b2c3", "tests")


async def test_a_version_of_a_later_release_is_told_to_those_who_may_read_everything(
    registry: asyncpg.Connection, pipelines: Pipelines
) -> None:
    await register(registry, "shop", b'{"format": 9}')

    shown = await pipelines.find("shop", EVERY_SOURCE)

    assert (shown.sources, shown.tables) == ((), ())
    assert (await pipelines.version("shop", 1, EVERY_SOURCE)).files == {}
    assert await names(pipelines, "shop-*") == []


async def test_what_is_not_there_is_not_found(registry: asyncpg.Connection, pipelines: Pipelines) -> None:
    await register(registry, "shop", bundle_of(SHOP))

    for question in (pipelines.find("none", EVERY_SOURCE), pipelines.version("shop", 9, EVERY_SOURCE)):
        with pytest.raises(HttpProblem):
            await question
