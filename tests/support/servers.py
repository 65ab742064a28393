"""The real servers under the integration tests: private ones on this machine, and official images where Docker runs."""

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import aio_pika
import asyncpg
import redis.asyncio
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer
from testcontainers.core.wait_strategies import LogMessageWaitStrategy
from yarl import URL

from etlpay_cli import state
from etlpay_cli.layout import Layout
from etlpay_cli.provision import DEFINITIONS_PLACE, SECRET_PLACES, VOLUME, provision

# Of the database roles on servers that live as long as the tests.
ROLE_PASSWORD = "only-for-this-run"  # noqa: S105 - of servers that live as long as the tests
CHECKOUT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Servers:
    """Addresses, with passwords, of one PostgreSQL, one RabbitMQ and one Redis or Valkey."""

    kind: str
    postgres_host: str
    postgres_port: int
    owner_password: str
    amqp_host: str
    amqp_port: int
    redis_url: str
    secrets: Path

    @property
    def amqp_url(self) -> str:
        """The operator's URL, with its password."""
        return self.broker_url("operator")

    @property
    def amqp_password(self) -> str:
        """The operator's password at the broker."""
        return self.broker_password("operator")

    def broker_url(self, user: str, vhost: str = "/") -> str:
        """Return the URL of a broker user for a virtual host, with its password."""
        return URL.build(
            scheme="amqp",
            user=user,
            password=self.broker_password(user),
            host=self.amqp_host,
            port=self.amqp_port,
            path=f"/{vhost.removeprefix('/')}",
        ).human_repr()

    def broker_password(self, user: str) -> str:
        """Return the generated password of a broker user."""
        [place] = SECRET_PLACES[user]
        return (self.secrets / place).read_text().strip()

    def postgres_url(self, role: str, database: str = "etlpay", password: str | None = None) -> str:
        """Return a URL for a role, with its password where one is given."""
        login = role if password is None else f"{role}:{password}"
        return f"postgresql://{login}@{self.postgres_host}:{self.postgres_port}/{database}"

    @property
    def owner_url(self) -> str:
        """The URL of the database's owner."""
        return self.postgres_url("etlpay_owner", password=self.owner_password)


def docker_is_here() -> bool:
    """Tell whether a Docker engine answers."""
    return (
        shutil.which("docker") is not None
        and subprocess.run(("docker", "info"), capture_output=True, check=False).returncode == 0
    )


def server_kinds() -> list[str]:
    """Return the kinds that this machine can run: `local` always, `containers` with a Docker engine."""
    return ["local", "containers"] if docker_is_here() else ["local"]


@contextmanager
def run_servers(kind: str, folder: Path) -> Iterator[Servers]:
    """Run one set of servers of their own data until the block ends."""
    with _local_servers(folder) if kind == "local" else _containers(folder) as servers:
        yield servers


@contextmanager
def _local_servers(folder: Path) -> Iterator[Servers]:
    environment = stack_environment(folder)
    run_etlpay("up", "--servers", environment=environment)
    try:
        layout = Layout(folder)
        known = state.read_state(layout.state)
        assert known is not None
        yield Servers(
            kind="local",
            postgres_host="127.0.0.1",
            postgres_port=known.ports["postgres"],
            owner_password=layout.read_secret("postgres/owner_password"),
            amqp_host="127.0.0.1",
            amqp_port=known.ports["amqp"],
            redis_url=f"redis://:{layout.read_secret('redis/redis_password')}@127.0.0.1:{known.ports['redis']}/0",
            secrets=layout.secrets,
        )
    finally:
        run_etlpay("down", environment=environment)


@contextmanager
def _containers(folder: Path) -> Iterator[Servers]:
    # The blocks below stop their containers; the helper image that would do it for a killed run is not needed.
    testcontainers_config.ryuk_disabled = True
    password = uuid.uuid4().hex
    provision(folder, VOLUME)
    postgres = (
        DockerContainer("postgres:17")
        .with_env("POSTGRES_USER", "etlpay_owner")
        .with_env("POSTGRES_PASSWORD", password)
        .with_env("POSTGRES_DB", "etlpay")
        .with_exposed_ports(5432)
        .waiting_for(LogMessageWaitStrategy("PostgreSQL init process complete"))
    )
    rabbitmq = (
        DockerContainer("rabbitmq:4-management")
        .with_volume_mapping(str(CHECKOUT / "docker" / "rabbitmq.conf"), "/run/etlpay/rabbitmq.conf")
        # Beside the place where the image's start script would want to own it.
        .with_env("RABBITMQ_CONFIG_FILE", "/run/etlpay/rabbitmq.conf")
        .with_volume_mapping(str(folder / DEFINITIONS_PLACE), "/run/etlpay/definitions.json")
        .with_exposed_ports(5672)
    )
    valkey = DockerContainer("redis:8").with_exposed_ports(6379)
    with postgres, rabbitmq, valkey:
        host = postgres.get_container_host_ip()
        servers = Servers(
            kind="containers",
            postgres_host=host,
            postgres_port=int(postgres.get_exposed_port(5432)),
            owner_password=password,
            amqp_host=host,
            amqp_port=int(rabbitmq.get_exposed_port(5672)),
            redis_url=f"redis://{host}:{valkey.get_exposed_port(6379)}/0",
            secrets=folder,
        )
        asyncio.run(_wait_until_up(servers))
        yield servers


async def _wait_until_up(servers: Servers) -> None:
    """Return when all three answer; a container that runs is not yet a server that listens."""
    async with asyncio.timeout(90):
        await _until_answers(lambda: _ask_postgres(servers.owner_url))
        await _until_answers(lambda: _ask_redis(servers.redis_url))
        await _until_answers(lambda: _ask_rabbitmq(servers.amqp_url))


async def _until_answers(ask: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            await ask()
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, redis.exceptions.RedisError):
            await asyncio.sleep(0.2)
        else:
            return


async def _ask_postgres(url: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.close()


async def _ask_redis(url: str) -> None:
    client = redis.asyncio.Redis.from_url(url)
    await client.ping()
    await client.aclose()


async def _ask_rabbitmq(url: str) -> None:
    connection = await aio_pika.connect(url)
    await connection.close()


def stack_environment(folder: Path, **more: str) -> dict[str, str]:
    """Return the environment of an `etlpay` command with its state in `folder` and on ports that are not the usual."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("ETLPAY_")}  # noqa: TID251 - a child's environment
    names = [f"ETLPAY_{name}_PORT" for name in ("HTTP", "GRPC", "AMQP", "POSTGRES", "REDIS")]
    ports = dict(zip(names, map(str, free_ports(len(names))), strict=True))
    return inherited | ports | {"ETLPAY_ROOT": str(folder)} | more


def run_etlpay(*arguments: str, environment: dict[str, str], timeout: float = 180) -> subprocess.CompletedProcess[str]:
    """Run the command; fail the test with what it said where it does not succeed."""
    done = subprocess.run(
        (sys.executable, "-m", "etlpay_cli", *arguments),
        env=environment,
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
    )
    assert done.returncode == 0, f"etlpay {' '.join(arguments)}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def free_port() -> int:
    """Return a port on which nobody listens at this moment."""
    return free_ports(1)[0]


def free_ports(number: int) -> list[int]:
    """Return so many of them, none twice: each is held until all are chosen."""
    with ExitStack() as held:
        listeners = [held.enter_context(socket.socket()) for _ in range(number)]
        for listener in listeners:
            listener.bind(("127.0.0.1", 0))
        return [listener.getsockname()[1] for listener in listeners]
