"""Several worker processes behind one socket: one process of Python uses one core."""

import asyncio
import os
import socket
import sys
from asyncio.subprocess import Process
from contextlib import suppress
from typing import Final

import structlog

from api_gateway.settings import GatewaySettings
from shared.contracts.errors import FatalError
from shared.runtime.waiting import wait_any

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_PAUSE_SECONDS: Final = 1.0
# The exit codes of a process that cannot work here (lifecycle.py), or with these settings (startup.py).
_HOPELESS: Final = (1, 2)


async def serve_with_workers(settings: GatewaySettings, stopping: asyncio.Event) -> None:
    """Keep `http_workers` gateways running until `stopping`, then let them drain.

    They share the listening socket alone. It stays open in this process, so a connection that arrives while a worker
    restarts waits or goes to another worker. If this process is killed, the workers drain and end.

    Raises:
        FatalError: the port is taken, or a worker cannot work here.
    """
    with _listen(settings) as listener:
        ours, theirs = os.pipe()
        try:
            async with asyncio.TaskGroup() as group:
                for number in range(settings.http_workers):
                    group.create_task(_keep_running(settings, number, listener, ours, stopping))
        finally:
            os.close(ours)
            os.close(theirs)


def inherited_listener(settings: GatewaySettings) -> list[socket.socket] | None:
    """Return the listening socket that a worker inherits, or None if it opens its own."""
    return None if settings.http_socket is None else [socket.socket(fileno=settings.http_socket)]


def stop_with_parent(settings: GatewaySettings, stopping: asyncio.Event) -> None:
    """Let a worker set `stopping` when the process that started it is gone: its standard input ends then."""
    if settings.http_socket is not None:
        asyncio.get_running_loop().add_reader(sys.stdin.fileno(), stopping.set)


def pin_to_cpu(settings: GatewaySettings) -> None:
    """Pin this thread, and the threads and processes that it starts, to the CPU in the settings, if there is one.

    On few CPUs the scheduler moves the gateway between them and leaves one idle. Measured with two CPUs and 64
    connections: 9,700 instead of 8,000 requests a second.

    Raises:
        FatalError: this process cannot use that CPU, or the system cannot pin.
    """
    if settings.http_cpu is None:
        return
    try:
        os.sched_setaffinity(0, {settings.http_cpu})
    except (AttributeError, OSError) as error:
        raise FatalError(f"the gateway cannot keep to CPU {settings.http_cpu} (ETLPAY_HTTP_CPU)") from error


def _listen(settings: GatewaySettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.http_host else socket.AF_INET
    try:
        listener = socket.create_server(
            (settings.http_host, settings.http_port), family=family, backlog=settings.http_backlog
        )
    except OSError as error:
        raise FatalError(f"cannot listen on port {settings.http_port}") from error
    log.info("listening", host=settings.http_host, port=listener.getsockname()[1], workers=settings.http_workers)
    return listener


async def _keep_running(
    settings: GatewaySettings, number: int, listener: socket.socket, lifeline: int, stopping: asyncio.Event
) -> None:
    """Run one worker, and another where it ends, until `stopping`."""
    while not stopping.is_set():
        worker = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "api_gateway",
            stdin=lifeline,
            pass_fds=[listener.fileno()],
            env=_environment(settings, number, listener),
        )
        code = await _wait(worker, stopping)
        if stopping.is_set():
            return
        if code in _HOPELESS:
            raise FatalError("a worker cannot work here; its log says why")
        log.error("a worker ended; another one takes its place", code=code)
        await wait_any(stopping, seconds_max=_PAUSE_SECONDS)


def _environment(settings: GatewaySettings, number: int, listener: socket.socket) -> dict[str, str]:
    own = {"ETLPAY_HTTP_SOCKET": str(listener.fileno())}
    if settings.ops_port:
        # Each has metrics of its own, and a port of its own to ask for them.
        own["ETLPAY_OPS_PORT"] = str(settings.ops_port + number)
    if settings.http_cpu is not None:
        own["ETLPAY_HTTP_CPU"] = str(settings.http_cpu + number)
    return os.environ | own  # noqa: TID251 - a worker gets the settings of this process


async def _wait(worker: Process, stopping: asyncio.Event) -> int:
    """Return the exit code of a worker. It gets SIGTERM at `stopping`, and when this task is cancelled."""
    ended = asyncio.ensure_future(worker.wait())
    stop = asyncio.ensure_future(stopping.wait())
    try:
        await asyncio.wait([ended, stop], return_when=asyncio.FIRST_COMPLETED)
    finally:
        stop.cancel()
        if worker.returncode is None:
            with suppress(ProcessLookupError):
                worker.terminate()
        code = await asyncio.shield(ended)
    return code
