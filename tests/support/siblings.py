"""More of a stack's services, beside its own: as many as a test wants, with settings of their own."""

import asyncio
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

import httpx2
import psutil

from support.stack import Stack, until

SECONDS_MAX = 60
CONNECTIONS = 50


def environment_of(stack: Stack, module: str) -> dict[str, str]:
    """Return the environment of a service of a local stack."""
    folder = str(stack.root / ".etlpay" / "run")
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            if process.cmdline()[1:] == ["-m", module] and process.cwd() == folder:
                found.append(process.environ())
    [environment] = found
    return dict(environment)


@contextmanager
def sibling(stack: Stack, module: str, **settings: str) -> Iterator[psutil.Popen]:
    """Run a service as the stack runs its own, except for `settings`; kill it afterwards."""
    process = psutil.Popen(
        [sys.executable, "-m", module],
        cwd=stack.root,
        env=environment_of(stack, module) | settings,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        for each in [*process.children(), process] if process.is_running() else []:
            each.kill()
        process.wait(SECONDS_MAX)


async def get(port: int, path: str) -> httpx2.Response | None:
    """Return the answer to a question, over a connection of its own; None: there was none."""
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=2) as client:
        try:
            return await client.get(path)
        except httpx2.TransportError:
            return None


async def ready(*ports: int) -> bool:
    """Return whether what answers at each of these ports is ready, within the time."""

    async def look() -> list[bool]:
        answers = [await get(port, "/readyz") for port in ports]
        return [answer is not None and answer.status_code == httpx2.codes.OK for answer in answers]

    return all(await until(look, all, seconds_max=SECONDS_MAX))


async def send(port: int, source: str, keys: Iterable[str]) -> list[int]:
    """Send events at once, each until it is acknowledged and over a connection of its own; return the statuses."""
    limits = httpx2.Limits(max_connections=CONNECTIONS, max_keepalive_connections=0)
    address = f"http://127.0.0.1:{port}"
    async with httpx2.AsyncClient(base_url=address, limits=limits, timeout=SECONDS_MAX) as client:

        async def send_one(key: str) -> int:
            event = {"source_name": source, "id": key, "payload": {"id": key, "value": 1}}

            async def once() -> int:
                try:
                    return (await client.post("/api/ingest", json=event)).status_code
                except httpx2.TransportError:
                    return 0

            return await until(once, lambda status: status in (200, 201, 202), seconds_max=SECONDS_MAX)

        return await asyncio.gather(*map(send_one, keys))


async def counted(port: int, metric: str) -> float:
    """Return a metric of the service that answers there, its labels added up."""
    answer = await get(port, "/metrics")
    assert answer is not None
    lines = (line for line in answer.text.splitlines() if line.startswith((f"{metric}{{", f"{metric} ")))
    return sum(float(line.split()[-1]) for line in lines)
