"""Several gateways behind one port: they share the load, and one that dies is replaced."""

import asyncio
import signal
import socket
from contextlib import AbstractContextManager, suppress

import psutil

from support.servers import free_port
from support.siblings import SECONDS_MAX, counted, ready, send, sibling
from support.stack import Stack

WORKERS = 2
EVENTS = 300


def workers(stack: Stack, port: int, ops_port: int) -> AbstractContextManager[psutil.Popen]:
    """Run two workers beside the stack's own gateway."""
    settings = {"ETLPAY_HTTP_PORT": str(port), "ETLPAY_HTTP_WORKERS": str(WORKERS), "ETLPAY_OPS_PORT": str(ops_port)}
    return sibling(stack, "api_gateway", **settings)


def free_ports() -> tuple[int, int]:
    """Return a free port, and another one with a free port right behind it."""
    while True:
        ops_port = free_port()
        # Bound, not called: a port may be taken by a connection, too.
        with socket.socket() as behind, suppress(OSError, OverflowError):
            behind.bind(("127.0.0.1", ops_port + 1))
            return free_port(), ops_port


async def test_workers_share_the_load_and_one_that_dies_is_replaced(local_stack: Stack, source: str) -> None:
    port, ops_port = free_ports()
    with workers(local_stack, port, ops_port) as parent:
        assert await ready(port, ops_port, ops_port + 1)
        first = await send(port, source, [f"first-{number}" for number in range(EVENTS)])
        shares = [await counted(ops_port + number, "etlpay_events_received_total") for number in range(WORKERS)]
        victim = parent.children()[0]
        sending = asyncio.ensure_future(send(port, source, [f"second-{number}" for number in range(EVENTS)]))
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
