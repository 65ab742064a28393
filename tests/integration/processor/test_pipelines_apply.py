"""Applying pipelines beside those who write, and what people decide about versions."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime

import asyncpg
import msgspec
import pytest

from support.one_shot import MASK_KEY, OneShot, add_order
from support.servers import ROLE_PASSWORD, Servers
from support.typed_pipelines import SHOP

WIDER = SHOP.replace("status   = {", 'who      = "/who"\nstatus   = {')
INDEXED = SHOP.replace('index  = [["status"]]', 'index  = [["status"], ["currency"]]')
NOTED = SHOP + "# the same, said again\n"
EVENT = """
    INSERT INTO raw_events (id, event_id, source_id, channel, received_at, content_type, body)
    VALUES ($1, gen_random_uuid(), 1, 1, now(), 'application/json', $2)
"""
RECORD = """
    INSERT INTO processed_records (id, raw_event_id, source_id, channel, status, processed_at)
    VALUES ($1, $1, 1, 1, 1, $2)
"""


@pytest.fixture
async def processor(ledger: Servers) -> AsyncIterator[asyncpg.Connection]:
    """A connection of the processor's role."""
    url = ledger.postgres_url("etlpay_processor", password=ROLE_PASSWORD)
    connection = await asyncpg.connect(url, server_settings={"application_name": "a writer"})
    yield connection
    await connection.close()


async def add_events(owner: asyncpg.Connection, *bodies: Mapping[str, object]) -> None:
    """Store events of the source shop-1."""
    await owner.execute("INSERT INTO ingestion_sources (name) VALUES ('shop-1')")
    for number, body in enumerate(bodies, 1):
        await owner.execute(EVENT, number, msgspec.json.encode(body))
        await owner.execute(RECORD, number, datetime.now(UTC))


async def states(owner: asyncpg.Connection) -> list[tuple[object, ...]]:
    rows = await owner.fetch(
        "SELECT version, state, pinned FROM pipeline_states LEFT JOIN pipelines ON pipelines.id = pipeline_id "
        "ORDER BY pipeline_states.id"
    )
    return [tuple(row) for row in rows]


async def test_a_row_shows_nothing_of_an_event_that_lost(
    one_shot: OneShot, owner: asyncpg.Connection, processor: asyncpg.Connection
) -> None:
    """A version that runs again, or that still runs elsewhere, knows nothing of a column that a later one added."""

    async def who() -> list[str | None]:
        return [row["who"] for row in await owner.fetch("SELECT who FROM data.orders ORDER BY id")]

    one_shot.write("shop", SHOP)
    await one_shot.ok("apply", "--yes")
    one_shot.write("shop", WIDER)
    await one_shot.ok("apply", "--yes")
    first, second = [row["id"] for row in await owner.fetch("SELECT id FROM pipelines ORDER BY version")]
    for key, number in (("o1", second), ("o2", second)):
        await add_order(processor, key, event=1)
        await processor.execute("UPDATE rows.orders_1 SET who = 'Ana', _pipeline = $2 WHERE id = $1", key, number)

    # As the first version does it: it sets the columns that it has.
    await processor.execute(
        "UPDATE rows.orders_1 SET status = 'paid', _event = 2, _pipeline = $1 WHERE id = 'o1'", first
    )

    assert await who() == [None, "Ana"]
    one_shot.write("shop", SHOP + "# without the column again\n")
    await one_shot.ok("apply", "--yes")
    assert await who() == [None, "Ana"]
    third = await owner.fetchval("SELECT max(id) FROM pipelines")
    await processor.execute("UPDATE rows.orders_1 SET _event = 3, _pipeline = $1 WHERE id = 'o2'", third)
    assert await who() == [None, None]
    assert "unchanged" in await one_shot.ok("plan")


async def test_a_lock_of_another_session_is_waited_for_told_and_keeps_no_writer(
    one_shot: OneShot, owner: asyncpg.Connection, processor: asyncpg.Connection
) -> None:
    one_shot.write("shop", SHOP)
    await one_shot.ok("apply", "--yes")
    one_shot.write("shop", WIDER)
    async with asyncio.TaskGroup() as group, asyncio.timeout(60):
        async with owner.transaction():
            await owner.execute("LOCK TABLE rows.orders_1 IN ACCESS SHARE MODE")
            applying = group.create_task(one_shot.run("apply", "--yes"))
            for number in range(20):
                await add_order(processor, f"o{number}", event=number)
                await asyncio.sleep(0.05)
            assert not applying.done()
        assert await applying == 0

    assert "waiting for" in one_shot.err
    assert f"(pid {owner.get_server_pid()})" in one_shot.err
    assert await owner.fetchval("SELECT count(*) FROM data.orders WHERE who IS NULL") == 20


async def test_a_lock_that_is_held_for_too_long_is_told_and_nothing_is_done(
    one_shot: OneShot, owner: asyncpg.Connection
) -> None:
    one_shot.write("shop", SHOP)
    await one_shot.ok("apply", "--yes")
    one_shot.write("shop", WIDER)
    one_shot.settings = one_shot.settings.model_copy(update={"pipelines_seconds_max": 0.5})
    async with owner.transaction():
        await owner.execute("LOCK TABLE rows.orders_1 IN ACCESS SHARE MODE")
        assert await one_shot.run("apply", "--yes") == 1

    assert "in use for too long, by" in one_shot.err
    assert f"(pid {owner.get_server_pid()})" in one_shot.err
    assert await states(owner) == [(1, 1, False)]


ASKED_FOR_A_NAME = """
    SELECT count(*) FROM pg_stat_activity
    WHERE application_name = 'etlpay-pipelines' AND state = 'idle' AND query LIKE '%usename::text, ''a session''%'
"""


async def test_two_that_change_pipelines_are_one_after_the_other(
    one_shot: OneShot, owner: asyncpg.Connection, ledger: Servers
) -> None:
    one_shot.write("shop", SHOP)
    url = ledger.postgres_url("etlpay_pipelines", password=ROLE_PASSWORD)
    other = await asyncpg.connect(url, server_settings={"application_name": "somebody"})
    await other.execute("SELECT pg_advisory_lock(7203577892)")
    async with asyncio.TaskGroup() as group, asyncio.timeout(60):
        applying = group.create_task(one_shot.run("apply", "--yes"))
        while not await owner.fetchval(ASKED_FOR_A_NAME):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.05)
        assert not applying.done()
        await other.close()
        assert await applying == 0

    assert "waiting for somebody (pid " in one_shot.err


async def test_an_apply_in_the_middle_of_writes_loses_and_refuses_none(
    one_shot: OneShot, owner: asyncpg.Connection, processor: asyncpg.Connection
) -> None:
    one_shot.write("shop", SHOP)
    await one_shot.ok("apply", "--yes")
    written = 0
    ended = asyncio.Event()

    async def write() -> None:
        nonlocal written
        while not ended.is_set():
            async with processor.transaction():
                await add_order(processor, f"o{written}", event=written)
            written += 1

    async with asyncio.TaskGroup() as group, asyncio.timeout(60):
        group.create_task(write())
        await asyncio.sleep(0.1)
        both = INDEXED.replace("status   = {", 'who      = "/who"\nstatus   = {')
        for text in (WIDER, both):
            one_shot.write("shop", text)
            assert await one_shot.run("apply", "--yes") == 0, one_shot.err
        ended.set()

    assert written
    assert await owner.fetchval("SELECT count(*) FROM data.orders") == written
    assert await owner.fetchval("SELECT indisvalid FROM pg_index WHERE indexrelid = 'rows.orders_1_currency'::regclass")


async def test_an_index_whose_building_was_cut_off_is_built_again(one_shot: OneShot, owner: asyncpg.Connection) -> None:
    one_shot.write("shop", SHOP)
    await one_shot.ok("apply", "--yes")
    await add_order(owner, "a", event=1)
    await owner.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'rows.orders_1_status'::regclass")

    printed = await one_shot.ok("apply", "--yes")

    assert "concurrently, again: its building was cut off" in printed
    assert await owner.fetchval("SELECT indisvalid FROM pg_index WHERE indexrelid = 'rows.orders_1_status'::regclass")


async def test_a_version_that_somebody_chose_stays_until_the_file_says_something_new(
    one_shot: OneShot, owner: asyncpg.Connection
) -> None:
    for text in (SHOP, WIDER):
        one_shot.write("shop", text)
        await one_shot.ok("apply", "--yes")
    await one_shot.ok("activate", "shop@1", "--reason", "wrong names", "--by", "ana")

    kept = await one_shot.ok("apply", "--yes")
    assert "stays at version 1, chosen by ana" in kept
    assert "applied: nothing" in kept
    assert (await states(owner))[-1] == (1, 1, True)

    one_shot.write("shop", WIDER + "# mended\n")
    new = await one_shot.ok("apply", "--yes")
    assert "version 1 was chosen by ana (wrong names); this content is new, so it is activated" in new
    assert (await states(owner))[-1] == (3, 1, False)


async def test_the_content_of_an_older_version_is_that_version(one_shot: OneShot, owner: asyncpg.Connection) -> None:
    for text in (SHOP, WIDER, SHOP):
        one_shot.write("shop", text)
        await one_shot.ok("apply", "--yes")

    assert await states(owner) == [(1, 1, False), (2, 1, False), (1, 1, False)]
    assert await owner.fetchval("SELECT count(*) FROM pipelines") == 2


async def test_off_stays_off_and_its_tables_stay(one_shot: OneShot, owner: asyncpg.Connection) -> None:
    one_shot.write("shop", SHOP)
    await one_shot.ok("apply", "--yes")
    await one_shot.ok("off", "shop", "--reason", "sold")

    assert "stays off" in await one_shot.ok("apply", "--yes")
    assert (await states(owner))[-1] == (None, 3, True)
    assert await owner.fetchval("SELECT count(*) FROM data.orders") == 0
    assert "shop  off, pinned" in await one_shot.ok("list")
    await one_shot.ok("activate", "shop@1", "--reason", "bought back")
    assert (await states(owner))[-1] == (1, 1, True)


async def test_hold_and_resume_are_kept_with_their_reasons(one_shot: OneShot, owner: asyncpg.Connection) -> None:
    one_shot.write("shop", SHOP)
    await one_shot.ok("apply", "--yes")

    for command in ("hold", "hold", "resume", "resume"):
        await one_shot.ok(command, "shop", "--reason", command, "--by", "ana")
        if command == "hold":
            assert "HELD by ana: hold" in await one_shot.ok("list")

    rows = await owner.fetch("SELECT held, set_by, reason FROM pipeline_holds ORDER BY id")
    assert [tuple(row) for row in rows] == [(True, "ana", "hold"), (False, "ana", "resume")]


@pytest.mark.parametrize("command", ["off", "hold", "resume"])
async def test_a_pipeline_that_is_not_known_cannot_be_decided_about(one_shot: OneShot, command: str) -> None:
    assert await one_shot.run(command, "nobody", "--reason", "x") == 1
    assert "no pipeline nobody is registered" in one_shot.err


async def test_a_version_is_activated_only_where_it_can_run(one_shot: OneShot, owner: asyncpg.Connection) -> None:
    one_shot.write("shop", SHOP)
    await one_shot.ok("apply", "--yes")
    one_shot.write("shop", WIDER)
    await one_shot.ok("apply", "--yes")

    assert await one_shot.run("activate", "shop@7", "--reason", "x") == 1
    assert "shop has no version 7; there are 1, 2" in one_shot.err
    await owner.execute("ALTER TABLE rows.orders_1 DROP COLUMN amount CASCADE")
    assert await one_shot.run("activate", "shop@1", "--reason", "x") == 1
    assert "its tables are not as version 1 needs them" in one_shot.err
    assert len(await states(owner)) == 2


async def test_a_version_of_another_mask_key_is_not_activated(one_shot: OneShot) -> None:
    one_shot.write("shop", SHOP + '[mask]\n"/mail" = "hmac"\n')
    await one_shot.ok("apply", "--yes")
    await one_shot.ok("off", "shop", "--reason", "x")
    one_shot.settings = type(one_shot.settings)(**{**one_shot.settings.model_dump(), "mask_key": "another"})

    assert await one_shot.run("activate", "shop@1", "--reason", "x") == 1
    assert "which is not the one here" in one_shot.err


async def test_an_administrator_can_run_the_statements_and_have_them_verified(
    one_shot: OneShot, owner: asyncpg.Connection
) -> None:
    one_shot.write("shop", SHOP)
    script = await one_shot.ok("plan", "--sql")

    assert await one_shot.run("apply", "--yes", "--verify-only") == 1
    assert "shop: is not there yet: table lines; table orders;" in one_shot.err
    assert await states(owner) == []
    await owner.execute(script)
    await owner.execute("RESET ROLE; RESET lock_timeout")
    await one_shot.ok("apply", "--yes", "--verify-only")
    assert await states(owner) == [(1, 1, False)]


async def test_what_belongs_to_another_role_is_refused(one_shot: OneShot, owner: asyncpg.Connection) -> None:
    one_shot.write("shop", SHOP)
    script = await one_shot.ok("plan", "--sql")
    await owner.execute(script.replace("SET ROLE etlpay_pipelines;", ""))

    assert await one_shot.run("apply", "--yes", "--verify-only") == 1
    assert "belongs to another role" in one_shot.out


async def test_a_plan_says_how_many_of_how_many_stored_events_would_differ(
    one_shot: OneShot, owner: asyncpg.Connection
) -> None:
    order = {
        "id": "a",
        "at": "2026-03-01T09:30:00Z",
        "status": "open",
        "amount": "1.00",
        "currency": "EUR",
        "live": True,
    }
    orders = [{**order, "id": str(number), "who": "x" if number < 3 else None} for number in range(10)]
    await add_events(owner, *orders, {**order, "status": "lost"})
    one_shot.write("shop", SHOP.replace('types  = ["order.*"]\n', ""))

    new = await one_shot.ok("plan")
    assert "of the newest 11 stored events of its sources, 1 would fail" in new
    assert "shipments.parcel: filled in 0 of 10 rows; is its place right?" in new
    await one_shot.ok("apply", "--yes")
    one_shot.write("shop", WIDER.replace('types  = ["order.*"]\n', "").replace('"paid"]', '"paid", "lost"]'))

    printed = await one_shot.ok("plan")

    assert "of the newest 11 stored events of its sources, 4 would differ in orders" in printed
    assert "0 would now fail, and 1 no longer" in printed
    assert await owner.fetchval("SELECT count(*) FROM rows.orders_1") == 0


async def test_only_the_newest_events_are_looked_at(one_shot: OneShot, owner: asyncpg.Connection) -> None:
    await add_events(owner, *({"id": str(number)} for number in range(10)))
    one_shot.settings = one_shot.settings.model_copy(update={"pipelines_events_max": 4})
    one_shot.write("shop", SHOP)

    assert "of the newest 4 stored events" in await one_shot.ok("plan")


async def test_a_version_is_shown_with_its_files(one_shot: OneShot) -> None:
    one_shot.write("shop", SHOP)
    await one_shot.ok("apply", "--yes", "--label", "abc123")

    shown = await one_shot.document("show", "shop")

    assert (shown["version"], shown["label"], shown["files"]["shop.toml"]) == (1, "abc123", SHOP)
    assert "currencies" in shown["facts"]
    assert 'key    = ["id"]' in await one_shot.ok("show", "shop@1")
    assert await one_shot.run("show", "shop@2") == 1


def test_as_a_process_it_ends_with_0_1_and_2(one_shot: OneShot) -> None:
    secret = one_shot.folder.parent / "password"
    secret.write_text(ROLE_PASSWORD)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ETLPAY_")} | {  # noqa: TID251 - a child's environment
        "ETLPAY_POSTGRES_URL": one_shot.settings.postgres_url,
        "ETLPAY_POSTGRES_PASSWORD_FILE": str(secret),
        "ETLPAY_PIPELINES_FOLDER": str(one_shot.folder),
        "ETLPAY_MASK_KEY": MASK_KEY,
        "ETLPAY_UNKNOWN": "is told in no log on standard output",
    }

    def ended(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = (sys.executable, "-m", "processor.pipelines", *arguments)
        return subprocess.run(
            command, env=environment, cwd=one_shot.folder, capture_output=True, text=True, check=False, timeout=60
        )

    one_shot.write("shop", SHOP)
    planned = ended("plan", "--json")
    assert planned.returncode == 0
    assert msgspec.json.decode(planned.stdout)["work"] is True
    assert ended("plan", "nothing-here").returncode == 2
    assert ended("apply").returncode == 2
    one_shot.write("bad", "etlpay = 2\n")
    assert ended("apply", "--yes").returncode == 1
    secret.write_text("wrong")
    refused = ended("list")
    assert refused.returncode == 1
    assert "does not let the role of the pipelines in (28P01)" in refused.stderr
