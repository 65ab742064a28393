"""The one-shot of the pipelines on a real ledger without pipelines, and the folder of its files."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import pytest

from processor.pipelines.__main__ import parser, run
from processor.settings import PipelineSettings
from support.servers import ROLE_PASSWORD, Servers

MASK_KEY = "only-for-this-run"
_TYPED = """
    SELECT format('DROP %s %I.%I CASCADE', CASE relkind WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END, nspname, relname) AS sql
    FROM pg_class JOIN pg_namespace AS namespace ON namespace.oid = relnamespace
    WHERE nspname IN ('rows', 'data') AND relkind IN ('r', 'v') ORDER BY relkind DESC
"""

_ORDER = """
    INSERT INTO rows.orders_1 (id, at, status, amount, currency, _event, _part, _pipeline, _loaded_at, _rank, _gone)
    VALUES ($1, now(), 'open', 10.99, 'EUR', $2, 0, 1, now(), 0, $3)
"""


class OneShot:
    """Runs `python -m processor.pipelines` in this process; keeps what it printed."""

    def __init__(self, servers: Servers, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.plans = folder.parent / "plans"
        self.settings = PipelineSettings(
            postgres_url=servers.postgres_url("etlpay_pipelines"),
            postgres_password=ROLE_PASSWORD,
            pipelines_folder=folder,
            pipelines_plans_folder=self.plans,
            pipelines_lock_seconds_max=0.1,
            pipelines_seconds_max=20,
            mask_key=MASK_KEY,
        )
        self._capsys = capsys
        self.out = ""
        self.err = ""

    def write(self, name: str, text: str) -> None:
        """Write a pipeline file."""
        (self.folder / f"{name}.toml").write_text(text)

    async def run(self, *arguments: str) -> int:
        """Run a command line and return its exit code."""
        code = await run(parser().parse_args(arguments), self.settings)
        printed = self._capsys.readouterr()
        self.out, self.err = printed.out, printed.err
        return code

    async def ok(self, *arguments: str) -> str:
        """Run a command line that must succeed, and return what it printed."""
        code = await self.run(*arguments)
        assert code == 0, f"{self.out}\n{self.err}"
        return self.out

    async def document(self, *arguments: str) -> dict[str, Any]:
        """Run a command line and return the JSON that it printed."""
        await self.run(*arguments, "--json")
        document: dict[str, Any] = msgspec.json.decode(self.out)
        return document

    async def token(self) -> str:
        """Return the token of the plan."""
        return str((await self.document("plan"))["plan"])


async def add_order(connection: asyncpg.Connection, key: str, *, event: int, gone: bool = False) -> None:
    """Write a row of the table `orders`, as the processor does."""
    await connection.execute(_ORDER, key, event, gone)


async def clear_pipelines(owner: asyncpg.Connection) -> None:
    """Drop every typed table and view, and forget every pipeline."""
    for row in await owner.fetch(_TYPED):
        await owner.execute(row["sql"].replace("DROP VIEW", "DROP VIEW IF EXISTS"))
    await owner.execute("TRUNCATE pipelines, pipeline_states, pipeline_holds, causes, drifts RESTART IDENTITY CASCADE")


@pytest.fixture
async def one_shot(
    ledger: Servers, owner: asyncpg.Connection, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> AsyncIterator[OneShot]:
    """The one-shot, on a ledger without events and without pipelines."""
    await clear_pipelines(owner)
    folder = tmp_path / "pipelines"
    folder.mkdir()
    yield OneShot(ledger, folder, capsys)
    await clear_pipelines(owner)
