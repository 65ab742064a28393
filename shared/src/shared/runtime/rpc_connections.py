"""Counts and closes the connections of a gRPC server by their sockets: the library can do neither.

Linux only, as the services are: the sockets are those in `/proc/self/fd` whose local port is the server's.
"""

import asyncio
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import unquote

import structlog

from shared.runtime.limits import network_of
from shared.runtime.waiting import wait_any

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_DESCRIPTORS: Final = Path("/proc/self/fd")
_LOOK_SECONDS: Final = 1.0


class RpcConnections:
    """Closes the connections of `close`, and those beyond a limit: the newest of the caller that has most."""

    def __init__(self, number_max: int) -> None:
        """Run `keep_bounded`."""
        self._number_max = number_max
        self._to_close: set[str] = set()
        self._asked = asyncio.Event()

    def close(self, peer: str) -> None:
        """Close the connection of a peer, named as in the context of a call: `ipv4:192.0.2.1:50000`."""
        self._to_close.add(unquote(peer))
        self._asked.set()

    async def keep_bounded(self, port: int) -> None:
        """Limit the connections of a port, until cancelled."""
        while True:
            await wait_any(self._asked, seconds_max=_LOOK_SECONDS)
            # Not every descriptor is a socket: with so few of them there are not too many connections.
            if not self._asked.is_set() and sum(1 for _ in _DESCRIPTORS.iterdir()) <= self._number_max:
                continue
            self._asked.clear()
            asked, self._to_close = self._to_close, set()
            # Some thousand connections take a tenth of a second.
            if closed := await asyncio.to_thread(_close, port, asked, self._number_max):
                log.warning("connections closed: too many, or clients that read no responses", number=closed)


class _Connection(NamedTuple):
    """The descriptor of a connection, and its peer."""

    descriptor: int
    peer: str
    network: str


def _close(port: int, asked: set[str], number_max: int) -> int:
    """Close the connections of a port to the peers `asked`, and those beyond a number; return how many."""
    found = _connections(port)
    chosen = [one for one in found if one.peer in asked]
    chosen += _beyond([one for one in found if one.peer not in asked], number_max)
    for one in chosen:
        _shut_down(one, port)
    return len(chosen)


def _connections(port: int) -> list[_Connection]:
    """Return the connections of a port, oldest descriptor first."""
    found = []
    for descriptor in sorted(int(entry.name) for entry in _DESCRIPTORS.iterdir()):
        with _copy_of(descriptor) as copy:
            connection = copy and _connection(descriptor, copy, port)
        if connection:
            found.append(connection)
    return found


def _shut_down(connection: _Connection, port: int) -> None:
    """Shut down a connection if it is still open. To the library it looks closed by the client."""
    with _copy_of(connection.descriptor) as copy, suppress(OSError):
        if copy and _connection(connection.descriptor, copy, port) == connection:
            copy.shutdown(socket.SHUT_RDWR)


@contextmanager
def _copy_of(descriptor: int) -> Iterator[socket.socket | None]:
    """Yield a duplicate, which stays valid when the original is closed and its number used again. None: no socket."""
    try:
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            yield None
            return
        copy = socket.socket(fileno=os.dup(descriptor))
    except OSError:
        yield None
        return
    with copy:
        yield copy


def _connection(descriptor: int, candidate: socket.socket, port: int) -> _Connection | None:
    try:
        if candidate.family not in (socket.AF_INET, socket.AF_INET6) or candidate.getsockname()[1] != port:
            return None
        host, number = candidate.getpeername()[:2]
    except OSError:
        return None
    # An IPv4 client of a socket for both is an IPv4 client.
    host = host.removeprefix("::ffff:")
    peer = f"ipv6:[{host}]:{number}" if ":" in host else f"ipv4:{host}:{number}"
    return _Connection(descriptor, peer, network_of(host))


def _beyond(connections: list[_Connection], number_max: int) -> list[_Connection]:
    """Return the newest connections of the network that has most, until so many are left."""
    by_network: dict[str, list[_Connection]] = {}
    for one in connections:
        by_network.setdefault(one.network, []).append(one)
    return [max(by_network.values(), key=len).pop() for _ in range(len(connections) - number_max)]
