"""Admission: who calls, on which terms, and how much may be in memory at once."""

import asyncio
from collections.abc import Iterable
from typing import NamedTuple, TypeAlias, TypeVar

import grpc.aio
from google.rpc.status_pb2 import Status

from grpc_ingest import problems
from shared.auth.authenticator import Access, Caller, UnauthenticatedError
from shared.auth.scopes import RightMissingError
from shared.contracts.errors import EtlPayError, OverloadedError, UnavailableError

T = TypeVar("T")

_Metadata: TypeAlias = Iterable[tuple[str, str | bytes]]


class RejectedCallError(EtlPayError):
    """The call ends with a status of its own instead of a response."""

    def __init__(self, status: Status) -> None:
        """`status` is what the client gets."""
        super().__init__(status.message)
        self.status = status


class Terms(NamedTuple):
    """On which terms events are taken: who sends them, and whether the outcome is waited for."""

    caller: Caller
    wait: bool


def admit(context: grpc.aio.ServicerContext[bytes, T], access: Access) -> Terms:
    """Return the terms that a call's metadata ask for. Raises RejectedCallError (no valid API key that may send).

    No web page can call: a browser speaks no gRPC. So nothing is asked of host and origin here.
    """
    # Asked for once: the library makes it anew each time.
    metadata = context.invocation_metadata() or ()
    try:
        caller = access.admit(", ".join(_values(metadata, "authorization")))
        caller.check_right("send")
    except UnauthenticatedError as error:
        raise RejectedCallError(problems.unauthenticated()) from error
    except RightMissingError as error:
        raise RejectedCallError(problems.right_missing()) from error
    except UnavailableError as error:
        raise RejectedCallError(problems.retry_later(error)) from error
    return Terms(caller, _waits(metadata))


class Room:
    """Room for the requests in hand, in bytes: each takes several times its size until it is answered."""

    def __init__(self, bytes_max: int) -> None:
        """Alone a request may always come in, however large."""
        self._bytes_max = bytes_max
        self._taken = 0
        self._given = asyncio.Event()

    def take(self, size: int) -> None:
        """Take room for a request; `give` it back. Raises RejectedCallError where there is not enough."""
        if not self._fits(size):
            raise RejectedCallError(problems.retry_later(OverloadedError("too much is in hand")))
        self._taken += size

    def give(self, size: int) -> None:
        """Give room back."""
        self._taken -= size
        self._given.set()

    async def wait_for(self, size: int) -> None:
        """Return when there is room."""
        while not self._fits(size):
            self._given.clear()
            await self._given.wait()

    def _fits(self, size: int) -> bool:
        return self._taken == 0 or self._taken + size <= self._bytes_max


def _waits(metadata: _Metadata) -> bool:
    """Return False where the client prefers not to wait for the outcome (RFC 7240, `prefer: respond-async`)."""
    preferences = (
        preference.strip().lower() for value in _values(metadata, "prefer") for preference in value.split(",")
    )
    return "respond-async" not in preferences


def _values(metadata: _Metadata, name: str) -> list[str]:
    """Return every value that the client gave under this name."""
    return [value for key, value in metadata if key == name and isinstance(value, str)]
