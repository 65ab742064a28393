"""What happens to containers: they die under their restart policy, are restarted, paused, cut off, and multiplied."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from faults.harness.containers import SERVERS, Containers
from faults.harness.world import SERVICES

# The promise: all drained and ready this soon after the server is back.
_DRAIN_SECONDS_MAX: Final = 30.0
_AWAY_SECONDS: Final = 8.0
_PAUSED_SECONDS: Final = 20.0
_STOP_SECONDS_MAX: Final = 25.0


@dataclass(frozen=True)
class ContainerCase:
    """A fault of containers under load. `inflict` sets it off, takes it back, and returns whether it came true."""

    name: str
    inflict: Callable[[Containers, random.Random], Awaitable[bool]]
    must_show: None = None
    drain_seconds_max: float = _DRAIN_SECONDS_MAX


def _killed(*names: str) -> Callable[[Containers, random.Random], Awaitable[bool]]:
    async def inflict(containers: Containers, dice: random.Random) -> bool:
        died = True
        for name in names:
            await asyncio.sleep(dice.uniform(0.3, 1.5))
            died = await containers.kill(name) and died
        return died

    return inflict


def _restarted(*names: str) -> Callable[[Containers, random.Random], Awaitable[bool]]:
    """SIGTERM, and the same container again. A container that takes too long has failed."""

    async def inflict(containers: Containers, dice: random.Random) -> bool:
        in_time = True
        for name in names:
            await asyncio.sleep(dice.uniform(0.3, 1.5))
            began = asyncio.get_running_loop().time()
            await containers.docker("stop", "--time=60", containers.container(name))
            in_time = in_time and asyncio.get_running_loop().time() - began < _STOP_SECONDS_MAX
            await containers.docker("start", containers.container(name))
        return in_time

    return inflict


def _paused(name: str) -> Callable[[Containers, random.Random], Awaitable[bool]]:
    async def inflict(containers: Containers, _: random.Random) -> bool:
        await containers.docker("pause", containers.container(name))
        await asyncio.sleep(_PAUSED_SECONDS)
        paused = (await containers.inspect(name))["State"]["Paused"]
        await containers.docker("unpause", containers.container(name))
        return bool(paused)

    return inflict


def _cut_off(name: str) -> Callable[[Containers, random.Random], Awaitable[bool]]:
    """Take a container out of its networks, and back under the names that it had there."""

    async def inflict(containers: Containers, _: random.Random) -> bool:
        networks = (await containers.inspect(name))["NetworkSettings"]["Networks"]
        for network in networks:
            await containers.docker("network", "disconnect", network, containers.container(name))
        alone = not (await containers.inspect(name))["NetworkSettings"]["Networks"]
        await asyncio.sleep(_AWAY_SECONDS)
        for network, joined in networks.items():
            aliases = [f"--alias={alias}" for alias in joined["Aliases"] or ()]
            await containers.docker("network", "connect", *aliases, network, containers.container(name))
        return alone

    return inflict


async def _two_processors(containers: Containers, dice: random.Random) -> bool:
    """A second processor joins, the first dies and comes back, and one goes again."""
    scale = ("up", "--detach", "--no-recreate", "--no-build", "--wait")
    await containers.compose(*scale, "--scale=processor=2")
    both = "processor-2" in await containers.docker("ps", "--format={{.Names}}")
    await asyncio.sleep(dice.uniform(2, 4))
    died = await containers.kill("processor")
    await asyncio.sleep(dice.uniform(2, 4))
    await containers.compose(*scale, "--scale=processor=1")
    return both and died


async def _down_and_up(containers: Containers, _: random.Random) -> bool:
    """Every container goes, and new ones come to the same volumes."""
    before = (await containers.inspect("postgres"))["Id"]
    await containers.etlpay("down")
    await containers.etlpay("up", "--mode", "docker")
    return bool(before != (await containers.inspect("postgres"))["Id"])


CASES: Final = [
    *(ContainerCase(f"compose: kill -9 of {name}", _killed(name)) for name in SERVICES),
    *(ContainerCase(f"compose: kill -9 of {name}", _killed(name)) for name in SERVERS),
    ContainerCase("compose: kill -9 of postgres, rabbitmq and processor", _killed("postgres", "rabbitmq", "processor")),
    ContainerCase("compose: SIGTERM to each service in turn", _restarted(*SERVICES)),
    *(ContainerCase(f"compose: {name} stopped and started", _restarted(name)) for name in SERVERS),
    *(
        ContainerCase(f"compose: {name} paused for 20 s", _paused(name))
        for name in ("processor", "rabbitmq", "postgres")
    ),
    *(ContainerCase(f"compose: {name} cut off for 8 s", _cut_off(name)) for name in ("processor", "queue-consumer")),
    ContainerCase("compose: two processors, one killed", _two_processors),
    ContainerCase("compose: everything down and up again", _down_and_up),
]
