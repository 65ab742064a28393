"""The TCP ports of a local stack: those of the run before, else the usual ones, else free ones."""

from __future__ import annotations

import contextlib
import random
import socket
from collections.abc import Callable, Mapping
from typing import TypeAlias

HOST = "127.0.0.1"
# Public ports keep their well-known numbers where they can. A port without a number here is private: any free one.
PREFERRED: dict[str, int | None] = {
    "http": 8000,
    "grpc": 50051,
    "amqp": 5672,
    "postgres": None,
    "redis": None,
    "epmd": None,
    "erlang": None,
    "processing": 50052,
    "grpc-ingest-ops": 9101,
    "file-watcher-ops": 9102,
    "queue-consumer-ops": 9103,
    "processor-ops": 9104,
    # The last, because the workers of a gateway take those that follow.
    "api-gateway-ops": 9105,
}
# Below the range from which Linux takes the ports of outgoing connections, so that a restarted server
# finds its port free.
_FREE_FIRST, _FREE_LAST = 20_000, 32_000
_TRIES_MAX = 200


Hold: TypeAlias = Callable[[contextlib.ExitStack, int], bool]


class NoPortError(Exception):
    """No port is free on this machine."""


class PortTakenError(Exception):
    """A port that the operator asked for is in use by somebody else."""

    def __init__(self, name: str, port: int) -> None:
        """Keep which port was asked for."""
        super().__init__(f"port {port}, asked for as {name}, is already in use on {HOST}")


def choose_ports(
    demanded: Mapping[str, int | None],
    previous: Mapping[str, int],
    hold: Hold,
    preferred: Mapping[str, int | None] = PREFERRED,
) -> dict[str, int]:
    """Return a port for every name of `preferred`, each free at this moment and none twice.

    Raises PortTakenError when one of `demanded` is not free. `hold` tells whether a port is free, and takes it until
    all are chosen: `listen`, or what `claiming` returns.
    """
    ports: dict[str, int] = {}
    with contextlib.ExitStack() as held:
        # The requested ports first, so that no port that we choose is one of them.
        for name in preferred:
            port = demanded.get(name)
            if port is not None and not hold(held, port):
                raise PortTakenError(name, port)
            if port is not None:
                ports[name] = port
        for name, usual in preferred.items():
            if name not in ports:
                ports[name] = _choose(held, hold, (previous.get(name), usual))
    return ports


def _choose(held: contextlib.ExitStack, hold: Hold, wished: tuple[int | None, ...]) -> int:
    for port in wished:
        if port is not None and hold(held, port):
            return port
    for _ in range(_TRIES_MAX):
        port = random.randint(_FREE_FIRST, _FREE_LAST)  # noqa: S311 - nothing depends on it being unpredictable
        if hold(held, port):
            return port
    raise NoPortError


def listen(held: contextlib.ExitStack, port: int) -> bool:
    """Bind the port until every port is chosen, so that no other name gets it."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    # A port in TIME_WAIT is free for a server; one that somebody listens on still refuses.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen(1)  # two binds with SO_REUSEADDR succeed; only one of them can listen
    except OSError:
        listener.close()
        return False
    held.enter_context(listener)
    return True


def claiming(claims: contextlib.ExitStack) -> Hold:
    """Return a hold that keeps the ports from other stacks until `claims` closes.

    A stack binds its ports one after the other, seconds after it chose them; meanwhile others would find them free.
    """

    def hold(held: contextlib.ExitStack, port: int) -> bool:
        with contextlib.ExitStack() as attempt:
            if not (_claim(attempt, port) and listen(held, port)):
                return False
            claims.enter_context(attempt.pop_all())
            return True

    return hold


def _claim(claimed: contextlib.ExitStack, port: int) -> bool:
    """Take the name of a port, the same for all users, as the ports are; the kernel frees it with its process."""
    name = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # A leading NUL: a name of the network's namespace, and no file.
        name.bind(f"\0etlpay/port/{port}")
    except OSError:
        name.close()
        return False
    claimed.enter_context(name)
    return True
