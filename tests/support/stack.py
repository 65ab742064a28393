"""A whole running EtlPay, seen through its public ports only."""

import asyncio
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
import httpx2
import msgspec

from support.servers import CHECKOUT, run_etlpay, stack_environment

T = TypeVar("T")
COMPOSE_PROJECT = "etlpay-test"


@dataclass(frozen=True)
class Stack:
    """What `etlpay status --json` tells, and the command's environment."""

    mode: str
    http: str
    grpc: str
    amqp: str
    postgres: str
    redis: str
    inbox: Path
    root: Path
    environment: dict[str, str]

    def client(self) -> httpx2.AsyncClient:
        """Return a client of the HTTP channel that sends JSON, where it says nothing else."""
        return httpx2.AsyncClient(base_url=self.http, timeout=15, headers={"Content-Type": "application/json"})

    def drop(self, source: str, name: str, content: bytes) -> None:
        """Drop a file into the inbox as a careful producer does: written beside, then renamed in."""
        folder = self.inbox / source
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = folder / f".{name}.tmp"
        unfinished.write_bytes(content)
        unfinished.rename(folder / name)

    async def fetch(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        """Ask the ledger as its reader."""
        connection = await asyncpg.connect(self.postgres)
        try:
            rows: list[asyncpg.Record] = await connection.fetch(query, *arguments)
        finally:
            await connection.close()
        return rows

    async def events_of(self, source: str, *, count: int, seconds_max: float = 30) -> list[asyncpg.Record]:
        """Return the events of a source, oldest first, once there are `count`; fail when there are not, or are more."""
        query = "SELECT * FROM events WHERE source = $1 ORDER BY raw_event_id"
        found = await until(lambda: self.fetch(query, source), lambda rows: len(rows) >= count, seconds_max=seconds_max)
        assert len(found) == count
        return found

    def start(self, module: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a service by hand, in the stack's folder, as the README says."""
        return subprocess.Popen(
            (sys.executable, "-m", module, *arguments),
            cwd=self.root,
            env={name: value for name, value in os.environ.items() if not name.startswith("ETLPAY_")},  # noqa: TID251 - a child's environment
        )

    def run_etlpay(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the `etlpay` command against this stack."""
        return run_etlpay(*arguments, environment=self.environment)


async def until(
    ask: Callable[[], Awaitable[T]], enough: Callable[[T], bool], *, seconds_max: float = 30, pause_seconds: float = 0.1
) -> T:
    """Ask until the answer is enough, or the time is up; return the last answer."""
    deadline = time.monotonic() + seconds_max
    while not enough(answer := await ask()) and time.monotonic() < deadline:  # noqa: ASYNC110 - the answer is far away
        await asyncio.sleep(pause_seconds)
    return answer


@contextmanager
def run_stack(mode: str, folder: Path, **environment_more: str) -> Iterator[Stack]:
    """Run the whole system in `mode` with state of its own until the block ends, then leave nothing behind."""
    if mode == "docker":
        copy_checkout(folder)
    environment = stack_environment(folder, **{"ETLPAY_PROJECT": COMPOSE_PROJECT} | environment_more)
    try:
        run_etlpay("up", "--mode", mode, environment=environment, timeout=900)
        told: dict[str, Any] = msgspec.json.decode(run_etlpay("status", "--json", environment=environment).stdout)
        yield Stack(**told | {"inbox": Path(told["inbox"])}, root=folder, environment=environment)
    finally:
        run_etlpay("clean", "--yes", environment=environment)


def copy_checkout(folder: Path) -> None:
    """Copy what git tracks or would track: what a fresh clone has."""
    listed = subprocess.run(
        ("git", "ls-files", "--cached", "--others", "--exclude-standard"), cwd=CHECKOUT, capture_output=True, check=True
    )
    for name in listed.stdout.decode().splitlines():
        if (CHECKOUT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(CHECKOUT / name, folder / name)
