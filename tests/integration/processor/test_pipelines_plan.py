"""Plans and their application on a real PostgreSQL: every class of change, and never more than was said."""

import shutil
from pathlib import Path

import asyncpg
import pytest

from support.one_shot import OneShot, add_order
from support.servers import ROLE_PASSWORD, Servers
from support.typed_pipelines import SHOP

EXAMPLES = Path(__file__).resolve().parents[3] / "pipelines" / "examples"
KIOSK = SHOP.replace('"shop', '"kiosk').replace("orders", "kiosk_orders").replace("order_", "kiosk_order_")
KIOSK = KIOSK.replace('"lines"', '"kiosk_lines"').replace("shipments", "kiosk_shipments")


async def relations(owner: asyncpg.Connection) -> set[str]:
    rows = await owner.fetch(
        "SELECT nspname || '.' || relname AS name FROM pg_class JOIN pg_namespace AS space ON space.oid = relnamespace "
        "WHERE nspname IN ('rows', 'data') AND relkind IN ('r', 'v')"
    )
    return {row["name"] for row in rows}


async def definitions(owner: asyncpg.Connection) -> list[asyncpg.Record]:
    found: list[asyncpg.Record] = await owner.fetch(
        "SELECT table_schema, table_name, column_name, ordinal_position, data_type FROM information_schema.columns "
        "WHERE table_schema IN ('rows', 'data') ORDER BY 1, 2, 4"
    )
    return found


async def test_a_plan_writes_nothing_and_apply_does_what_it_said(one_shot: OneShot, owner: asyncpg.Connection) -> None:
    one_shot.write("shop", SHOP)

    plan = await one_shot.document("plan")

    assert plan["work"]
    assert await relations(owner) == set()
    assert await owner.fetchval("SELECT count(*) FROM pipelines") == 0
    await one_shot.ok("apply", "--plan", plan["plan"], "--by", "ana", "--label", "v1")
    assert await relations(owner) == {
        *(f"rows.{name}_1" for name in ("orders", "lines", "shipments")),
        *(f"data.{name}" for name in ("orders", "lines", "shipments", "orders_totals", "order_states", "order_sums")),
    }
    [version] = await owner.fetch("SELECT name, version, label, registered_by, generations::text FROM pipelines")
    assert tuple(version)[:4] == ("shop", 1, "v1", "ana")
    [state] = await owner.fetch("SELECT name, pipeline_id, state, pinned, set_by FROM pipeline_states")
    assert tuple(state) == ("shop", 1, 1, False, "ana")


async def test_applying_twice_does_nothing(one_shot: OneShot, owner: asyncpg.Connection) -> None:
    one_shot.write("shop", SHOP)
    await one_shot.ok("apply", "--yes")
    before = await definitions(owner)

    printed = await one_shot.ok("apply", "--yes")

    assert "applied: nothing" in printed
    assert "unchanged" in printed
    assert before == await definitions(owner)
    assert await owner.fetchval("SELECT count(*) FROM pipeline_states") == 1
    assert not (await one_shot.document("plan"))["work"]


async def test_a_column_is_added_under_a_view_that_others_stand_on(
    one_shot: OneShot, owner: asyncpg.Connection
) -> None:
    one_shot.write("shop", SHOP)
    await one_shot.ok("apply", "--yes")
    await add_order(owner, "a", event=1)
    await owner.execute("CREATE VIEW public.report AS SELECT id, amount FROM data.orders")
    try:
        one_shot.write(
            "shop", SHOP.replace("status   = {", 'who      = { from = "/who", required = true }\nstatus   = {')
        )
        printed = await one_shot.ok("apply", "--yes")

        assert "+ column orders.who  text" in printed
        assert [tuple(row) for row in await owner.fetch("SELECT id, who FROM data.orders")] == [("a", None)]
        assert await owner.fetchval("SELECT count(*) FROM report") == 1
        assert await owner.fetchval("SELECT max(version) FROM pipelines") == 2
    finally:
        await owner.execute("DROP VIEW public.report")


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ('key    = ["id"]\nnewest = "at"\n\n', 'key    = ["id", "parcel"]\nnewest = "at"\n\n'),
        ('amount   = { from = "/amount", type = "money", currency = "currency"', 'amount   = { type = "integer"'),
        ('rank   = "status"\n', ""),
        ('types  = ["order.*"]\nwhen', 'types  = ["order.paid"]\nwhen'),
    ],
)
async def test_a_structural_change_is_refused_and_changes_nothing(
    one_shot: OneShot, owner: asyncpg.Connection, before: str, now: str
) -> None:
    text = SHOP if "key" not in now else SHOP[: SHOP.index("[[join]]")] + SHOP[SHOP.index("[[total]]") :]
    one_shot.write("shop", text)
    await one_shot.ok("apply", "--yes")
    await add_order(owner, "a", event=1)
    there = await definitions(owner)
    changed = text.replace(before, now)
    assert changed != text
    one_shot.write("shop", changed)

    assert await one_shot.run("apply", "--yes") == 1

    assert "refused: " in one_shot.out
    assert ("is not built yet" in one_shot.out) or ("by hand" in one_shot.out)
    assert there == await definitions(owner)
    assert await owner.fetchval("SELECT count(*) FROM pipelines") == 1


async def test_what_somebody_dropped_is_found_and_made_again(one_shot: OneShot, owner: asyncpg.Connection) -> None:
    one_shot.write("shop", SHOP)
    await one_shot.ok("apply", "--yes")
    await owner.execute("DROP VIEW data.order_sums")
    await owner.execute("ALTER TABLE rows.shipments_1 DROP COLUMN parcel CASCADE")
    await owner.execute("DROP INDEX rows.orders_1_status")
    await add_order(owner, "a", event=1)

    plan = await one_shot.document("plan")

    [shop] = plan["pipelines"]
    assert shop["action"] == "repair"
    assert [f"{each['sign']} {each['what']}" for each in shop["changes"]] == [
        "+ index on orders (status)",
        "+ column shipments.parcel",
        "+ view shipments",
        "+ view order_states",
        "+ view order_sums",
    ]
    await one_shot.ok("apply", "--plan", plan["plan"])
    assert not (await one_shot.document("plan"))["work"]
    assert await owner.fetchval("SELECT count(*) FROM pipeline_states") == 1


async def test_a_stale_plan_is_refused_with_what_is_different(one_shot: OneShot, owner: asyncpg.Connection) -> None:
    one_shot.write("shop", SHOP)
    token = await one_shot.token()
    one_shot.write("shop", SHOP.replace('parcel = "/parcel"', 'parcel = "/parcel"\nweight = "/weight"'))

    assert await one_shot.run("apply", "--plan", token) == 1

    assert f"the plan {token} is stale" in one_shot.out
    assert "+ shop: + table shipments  4 columns, key (id), latest" in one_shot.out
    assert "- shop: + table shipments  3 columns, key (id), latest" in one_shot.out
    assert await relations(owner) == set()


async def test_a_bad_file_keeps_no_good_one_from_being_applied(one_shot: OneShot, owner: asyncpg.Connection) -> None:
    one_shot.write("shop", SHOP)
    one_shot.write("bad", "etlpay = 1\nname = 'bad'\n")

    assert await one_shot.run("apply", "--yes") == 1

    assert "bad  REFUSED" in one_shot.out
    assert "applied: shop" in one_shot.out
    assert await owner.fetchval("SELECT array_agg(name) FROM pipelines") == ["shop"]


async def test_a_file_whose_application_fails_changes_nothing_and_the_others_are_applied(
    one_shot: OneShot, owner: asyncpg.Connection
) -> None:
    one_shot.write("shop", SHOP)
    one_shot.write("kiosk", KIOSK)
    # A type of the name of a view that the plan does not see.
    await owner.execute("CREATE TYPE data.kiosk_lines AS ENUM ('x'); ALTER TYPE data.kiosk_lines OWNER TO etlpay_owner")
    try:
        assert await one_shot.run("apply", "--yes") == 1
    finally:
        await owner.execute("DROP TYPE data.kiosk_lines")

    assert "applied: shop" in one_shot.out
    assert "kiosk: PostgreSQL: " in one_shot.err
    assert not {name for name in await relations(owner) if "kiosk" in name}
    assert await owner.fetchval("SELECT array_agg(name) FROM pipelines") == ["shop"]


async def test_two_pipelines_of_one_source_or_table_are_refused(one_shot: OneShot, owner: asyncpg.Connection) -> None:
    one_shot.write("shop", SHOP)
    await one_shot.ok("apply", "--yes")
    one_shot.write("kiosk", SHOP.replace('"shop"', '"kiosk"'))

    assert await one_shot.run("apply", "--yes") == 1

    assert "kiosk  REFUSED" in one_shot.out
    assert "the source shop-* belongs to the pipeline shop too" in one_shot.out
    assert "the table or view orders belongs to the pipeline shop too" in one_shot.out
    assert "shop  unchanged" in one_shot.out
    assert await owner.fetchval("SELECT count(*) FROM pipelines") == 1


async def test_a_file_that_is_gone_is_told_and_nothing_is_dropped(one_shot: OneShot, owner: asyncpg.Connection) -> None:
    one_shot.write("shop", SHOP)
    await one_shot.ok("apply", "--yes")
    there = await relations(owner)
    (one_shot.folder / "shop.toml").unlink()

    printed = await one_shot.ok("apply", "--yes")

    assert "shop is active (version 1) and has no file here; it stays" in printed
    assert there == await relations(owner)


async def test_views_hide_tombstones_and_lines_of_former_events(one_shot: OneShot, owner: asyncpg.Connection) -> None:
    one_shot.write("shop", SHOP)
    await one_shot.ok("apply", "--yes")
    await add_order(owner, "a", event=2)
    await add_order(owner, "gone", event=3, gone=True)
    for event, sku in ((1, "former"), (2, "current")):
        await owner.execute("INSERT INTO rows.lines_1 VALUES ('a', $1, $2, 0, 1, now())", sku, event)
    await owner.execute("INSERT INTO rows.lines_1 VALUES ('gone', 'gone', 3, 0, 1, now())")
    await owner.execute("INSERT INTO rows.shipments_1 VALUES ('b', now(), 'p', 9, 0, 1, now(), 0, false)")

    assert await owner.fetchval("SELECT array_agg(id) FROM data.orders") == ["a"]
    assert await owner.fetchval("SELECT array_agg(sku) FROM data.lines") == ["current"]
    joined = await owner.fetch("SELECT id, status, parcel FROM data.order_states ORDER BY id")
    assert [tuple(row) for row in joined] == [("a", "open", None), ("b", None, "p")]
    [total] = await owner.fetch("SELECT status, rows, owed::text, rest::text, holds FROM data.order_sums")
    assert tuple(total) == ("open", 1, "10.99", "9.99", True)
    # A key is compared byte by byte, and joins with texts of any table.
    joining = (
        "SELECT count(*) FROM data.orders JOIN data.lines USING (id) JOIN (SELECT 'a'::text AS id) AS own USING (id)"
    )
    assert await owner.fetchval(joining) == 1


async def test_all_examples_apply_together_and_their_views_can_be_read_by_an_analyst(
    one_shot: OneShot, owner: asyncpg.Connection, ledger: Servers
) -> None:
    shutil.copytree(EXAMPLES, one_shot.folder, dirs_exist_ok=True)

    printed = await one_shot.ok("apply", "--yes")

    assert printed.count("new, version 1") == 9
    assert not (await one_shot.document("plan"))["work"]
    views = [name for name in await relations(owner) if name.startswith("data.")]
    await owner.execute(f"CREATE ROLE ana LOGIN PASSWORD '{ROLE_PASSWORD}' IN ROLE etlpay_analyst")
    analyst = await asyncpg.connect(ledger.postgres_url("ana", password=ROLE_PASSWORD))
    try:
        for view in views:
            assert await analyst.fetchval(f"SELECT count(*) FROM {view}") == 0  # noqa: S608 - the names above
        for table in ("raw_events", "rows.orders_1", "processed_records", "pipelines"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await analyst.fetch(f"SELECT * FROM {table}")  # noqa: S608 - the names above
    finally:
        await analyst.close()
        await owner.execute("DROP ROLE ana")
