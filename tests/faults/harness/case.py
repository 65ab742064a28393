"""A case of the fault matrix, and the context in which it runs."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from etlpay_cli.provision import INGEST_VHOST
from etlpay_cli.reconcile import Report
from faults.harness.checks import Sign
from faults.harness.load import Load
from faults.harness.typed import CasePipeline
from faults.harness.world import Fault, World
from shared.contracts.audit import AuditPage
from shared.messaging.topology import INGEST_QUEUE
from support.supervisor import Child

ALL_CHANNELS: Final = frozenset({"http", "grpc", "file", "queue"})
_RABBITMQCTL: Final = "/usr/lib/rabbitmq/bin/rabbitmqctl"


@dataclass
class Context:
    """What a case works with while producers send."""

    world: World
    load: Load
    random: random.Random
    fault: Fault | None = None
    pipeline: CasePipeline | None = None
    problems: list[str] = field(default_factory=list)

    def child(self, name: str) -> Child:
        """Return a program."""
        return self.world.children[name]

    async def moment(self, least: float = 0.3, most: float = 1.5) -> None:
        """Wait for a random time."""
        await asyncio.sleep(self.random.uniform(least, most))

    async def came_true(self) -> bool:
        """Wait until the failpoint fired."""
        return self.fault is not None and await self.fault.wait()

    async def rabbitmqctl(self, *arguments: str) -> str:
        """Run an operator's command on the private node. Raises RuntimeError where it fails."""
        node = self.child("rabbitmq").program
        process = await asyncio.create_subprocess_exec(
            _RABBITMQCTL, "-q", "-n", "etlpay@localhost", *arguments,
            env=dict(node.environment), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        said, _ = await process.communicate()
        if process.returncode:
            raise RuntimeError(f"rabbitmqctl {arguments[0]}: {said.decode()[-300:]}")
        return said.decode()

    async def ingest_queues(self) -> dict[str, int]:
        """Return how many messages each ingest queue holds, unacknowledged ones included."""
        listed = await self.rabbitmqctl("list_queues", "-p", INGEST_VHOST, "name", "messages")
        lines = [line.split() for line in listed.splitlines() if line.startswith(INGEST_QUEUE)]
        return {name: int(count) for name, count in lines}


Inflict = Callable[[Context], Awaitable[bool]]


@dataclass(frozen=True)
class Case:
    """A fault under load. `inflict` sets it off, takes it back, and returns whether it came true."""

    name: str
    inflict: Inflict
    arm: tuple[str, str] | None = None
    channels: frozenset[str] = ALL_CHANNELS
    smoke: bool = False
    seconds_max: float = 240.0
    """How long load and fault may take together."""
    before: Callable[[World], Awaitable[None]] | None = None
    after: Callable[[World], Awaitable[None]] | None = None
    must_show: Sign | None = None
    """A mutant: the product is broken on purpose, and the checks must see it by this."""
    drain_seconds_max: float = 60.0
    """How soon after the fault every service is ready, every call answered, and everything stored."""
    reconcile: Callable[[Sequence[AuditPage]], Report] | None = None
    """What compares acknowledged with stored events, where the case loses some on purpose."""
    parked: int = 0
    """How many acknowledged events end among the parked on purpose: the audit must miss exactly these."""
    pipeline: bool = False
    """Whether a pipeline makes rows of all its events: they must be those that the stored bodies make."""
