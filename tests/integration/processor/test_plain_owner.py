"""An owner that is no superuser, but may create roles, as managed databases give one: migrations and pipelines work."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from etlpay_cli.layout import Layout
from etlpay_cli.local import postgres
from etlpay_cli.provision import PRIVATE, provision
from processor.ledger.database import REVISION
from processor.migrate import migrate
from processor.settings import MigrationSettings
from support.one_shot import OneShot
from support.servers import ROLE_PASSWORD, Servers, free_port
from support.typed_pipelines import SHOP


@pytest.fixture
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Servers]:
    """A PostgreSQL of its own, without the roles of the others, where `plain` owns the database."""
    layout = Layout(tmp_path_factory.mktemp("plain"))
    layout.make_folders()
    provision(layout.secrets, PRIVATE)
    await asyncio.to_thread(postgres.prepare, layout)
    port = free_port()
    server = postgres.program(layout, {"postgres": port})
    process = await asyncio.create_subprocess_exec(
        *server.command_line(), env=dict(server.environment), cwd=server.folder,
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        async with asyncio.timeout(60):
            while not await server.ready():  # noqa: ASYNC110 - a server tells nobody
                await asyncio.sleep(0.1)
        found = Servers(
            kind="local",
            postgres_host="127.0.0.1",
            postgres_port=port,
            owner_password=layout.read_secret("postgres/owner_password"),
            amqp_host="",
            amqp_port=0,
            redis_url="",
            secrets=layout.secrets,
        )
        owner = await asyncpg.connect(found.owner_url)
        await owner.execute(f"CREATE ROLE plain LOGIN CREATEROLE PASSWORD '{ROLE_PASSWORD}'")
        await owner.execute("CREATE DATABASE plain OWNER plain")
        await owner.close()
        yield dataclasses.replace(found, owner_password=ROLE_PASSWORD)
    finally:
        process.send_signal(server.stop_signal)
        await process.wait()


def settings_of(cluster: Servers) -> MigrationSettings:
    return MigrationSettings(
        postgres_url=cluster.postgres_url("plain", "plain"),
        postgres_password=ROLE_PASSWORD,
        processor_password=ROLE_PASSWORD,
        reader_password=ROLE_PASSWORD,
        pipelines_password=ROLE_PASSWORD,
    )


async def test_an_owner_that_is_no_superuser_migrates_and_pipelines_are_applied(
    cluster: Servers, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        await migrate(settings_of(cluster))
    folder = tmp_path / "pipelines"
    folder.mkdir()
    one_shot = OneShot(cluster, folder, capsys)
    one_shot.settings = one_shot.settings.model_copy(
        update={"postgres_url": cluster.postgres_url("etlpay_pipelines", "plain")}
    )
    one_shot.write("shop", SHOP)

    await one_shot.ok("apply", "--yes")

    owner = await asyncpg.connect(cluster.postgres_url("plain", "plain", ROLE_PASSWORD))
    assert await owner.fetchval("SELECT version_num FROM alembic_version") == REVISION
    assert await owner.fetchval("SELECT rolsuper FROM pg_roles WHERE rolname = current_user") is False
    await owner.close()
    analyst = "SELECT has_table_privilege('etlpay_analyst', 'data.orders', 'SELECT')"
    reader = await asyncpg.connect(cluster.postgres_url("etlpay_reader", "plain", ROLE_PASSWORD))
    assert await reader.fetchval(analyst)
    assert await reader.fetchval("SELECT count(*) FROM data.orders") == 0
    await reader.close()
