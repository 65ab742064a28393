"""Several workers behind one socket, where one core is not enough: a process of Python uses one."""

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

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_PAUSE_SECONDS: Final = 1.0
# The exit codes of a process that cannot work here (lifecycle.py), or with these settings (startup.py).
_HOPELESS: Final = (1, 2)


async def serve_with_workers(settings: GatewaySettings, stopping: asyncio.Event) -> None:
    """Keep `http_workers` gateways running until `stopping`, then let them drain.

    They share nothing but the listening socket, which stays open here: a connection that comes while one of them is
    started again waits or goes to another. Where this process dies without a word, they drain and end.

    Raises:
        FatalError: the port is taken, or a worker says that it cannot work here.
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
    """Return the socket that a worker was given, or None where it makes its own."""
    return None if settings.http_socket is None else [socket.socket(fileno=settings.http_socket)]


def stop_when_left_alone(settings: GatewaySettings, stopping: asyncio.Event) -> None:
    """Let a worker set `stopping` once the process that started it is gone: its standard input ends then."""
    if settings.http_socket is not None:
        asyncio.get_running_loop().add_reader(sys.stdin.fileno(), stopping.set)


def keep_to_cpu(settings: GatewaySettings) -> None:
    """Let this thread, and all that it starts, run on the CPU of the settings alone, if one is given.

    Where few CPUs are shared with what the gateway calls, the scheduler moves it to and fro, and leaves one idle. Two
    CPUs, 64 connections: 9,700 instead of 8,000 requests a second.

    Raises:
        FatalError: there is no such CPU for this process, or no way to keep to one.
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
        with suppress(TimeoutError):
            async with asyncio.timeout(_PAUSE_SECONDS):
                await stopping.wait()


def _environment(settings: GatewaySettings, number: int, listener: socket.socket) -> dict[str, str]:
    own = {"ETLPAY_HTTP_SOCKET": str(listener.fileno())}
    if settings.ops_port:
        # Each has metrics of its own, and a port of its own to ask for them.
        own["ETLPAY_OPS_PORT"] = str(settings.ops_port + number)
    if settings.http_cpu is not None:
        own["ETLPAY_HTTP_CPU"] = str(settings.http_cpu + number)
    return os.environ | own  # noqa: TID251 - what a worker is told, is what this process was told


async def _wait(worker: Process, stopping: asyncio.Event) -> int:
    """Return the exit code of a worker, which is told to drain at `stopping`, and where this task is cancelled."""
    ended = asyncio.ensure_future(worker.wait())
    told = asyncio.ensure_future(stopping.wait())
    try:
        await asyncio.wait([ended, told], return_when=asyncio.FIRST_COMPLETED)
    finally:
        told.cancel()
        if worker.returncode is None:
            with suppress(ProcessLookupError):
                worker.terminate()
        code = await asyncio.shield(ended)
    return code
