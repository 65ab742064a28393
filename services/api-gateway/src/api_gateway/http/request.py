"""One HTTP request as ASGI has it: reads the body within its limits, and sends the response."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Coroutine
from time import monotonic
from typing import Any, Final, NamedTuple, TypeVar

from starlette.types import Message, Receive, Scope, Send

from api_gateway.http.headers import Headers, content_length
from api_gateway.http.problems import SLOW, TOO_LARGE, HttpProblem, status_response
from api_gateway.schemas import HttpResponse
from shared.auth.authenticator import Caller
from shared.contracts.errors import EtlPayError
from shared.runtime.limits import CapacityLimit
from shared.runtime.timeouts import Timeouts

ADMITTED: Final = "etlpay.admitted"
"""The key of an ASGI scope under which an endpoint finds the `Admitted` of its request."""

PIECE_BYTES_MAX: Final = 16 * 1024
"""Bytes of a response that are sent at once; the next piece waits until the client has read most of this one."""

_DRAIN_BYTES_MAX: Final = 128 * 1024 * 1024
_DRAIN_SECONDS_MAX: Final = 2.0
_CLOSE: Final = (b"connection", b"close")


class ClientGoneError(EtlPayError):
    """The client closed the connection; nobody reads a response."""


class BodyLimits(NamedTuple):
    """The limits of one body; `bytes_per_second_min` applies after waits of `pause_seconds_max`. 0: none."""

    bytes_max: int
    pause_seconds_max: float
    seconds_max: float
    bytes_per_second_min: int = 0


class Admitted(NamedTuple):
    """An admitted API request: its headers, its caller, and the name under which limits count it."""

    headers: Headers
    caller: Caller
    counted_as: str


_Returned = TypeVar("_Returned")

REFUSED_LIMITS: Final = BodyLimits(bytes_max=0, pause_seconds_max=_DRAIN_SECONDS_MAX, seconds_max=_DRAIN_SECONDS_MAX)
"""For a request that is refused because of its head: nothing of its body is kept."""


class RequestStream:
    """Reads the body of a request and sends the response. A body that was not read to its end is drained first."""

    def __init__(
        self, headers: Headers, receive: Receive, send: Send, *, limits: BodyLimits, timeouts: Timeouts
    ) -> None:
        """Nothing is read before `chunks` or `body`."""
        self.headers = headers
        self._receive = receive
        self._send = send
        self._limits = limits
        self._timeouts = timeouts
        self._at_end = False
        self._begun = False
        self._drainable = not headers.expect
        self._received = 0
        self._waited_seconds = 0.0

    async def body(self, capacity: CapacityLimit, counted_as: str) -> tuple[bytes, int]:
        """Return the body, and how much of `capacity` it took; the caller must release that.

        Raises:
            HttpProblem: too large, too slow. OverloadedError: not enough capacity. ClientGoneError.
        """
        chunks: list[bytes] = []
        taken = 0
        deadline = self._begin()
        try:
            while not self._at_end:
                chunk = self._within_limit(await self._next(deadline))
                if chunk:
                    capacity.acquire(counted_as, len(chunk))
                    taken += len(chunk)
                    chunks.append(chunk)
        except BaseException:
            if taken:
                capacity.release(counted_as, taken)
            raise
        return b"".join(chunks), taken

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body as it arrives. Raises HttpProblem (too large, too slow) or ClientGoneError."""
        deadline = self._begin()
        while not self._at_end:
            chunk = self._within_limit(await self._next(deadline))
            if chunk:
                yield chunk

    async def while_connected(self, work: Coroutine[Any, Any, _Returned]) -> _Returned:
        """Return what `work` returns, once the body was read.

        Raises ClientGoneError, and cancels the work, when the client goes before.
        """
        working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(self._gone())
        try:
            await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                return working.result()
            raise ClientGoneError("the client is gone")
        finally:
            working.cancel()
            leaving.cancel()
            await asyncio.wait((working, leaving))

    def respond(self, response: HttpResponse, *more: tuple[str, str]) -> Awaitable[None]:
        """Send a whole response."""
        return self.respond_in_parts(response, [response.body], *more)

    async def respond_in_parts(self, response: HttpResponse, parts: list[bytes], *more: tuple[str, str]) -> None:
        """Send a response whose body is `parts`; of a large one, return when the client has read nearly all of it.

        The protocol closes the connection of a client that does not read.
        """
        if not self._at_end:
            await self._drain()
        headers = [(name.encode(), value.encode()) for name, value in (*response.headers, *more)]
        size = sum(map(len, parts))
        headers += [(b"content-type", response.media_type.encode()), (b"content-length", str(size).encode())]
        if not self._at_end:
            headers.append(_CLOSE)
        self._begun = True
        await self._send({"type": "http.response.start", "status": response.status, "headers": headers})
        if size <= PIECE_BYTES_MAX:
            await self._send({"type": "http.response.body", "body": b"".join(parts)})
        else:
            for part in parts:
                await send_pieces(self._send, part)
            await self._send({"type": "http.response.body"})

    async def fail(self) -> None:
        """Respond with 500, unless a response has begun."""
        if not self._begun:
            await send_response(self._send, status_response(500), close=True)

    def _begin(self) -> float:
        """Return the deadline of the whole body. Raises HttpProblem if its announced length is too large."""
        length = content_length(self.headers)
        if length is not None and length > self._limits.bytes_max:
            raise self._too_large()
        return monotonic() + self._limits.seconds_max

    async def _next(self, deadline: float) -> bytes:
        began = monotonic()
        until = min(deadline, began + self._limits.pause_seconds_max)
        if self._limits.bytes_per_second_min:
            until = min(until, began + self._seconds_left())
        try:
            with self._timeouts.until(until):
                message = await self._receive()
        except TimeoutError as error:
            self._drainable = False
            raise HttpProblem(SLOW, "The body took too long to arrive.") from error
        if message["type"] == "http.disconnect":
            raise ClientGoneError("the client is gone")
        self._at_end = not message.get("more_body", False)
        if not self._at_end:
            self._waited_seconds += monotonic() - began
        chunk: bytes = message.get("body", b"")
        return chunk

    def _seconds_left(self) -> float:
        """Return how many seconds a slow body has left; time in which the gateway did not read does not count."""
        earned = self._received / self._limits.bytes_per_second_min
        return self._limits.pause_seconds_max + earned - self._waited_seconds

    def _within_limit(self, chunk: bytes) -> bytes:
        self._received += len(chunk)
        if self._received > self._limits.bytes_max:
            raise self._too_large()
        return chunk

    async def _gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def _drain(self) -> None:
        """Read and drop the rest, within limits: most clients read a response only after they have sent everything.

        If the client goes meanwhile, the server drops the response.
        """
        dropped = 0
        deadline = monotonic() + _DRAIN_SECONDS_MAX
        while self._drainable and not self._at_end and dropped <= _DRAIN_BYTES_MAX:
            try:
                dropped += len(await self._next(deadline))
            except (HttpProblem, ClientGoneError):
                return

    def _too_large(self) -> HttpProblem:
        return HttpProblem(TOO_LARGE, f"The body must not be larger than {self._limits.bytes_max} bytes.")


def admitted(scope: Scope) -> Admitted:
    """Return the admitted API request of an ASGI scope."""
    found: Admitted = scope[ADMITTED]
    return found


async def send_pieces(send: Send, body: bytes) -> None:
    """Send a part of a body in pieces; more of the body, or its end, must follow."""
    for start in range(0, len(body), PIECE_BYTES_MAX):
        piece = body[start : start + PIECE_BYTES_MAX]
        await send({"type": "http.response.body", "body": piece, "more_body": True})


def sending_pieces(send: Send) -> Send:
    """Return a `send` that sends large bodies in pieces, so that little of what a client does not read is in memory."""

    async def forward(message: Message) -> None:
        body = message.get("body", b"")
        if len(body) > PIECE_BYTES_MAX:
            await send_pieces(send, body)
            message = {"type": message["type"], "more_body": message.get("more_body", False)}
        await send(message)

    return forward


async def send_response(send: Send, response: HttpResponse, *, close: bool = False) -> None:
    """Send a whole response to a request whose body is not read."""
    headers = [(name.encode(), value.encode()) for name, value in response.headers]
    headers += [(b"content-type", response.media_type.encode()), (b"content-length", str(len(response.body)).encode())]
    if close:
        headers.append(_CLOSE)
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": response.body})
