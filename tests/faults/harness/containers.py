"""The system in containers, as `docker compose` runs it, seen from this machine."""

import asyncio
import contextlib
import math
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import asyncpg
import msgspec

from etlpay_cli.docker import compose_variables
from faults.harness.world import SERVICES
from support.stack import Stack, run_stack
from support.waiting import until_true

PROJECT: Final = "etlpay-faults"
SERVERS: Final = ("postgres", "rabbitmq", "redis")
# The engine's commands that do something to the container which they name last.
_DISTURBING: Final = frozenset({"stop", "start", "pause", "unpause", "network"})
_READY_SECONDS_MAX: Final = 60.0
# More settings for compose: receipts come fast, because every case ends with an audit.
_MORE: Final = "faults.json"
_INGEST_SERVICES: Final = ("api-gateway", "grpc-ingest", "file-watcher", "queue-consumer")
_FAST: Final = {"ETLPAY_RECEIPT_SECONDS": "1"}
# Batches are small here: so both ways of storing one are gone.
_COPYING: Final = {"ETLPAY_COPY_EVENTS_MIN": "2"}


class Containers:
    """A stack in containers under the engine's own care: what dies is started again by its restart policy."""

    def __init__(self, stack: Stack) -> None:
        """`stack` is up."""
        self._stack = stack
        self.ports: Mapping[str, int] = {"http": _port(stack.http), "grpc": _port(f"//{stack.grpc}")}
        self.files = stack.inbox.parent
        self._disturbed_at: dict[str, float] = {}
        self.ingest_services_killed = 0

    def amqp_url(self, user: str, vhost: str = "") -> str:
        """RabbitMQ as `producer`, who may use the public virtual host alone."""
        if user != "producer" or vhost:
            raise ValueError("nobody else comes in from outside")
        return self._stack.amqp

    @contextlib.asynccontextmanager
    async def ledger(self) -> AsyncIterator[asyncpg.Connection]:
        """Give a connection that reads the ledger."""
        connection = await asyncpg.connect(self._stack.postgres, command_timeout=60)
        try:
            yield connection
        finally:
            await connection.close(timeout=5)

    def disturbed_since(self, service: str, moment: float) -> bool:
        """See `Place.disturbed_since`."""
        return self._disturbed_at.get(self.container(service), 0.0) >= moment

    async def wait_ready(self, seconds_max: float = _READY_SECONDS_MAX) -> None:
        """Return when every container is healthy. Raises TimeoutError."""
        if not await until_true(self._all_healthy, seconds_max):
            raise TimeoutError("not every container is healthy")

    async def kill(self, name: str) -> bool:
        """End the first process of a container with kill -9, from outside, so that the engine sees it die by itself."""
        before = await self.inspect(name)
        self._disturbed_at[self.container(name)] = time.monotonic()
        os.kill(before["State"]["Pid"], signal.SIGKILL)
        self.ingest_services_killed += name in _INGEST_SERVICES
        return await until_true(lambda: self._is_another(name, before["State"]["StartedAt"]), 30)

    async def inspect(self, name: str) -> dict[str, Any]:
        """Return what the engine knows of the container of a service."""
        [found] = msgspec.json.decode(await self.docker("inspect", self.container(name)))
        return dict(found)

    def container(self, name: str) -> str:
        """Return the name of the first container of a service, or `name` where it is one of several."""
        return name if name.startswith(PROJECT) else f"{PROJECT}-{name}-1"

    async def docker(self, *arguments: str) -> str:
        """Run the engine's command. Raises RuntimeError where it fails."""
        if arguments[0] in _DISTURBING:
            self._disturbed_at[arguments[-1]] = time.monotonic()
        return await self._run("docker", *arguments)

    async def compose(self, *arguments: str) -> str:
        """Run compose on this stack. Raises RuntimeError where it fails."""
        return await self._run("docker", "compose", *arguments)

    async def etlpay(self, *arguments: str) -> None:
        """Run the command of the stack."""
        self._disturbed_at = dict.fromkeys(map(self.container, SERVICES), math.inf)
        await asyncio.to_thread(self._stack.run_etlpay, *arguments)
        self._disturbed_at = dict.fromkeys(self._disturbed_at, time.monotonic())

    async def logs(self, since: datetime, *names: str) -> bytes:
        """Return what these containers have logged since a moment; without names all of them, the servers included."""
        return (
            await self.compose("logs", "--no-color", "--no-log-prefix", f"--since={since.isoformat()}", *names)
        ).encode()

    async def secrets(self) -> set[bytes]:
        """Return every secret of this stack, out of the volumes in which they lie."""
        printed = await self.compose(
            "run", "--rm", "--no-deps", "--no-TTY", "--entrypoint", "python", "provision", "-c",
            "import pathlib\n"
            "for kind in ('*password', '*token', '*key'):\n"
            "    for path in pathlib.Path('/secrets').rglob(kind): print(path.read_text().strip())",
        )  # fmt: skip
        return {secret.encode() for secret in printed.split()}

    async def _all_healthy(self) -> bool:
        listed = await self.docker(
            "ps", "--filter", f"label=com.docker.compose.project={PROJECT}", "--format={{.Names}}"
        )
        names = listed.split()
        if not {self.container(name) for name in (*SERVICES, *SERVERS)} <= set(names):
            return False
        found = msgspec.json.decode(await self.docker("inspect", *names))
        return all(each["State"].get("Health", {}).get("Status", "healthy") == "healthy" for each in found)

    async def _is_another(self, name: str, started_at: str) -> bool:
        state = (await self.inspect(name))["State"]
        return bool(state["Running"]) and state["StartedAt"] != started_at

    async def _run(self, *command: str) -> str:
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=self._stack.root,
            env=self._stack.environment | compose_variables(self.files),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        said, complaints = await process.communicate()
        if process.returncode:
            raise RuntimeError(f"{' '.join(command[:3])}: {complaints.decode()[-300:]}")
        return said.decode()


@contextlib.contextmanager
def new_containers(folder: Path) -> Iterator[Containers]:
    """Run a stack in containers until the block ends, and leave nothing of it behind."""
    services = {name: {"environment": _FAST} for name in _INGEST_SERVICES} | {"processor": {"environment": _COPYING}}
    (folder / _MORE).write_bytes(msgspec.json.encode({"services": services}))
    with run_stack("docker", folder, ETLPAY_PROJECT=PROJECT, COMPOSE_FILE=f"compose.yaml:{_MORE}") as stack:
        yield Containers(stack)


def moment() -> datetime:
    """Return this moment, for `Containers.logs`."""
    return datetime.now(UTC)


def _port(url: str) -> int:
    port = urlsplit(url).port
    if port is None:
        raise ValueError("an address without a port")
    return port
