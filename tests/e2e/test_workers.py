"""Several gateways behind one port: they share the load, and one that dies is replaced."""

import asyncio
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
import psutil

from support.servers import free_port
from support.stack import Stack, until

WORKERS = 2
EVENTS = 300
SECONDS_MAX = 20
HIGHEST_PORT = 65_535


def gateway_environment(stack: Stack) -> dict[str, str]:
    """Return what the stack's own gateway was told."""
    folder = str(stack.root / ".etlpay" / "run")
    [environment] = [
        process.environ()
        for process in psutil.process_iter()
        if process.cmdline()[1:] == ["-m", "api_gateway"] and process.cwd() == folder
    ]
    return dict(environment)


@contextmanager
def workers(stack: Stack, port: int, ops_port: int) -> Iterator[psutil.Popen]:
    """Run two workers beside the stack's own gateway."""
    told = {"ETLPAY_HTTP_PORT": str(port), "ETLPAY_HTTP_WORKERS": str(WORKERS), "ETLPAY_OPS_PORT": str(ops_port)}
    parent = psutil.Popen(
        [sys.executable, "-m", "api_gateway"],
        cwd=stack.root,
        env=gateway_environment(stack) | told,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    family: list[psutil.Process] = [parent]
    try:
        yield parent
        family += parent.children() if parent.is_running() else []
    finally:
        for process in family:
            if process.is_running():
                process.kill()
        parent.wait(SECONDS_MAX)


def free_ports() -> tuple[int, int]:
    """Return a free port, and another one with a free port right behind it."""
    while True:
        ops_port = free_port()
        with socket.socket() as behind:
            if ops_port < HIGHEST_PORT and behind.connect_ex(("127.0.0.1", ops_port + 1)):
                return free_port(), ops_port


async def get(port: int, path: str) -> httpx2.Response | None:
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=2) as client:
        try:
            return await client.get(path)
        except httpx2.TransportError:
            return None


async def ready(*ports: int) -> bool:
    """Tell whether a gateway behind each of these ports is ready, within the time."""

    async def look() -> list[bool]:
        answers = [await get(port, "/readyz") for port in ports]
        return [answer is not None and answer.status_code == httpx2.codes.OK for answer in answers]

    return all(await until(look, all, seconds_max=SECONDS_MAX))


async def send(port: int, source: str, key: str) -> int:
    """Send an event until it is acknowledged, over a connection of its own each time; return the status."""
    event = {"source_name": source, "id": key, "payload": {"value": 1}}

    async def once() -> int:
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=10) as client:
            try:
                return (await client.post("/api/ingest", json=event)).status_code
            except httpx2.TransportError:
                return 0

    return await until(once, lambda status: status in (200, 201, 202), seconds_max=SECONDS_MAX)


async def received(ops_port: int) -> float:
    """Return how many events a worker has counted."""
    answer = await get(ops_port, "/metrics")
    assert answer is not None
    lines = [line for line in answer.text.splitlines() if line.startswith("etlpay_events_received_total{")]
    return sum(float(line.split()[-1]) for line in lines if 'channel="http"' in line)


async def test_workers_share_the_load_and_one_that_dies_is_replaced(local_stack: Stack, source: str) -> None:
    port, ops_port = free_ports()
    with workers(local_stack, port, ops_port) as parent:
        assert await ready(port, ops_port, ops_port + 1)
        first = await asyncio.gather(*(send(port, source, f"first-{number}") for number in range(EVENTS)))
        shares = [await received(ops_port + number) for number in range(WORKERS)]
        victim = parent.children()[0]
        sending = asyncio.gather(*(send(port, source, f"second-{number}") for number in range(EVENTS)))
        await asyncio.sleep(0.2)
        victim.kill()
        second = await sending
        replaced = await ready(ops_port, ops_port + 1)
        family = parent.children()
        parent.send_signal(signal.SIGTERM)
        code = await asyncio.to_thread(parent.wait, SECONDS_MAX)

    assert set(first) <= {201, 202}
    assert sum(shares) == EVENTS
    assert all(share > 0 for share in shares)
    assert set(second) <= {200, 201, 202}
    assert replaced
    assert victim.pid not in {process.pid for process in family}
    assert len(family) == WORKERS
    assert code == 0
    assert not any(process.is_running() for process in family)
    await local_stack.events_of(source, count=2 * EVENTS)


async def test_workers_end_when_nobody_looks_after_them_any_more(local_stack: Stack) -> None:
    port, ops_port = free_ports()
    with workers(local_stack, port, ops_port) as parent:
        assert await ready(port, ops_port, ops_port + 1)
        family = parent.children()
        parent.kill()
        _, alive = await asyncio.to_thread(psutil.wait_procs, family, SECONDS_MAX)

    assert len(family) == WORKERS
    assert alive == []


async def test_workers_that_cannot_work_here_are_not_started_again_and_again(local_stack: Stack) -> None:
    """The second worker's operator port is that of the stack's own gateway."""
    taken = int(local_stack.http.rsplit(":", 1)[1])
    with workers(local_stack, free_port(), taken - 1) as parent:
        code = await asyncio.to_thread(parent.wait, SECONDS_MAX)

    assert code == 1
