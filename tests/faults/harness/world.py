"""One EtlPay of its own: real servers, the five services, and a proxy on each connection between two of them."""

import asyncio
import contextlib
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Protocol, Self

import asyncpg

from etlpay_cli.layout import Layout
from etlpay_cli.local import postgres, rabbitmq, services, valkey
from etlpay_cli.local.program import Program
from etlpay_cli.ports import PREFERRED, choose_ports, listen
from etlpay_cli.provision import PRIVATE, provision
from support.proxy import Proxy
from support.supervisor import Child
from support.waiting import until_true

HOST: Final = "127.0.0.1"
SERVICES: Final = ("processor", "api-gateway", "grpc-ingest", "file-watcher", "queue-consumer")
# The connections between programs, by the names of the ports.
CONNECTIONS: Final = (
    ("processor", "postgres"),
    ("processor", "amqp"),
    ("processor", "redis"),
    ("api-gateway", "processing"),
    ("api-gateway", "amqp"),
    ("api-gateway", "postgres"),
    ("api-gateway", "redis"),
    ("grpc-ingest", "processing"),
    ("grpc-ingest", "amqp"),
    ("file-watcher", "amqp"),
    ("queue-consumer", "amqp"),
)
SETTLE_SECONDS: Final = 0.05
_FAST: Final = {
    "ETLPAY_FILES_SETTLE_SECONDS": str(SETTLE_SECONDS),
    "ETLPAY_FILES_SCAN_SECONDS": "0.5",
    "ETLPAY_RECEIPT_SECONDS": "0.5",
    # Batches are small here: so both ways of storing one are gone.
    "ETLPAY_COPY_EVENTS_MIN": "2",
}


class Place(Protocol):
    """An EtlPay that runs somewhere, as producers and checks see it."""

    @property
    def ports(self) -> Mapping[str, int]:
        """Where its services listen: `http` and `grpc`."""

    @property
    def files(self) -> Path:
        """The folder that holds inbox/ and done/."""

    def amqp_url(self, user: str, vhost: str = "") -> str:
        """RabbitMQ as a user."""

    def ledger(self) -> contextlib.AbstractAsyncContextManager[asyncpg.Connection]:
        """Give a connection that may read everything."""

    def disturbed_since(self, service: str, moment: float) -> bool:
        """Whether anything was done to a service's own process since a moment of `time.monotonic`."""

    @property
    def ingest_services_killed(self) -> int:
        """How many processes that take events in have ended otherwise than they should, so far."""

    async def wait_ready(self, seconds_max: float = 60.0) -> None:
        """Return when every service is ready. Raises TimeoutError."""


@dataclass
class Fault:
    """A failpoint that was set, and the file that says whether it came true."""

    log: Path
    child: Child
    kills: bool
    lives: int
    """How many lives the child had before the one in which it fails."""

    @property
    def fired(self) -> bool:
        """Whether it came true; where it kills, whether the process has died of it."""
        if not self.log.exists() or self.log.stat().st_size == 0:
            return False
        return not self.kills or -signal.SIGKILL in self.child.exits[self.lives :]

    async def wait(self, seconds_max: float = 40.0) -> bool:
        """Wait until it comes true; return whether it did."""
        return await until_true(lambda: self.fired, seconds_max)


class World:
    """Everything that runs, by name."""

    def __init__(self, root: Path) -> None:
        """Prepare; nothing is started."""
        self.layout = Layout(root)
        self.files = self.layout.files
        self.ports = choose_ports({}, {}, unusual)
        self.proxies: dict[tuple[str, str], Proxy] = {}
        self.children: dict[str, Child] = {}
        self._group = asyncio.TaskGroup()
        self._faults = 0

    def proxy(self, service: str, target: str) -> Proxy:
        """Return the proxy from a service to what it talks to."""
        return self.proxies[service, target]

    @property
    def owner_url(self) -> str:
        """PostgreSQL as its owner, without a proxy."""
        password = self.layout.read_secret("postgres/owner_password")
        return f"postgresql://etlpay_owner:{password}@{HOST}:{self.ports['postgres']}/etlpay"

    def amqp_url(self, user: str, vhost: str = "") -> str:
        """RabbitMQ as `producer` or `operator`, without a proxy; the ingest queues have a virtual host of their own."""
        name = "producer_password" if user == "producer" else "amqp_password"
        return f"amqp://{user}:{self.layout.read_secret(f'operator/{name}')}@{HOST}:{self.ports['amqp']}/{vhost}"

    @contextlib.asynccontextmanager
    async def owner(self) -> AsyncIterator[asyncpg.Connection]:
        """Give a connection of the database's owner."""
        connection = await asyncpg.connect(self.owner_url, command_timeout=60)
        try:
            yield connection
        finally:
            await connection.close(timeout=5)

    def ledger(self) -> contextlib.AbstractAsyncContextManager[asyncpg.Connection]:
        """See `Place.ledger`."""
        return self.owner()

    def disturbed_since(self, service: str, moment: float) -> bool:
        """See `Place.disturbed_since`."""
        return self.children[service].disturbed_since(moment)

    @property
    def ingest_services_killed(self) -> int:
        """See `Place.ingest_services_killed`."""
        children = (child for name, child in self.children.items() if name.startswith(SERVICES[1:]))
        return sum(code != 0 for child in children for code in child.exits)

    def secrets(self) -> Iterator[str]:
        """Yield every secret of this world."""
        for kind in ("*password", "*token", "*key"):
            for path in self.layout.secrets.rglob(kind):
                yield path.read_text().strip()

    async def arm(self, service: str, specification: str) -> Fault:
        """Restart a service so that it fails once at the given place."""
        self._faults += 1
        log = self.layout.state_folder / f"fault-{self._faults}"
        child = self.children[service]
        lives = len(child.exits)
        await child.restart(child.with_environment(ETLPAY_FAILPOINT=specification, ETLPAY_FAILPOINT_LOG=str(log)))
        return Fault(log, child, kills=":kill" in specification, lives=lives)

    async def run_pipelines(self, *arguments: str) -> None:
        """Run a command line of the one-shot of the pipelines. Raises RuntimeError where it fails."""
        await _complete(services.pipelines(self.layout, self.ports, *arguments), self.layout)

    async def wait_ready(self, seconds_max: float = 60.0) -> None:
        """Return when every service is ready. Raises TimeoutError."""
        async with asyncio.TaskGroup() as waiting:
            for name in SERVICES:
                waiting.create_task(self.children[name].wait_ready(seconds_max))

    def keep(self, program: Program) -> Child:
        """Start a program and keep it running."""
        child = Child(program, self.layout.log(program.name))
        self.children[program.name] = child
        self._group.create_task(child.run(), name=program.name)
        return child

    async def start(self) -> None:
        """Bring everything up."""
        layout, ports = self.layout, self.ports
        layout.make_folders()
        provision(layout.secrets, PRIVATE)
        rabbitmq.prepare(layout, ports)
        await self.keep(rabbitmq.epmd_program(layout, ports)).wait_ready()
        broker, cache = self.keep(rabbitmq.program(layout, ports)), self.keep(valkey.program(layout, ports))
        await asyncio.to_thread(postgres.prepare, layout)
        await self.keep(postgres.program(layout, ports)).wait_ready()
        await _complete(services.migration(layout, ports), layout)
        await cache.wait_ready()
        await broker.wait_ready()
        for service, target in CONNECTIONS:
            proxy = self.proxies[service, target] = Proxy(HOST, ports[target])
            await proxy.open()
        for program in self.service_programs():
            self.keep(program)
        await self.wait_ready()

    def service_programs(self) -> list[Program]:
        """Return the five services, each with the addresses of its own proxies."""
        processors = [services.processor(self.layout, self._ports_of("processor"))]
        ingest_services = [
            program
            for name in SERVICES
            for program in services.edge_services(self.layout, self._ports_of(name))
            if program.name == name
        ]
        return [
            replace(program, environment={**program.environment, **_FAST}) for program in processors + ingest_services
        ]

    async def stop(self) -> None:
        """End everything: the services that take events in first, the servers last."""
        for proxy in self.proxies.values():
            proxy.heal()
        names = list(reversed(self.children))
        ingest_services = [name for name in names if name in SERVICES[1:]]
        async with asyncio.TaskGroup() as closing:
            for name in ingest_services:
                closing.create_task(self.children[name].stop())
        for name in (name for name in names if name not in ingest_services):
            await self.children[name].stop()
        for proxy in self.proxies.values():
            await proxy.close()

    def _ports_of(self, service: str) -> dict[str, int]:
        own = {target: proxy.port for (name, target), proxy in self.proxies.items() if name == service}
        # The processor listens where it listens; another service finds it behind its own proxy.
        return {**self.ports, **own}

    async def __aenter__(self) -> Self:
        """Start everything."""
        await self._group.__aenter__()
        try:
            await self.start()
        except BaseException:
            await self.stop()
            await self._group.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """End everything."""
        await self.stop()
        await self._group.__aexit__(None, None, None)


@contextlib.asynccontextmanager
async def new_world(keep_files: Path | None = None) -> AsyncIterator[World]:
    """Run a world in a folder of its own; where the block fails, its logs are copied to `keep_files`."""
    root = Path(tempfile.mkdtemp(prefix="etlpay-faults-"))
    try:
        async with World(root) as world:
            yield world
    except BaseException:
        if keep_files is not None:
            shutil.copytree(root / ".etlpay" / "logs", keep_files / root.name, dirs_exist_ok=True)
        raise
    finally:
        shutil.rmtree(root, ignore_errors=True)


def unusual(held: contextlib.ExitStack, port: int) -> bool:
    """Hold a port, but none of those that a stack of the same machine would like to have."""
    return port not in PREFERRED.values() and listen(held, port)


async def _complete(task: services.Task, layout: Layout) -> None:
    with layout.log(task.name).open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *task.command, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, env=dict(task.environment),
            cwd=layout.run,
        )  # fmt: skip
    if await process.wait():
        raise RuntimeError(f"{task.name} failed: see {layout.log(task.name)}")
