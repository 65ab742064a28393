"""The context of a call, and the capacity that calls hold until their answers are sent."""

import asyncio
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Any, NamedTuple, TypeAlias

import grpc.aio

from grpc_ingest import problems
from shared.auth.authenticator import Access, Caller, UnauthenticatedError
from shared.auth.scopes import RightMissingError
from shared.contracts.errors import UnavailableError
from shared.runtime.limits import CapacityLimit, Holding
from shared.runtime.rpc_health import peer_of

_Metadata: TypeAlias = Iterable[tuple[str, str | bytes]]
_Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]


class CallContext(NamedTuple):
    """Who calls, the name under which limits count the call, and whether it waits for the results."""

    caller: Caller
    counted_as: str
    wait: bool


def admit(context: _Context, access: Access) -> CallContext:
    """Return the context of a call. Raises RpcAbort where its metadata hold no valid API key that may send.

    Host and origin are not checked: a browser speaks no gRPC, so no web page can call.
    """
    # Read once: the library makes it anew each time.
    metadata = context.invocation_metadata() or ()
    try:
        peer = "" if access.asks_for_keys else peer_of(context)
        caller = access.admit(", ".join(_values(metadata, "authorization")), peer)
        caller.check_right("send")
    except UnauthenticatedError as error:
        raise problems.unauthenticated() from error
    except RightMissingError as error:
        raise problems.right_missing() from error
    except UnavailableError as error:
        raise problems.retry_later(error) from error
    return CallContext(caller, caller.name or peer, _waits(metadata))


class Calls:
    """Limits the calls and the bytes of their requests, for all callers together and for each.

    A call is over when its answer is sent. The connection of a client that does not read its answer is closed.
    """

    def __init__(
        self,
        *,
        calls_max: int,
        requests_bytes_max: int,
        share: float,
        send_seconds_max: float,
        close_connection: Callable[[str], None],
    ) -> None:
        """`close_connection` ends the connection of a peer, as a call's context names it."""
        self._calls = CapacityLimit(calls_max, share=share)
        self._requests = CapacityLimit(requests_bytes_max, share=share)
        self._send_seconds_max = send_seconds_max
        self._close_connection = close_connection
        self._serving = 0
        self._idle = asyncio.Event()
        self._idle.set()
        # The answered calls, and when the answer must be sent; the earliest is first.
        self._unsent: dict[_Context, float] = {}

    def begin(self, context: _Context, counted_as: str) -> "Call":
        """Count a call, and return what holds the capacity of its requests. Raises OverloadedError beyond the limit."""
        self._calls.acquire(counted_as)
        call = Call(self._requests, counted_as, self)
        context.add_done_callback(call.finish)  # type: ignore[arg-type] # the stubs name its argument
        return call

    def finished(self, context: _Context, counted_as: str) -> None:
        """Release a call: its answer was sent, or its client is gone."""
        self._unsent.pop(context, None)
        self._calls.release(counted_as)

    def serve(self) -> None:
        """Count a call as being served."""
        self._serving += 1
        self._idle.clear()

    def answered(self, context: _Context, call: "Call | None") -> None:
        """Count a call as answered: its answer must be sent in time. `call` is None where `begin` refused it."""
        if call is not None and not call.over:
            self._unsent[context] = monotonic() + self._send_seconds_max
        self._serving -= 1
        if self._serving == 0:
            self._idle.set()

    def close_unread(self) -> None:
        """Close the connections of clients that do not read an answer in time."""
        now = monotonic()
        late = []
        for context, deadline in self._unsent.items():
            if deadline > now:
                break
            late.append(context)
        for context in late:
            del self._unsent[context]
            self.close(context)

    def close(self, context: _Context) -> None:
        """Close the connection of a client that does not read its answers: the call cannot end otherwise."""
        self._close_connection(context.peer())

    async def idle(self) -> None:
        """Return when no call is being served."""
        await self._idle.wait()


class Call(Holding):
    """One call, and the capacity that its requests hold."""

    __slots__ = ("_calls", "_counted_as", "over")

    def __init__(self, requests: CapacityLimit, counted_as: str, calls: Calls) -> None:
        """Use `Calls.begin`."""
        super().__init__(requests, counted_as)
        self._calls = calls
        self._counted_as = counted_as
        self.over = False

    def finish(self, context: _Context) -> None:
        """Release what the call holds. The library calls this when the call is over."""
        self.over = True
        self.release()
        self._calls.finished(context, self._counted_as)


def _waits(metadata: _Metadata) -> bool:
    """Return False where the client prefers not to wait for the result (RFC 7240, `prefer: respond-async`)."""
    preferences = (
        preference.strip().lower() for value in _values(metadata, "prefer") for preference in value.split(",")
    )
    return "respond-async" not in preferences


def _values(metadata: _Metadata, name: str) -> list[str]:
    """Return every value that the client gave under this name."""
    return [value for key, value in metadata if key == name and isinstance(value, str)]
