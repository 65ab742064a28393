"""The servers of a local stack come back when they die, go when they should, and keep what they were given."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import aio_pika
import asyncpg
import msgspec
import psutil
import pytest
import redis.asyncio

from etlpay_cli import state
from etlpay_cli.addresses import Addresses
from etlpay_cli.layout import Layout
from etlpay_cli.local.process import is_alive
from support.servers import CHECKOUT, run_etlpay, stack_environment

SERVERS = ("epmd", "postgres", "rabbitmq", "valkey")
BACK_SECONDS_MAX = 40.0


class LocalServers:
    """The servers of a stack of the test's own."""

    def __init__(self, folder: Path) -> None:
        self.layout = Layout(folder)
        self.environment = stack_environment(folder)

    def up(self) -> None:
        run_etlpay("up", "--servers", environment=self.environment)

    def down(self) -> None:
        run_etlpay("down", environment=self.environment)

    def status(self) -> int:
        return subprocess.run(
            ("etlpay", "status"),
            env=self.environment | {"PATH": f"{CHECKOUT}/.venv/bin:{self.environment['PATH']}"},
            capture_output=True,
            check=False,
        ).returncode

    def addresses(self) -> Addresses:
        printed = run_etlpay("status", "--json", environment=self.environment).stdout
        return msgspec.json.decode(printed, type=Addresses)

    def known(self) -> state.State:
        known = state.read_state(self.layout.state)
        assert known is not None
        return known

    def owner_url(self) -> str:
        password = self.layout.read_secret("postgres/owner_password")
        return f"postgresql://etlpay_owner:{password}@127.0.0.1:{self.known().ports['postgres']}/etlpay"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServers]:
    servers = LocalServers(tmp_path_factory.mktemp("stack"))
    servers.up()
    yield servers
    servers.down()


def wait_until(is_so: Callable[[], bool], seconds_max: float = BACK_SECONDS_MAX) -> bool:
    deadline = time.monotonic() + seconds_max
    while time.monotonic() < deadline:
        if is_so():
            return True
        time.sleep(0.2)  # noqa: TID251 - a test may wait
    return False


def test_a_stack_that_is_up_is_ready_and_up_again_changes_nothing(stack: LocalServers) -> None:
    before = stack.known()

    stack.up()

    assert stack.status() == 0
    assert before == stack.known()


def test_every_secret_and_log_is_out_of_reach_of_other_users(stack: LocalServers) -> None:
    open_to_others = [
        path
        for path in (stack.layout.secrets, stack.layout.logs, stack.layout.rabbitmq, stack.layout.postgres)
        if path.stat().st_mode & 0o077
    ]

    assert open_to_others == []
    assert stack.layout.stack_env.stat().st_mode & 0o077 == 0


async def test_postgres_has_not_switched_off_what_makes_a_commit_durable(stack: LocalServers) -> None:
    connection = await asyncpg.connect(stack.owner_url())
    settings = [
        await connection.fetchval(f"SHOW {name}") for name in ("fsync", "full_page_writes", "synchronous_commit")
    ]
    await connection.close()

    assert settings == ["on", "on", "on"]


async def test_postgres_refuses_the_owner_without_its_password(stack: LocalServers) -> None:
    port = stack.known().ports["postgres"]

    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(f"postgresql://etlpay_owner:guess@127.0.0.1:{port}/etlpay")


async def test_there_is_no_guest(stack: LocalServers) -> None:
    with pytest.raises(aio_pika.exceptions.ProbableAuthenticationError):
        await aio_pika.connect(f"amqp://guest:guest@127.0.0.1:{stack.known().ports['amqp']}/")


async def test_the_cache_refuses_who_has_no_password_and_no_command_line_holds_it(stack: LocalServers) -> None:
    known = stack.known()
    password = stack.layout.read_secret("redis/redis_password")

    async with redis.asyncio.Redis(port=known.ports["redis"]) as stranger:
        with pytest.raises(redis.exceptions.AuthenticationError):
            await stranger.ping()
    async with redis.asyncio.Redis.from_url(stack.addresses().redis) as operator:
        assert await operator.ping()
    assert [each for each in psutil.process_iter(["cmdline"]) if password in " ".join(each.info["cmdline"] or ())] == []


def test_secrets_of_the_release_before_come_up_with_what_is_new(stack: LocalServers) -> None:
    """A folder of secrets as it was before there were tokens, and a password of the cache."""
    stack.down()
    shutil.rmtree(stack.layout.secrets / "redis")
    for kind in ("*_token", "redis_password", "cache_key"):
        for path in stack.layout.secrets.rglob(kind):
            path.unlink()
    kept = {path: path.read_bytes() for path in stack.layout.secrets.rglob("*") if path.is_file()}

    stack.up()

    assert stack.status() == 0
    assert kept == {path: path.read_bytes() for path in kept}
    assert stack.layout.read_secret("redis/redis_password") in stack.addresses().redis


@pytest.mark.parametrize("name", SERVERS)
def test_a_server_that_is_killed_comes_back(stack: LocalServers, name: str) -> None:
    victim = stack.known().programs[name]
    assert victim.pid is not None

    os.kill(victim.pid, signal.SIGKILL)

    assert wait_until(lambda: stack.known().programs[name].pid not in {None, victim.pid})
    assert wait_until(lambda: stack.status() == 0)
    assert victim.restarts + 1 == stack.known().programs[name].restarts


async def test_data_and_ports_outlast_down_and_up(stack: LocalServers) -> None:
    connection = await asyncpg.connect(stack.owner_url())
    await connection.execute("CREATE TABLE kept AS SELECT 42 AS value")
    await connection.close()
    before = stack.known()

    stack.down()
    assert stack.status() == 5
    assert not any(is_alive(program) for program in before.programs.values())
    assert not stack.layout.stack_env.exists()
    stack.up()

    connection = await asyncpg.connect(stack.owner_url())
    kept = await connection.fetchval("SELECT value FROM kept")
    await connection.close()
    assert kept == 42
    assert before.ports == stack.known().ports


def test_nothing_outlives_a_supervisor_that_is_killed_and_up_starts_anew(stack: LocalServers) -> None:
    before = stack.known()
    assert before.supervisor is not None
    assert before.supervisor.pid is not None

    os.kill(before.supervisor.pid, signal.SIGKILL)

    assert wait_until(lambda: not any(is_alive(program) for program in before.programs.values()))
    assert stack.status() == 5
    stack.up()
    assert stack.status() == 0


def test_down_ends_what_outlived_a_supervisor_that_was_killed(stack: LocalServers) -> None:
    before = stack.known()
    assert before.supervisor is not None
    assert before.supervisor.pid is not None
    lingering = before.programs["valkey"]
    assert lingering.pid is not None
    os.kill(lingering.pid, signal.SIGSTOP)  # so that it cannot follow its supervisor
    os.kill(before.supervisor.pid, signal.SIGKILL)
    assert wait_until(lambda: not is_alive(before.supervisor))
    assert is_alive(lingering)

    stack.down()

    assert not any(is_alive(program) for program in before.programs.values())
