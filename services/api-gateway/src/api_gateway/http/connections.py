"""The open connections: how many, from which address, and which idle one is closed for a new one."""

from collections.abc import Hashable
from typing import Protocol

from shared.contracts.errors import OverloadedError
from shared.runtime.limits import CapacityLimit


class Connection(Protocol, Hashable):
    """A connection that can be closed for another one."""

    def shed(self) -> None:
        """Close."""


class Connections:
    """A limit of connections that addresses share. At the limit the longest idle connection is closed for a new one.

    It is one of the same address if that has an idle one, else one of the address that holds most, if that holds more.
    """

    def __init__(self, number_max: int, *, share: float) -> None:
        """One address may hold at most `share` of `number_max`."""
        self._places = CapacityLimit(number_max, share=share)
        self._open: set[Connection] = set()
        # By address; each has its oldest first.
        self._idle: dict[str, dict[Connection, None]] = {}

    def add(self, connection: Connection, peer: str) -> None:
        """Count a connection from `peer`. Raises OverloadedError at the limit."""
        while True:
            try:
                self._places.acquire(peer)
            except OverloadedError:
                if not self._shed_idle(peer):
                    raise
            else:
                self._open.add(connection)
                return

    def remove(self, connection: Connection, peer: str) -> None:
        """Forget a connection; one that is not counted is ignored."""
        if connection in self._open:
            self._open.discard(connection)
            self._places.release(peer)
            self.set_busy(connection, peer)

    def set_idle(self, connection: Connection, peer: str) -> None:
        """Note that a connection waits for its next request."""
        if connection in self._open:
            self._idle.setdefault(peer, {})[connection] = None

    def set_busy(self, connection: Connection, peer: str) -> None:
        """Note that a request comes on a connection."""
        idle = self._idle.get(peer)
        if idle is not None:
            idle.pop(connection, None)
            if not idle:
                del self._idle[peer]

    def _shed_idle(self, peer: str) -> bool:
        """Close an idle connection; return whether one was closed."""
        owner = peer
        if peer not in self._idle and self._places.free <= 0 and self._idle:
            owner = max(self._idle, key=self._places.held)
            if self._places.held(owner) <= self._places.held(peer):
                return False
        if owner not in self._idle:
            return False
        oldest = next(iter(self._idle[owner]))
        self.remove(oldest, owner)
        oldest.shed()
        return True
