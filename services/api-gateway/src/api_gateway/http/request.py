"""One HTTP request as ASGI has it: reads the body within its limits, and sends the response."""

from collections.abc import AsyncIterator, Awaitable
from time import monotonic
from typing import Final, NamedTuple

from starlette.types import Message, Receive, Scope, Send

from api_gateway.http.headers import Headers, content_length
from api_gateway.http.problems import SLOW, TOO_LARGE, HttpProblem, status_response
from api_gateway.schemas import HttpResponse
from shared.auth.authenticator import Caller
from shared.contracts.errors import EtlPayError
from shared.runtime.limits import CapacityLimit
from shared.runtime.timeouts import Timeouts

ADMITTED: Final = "etlpay.admitted"
"""Where an ASGI scope has what is known of an API request that was let in, for its endpoint."""

PIECE_BYTES_MAX: Final = 16 * 1024
"""What is sent of an answer at once: the next piece waits until the client has read most of this one."""

_DRAIN_BYTES_MAX: Final = 128 * 1024 * 1024
_DRAIN_SECONDS_MAX: Final = 2.0
_CLOSE: Final = (b"connection", b"close")


class ClientGoneError(EtlPayError):
    """The client closed the connection; there is nobody to answer."""


class BodyLimits(NamedTuple):
    """The bounds of one body; `bytes_per_second_min` counts once it was waited for `pause_seconds_max`. 0: none."""

    bytes_max: int
    pause_seconds_max: float
    seconds_max: float
    bytes_per_second_min: int = 0


class Admitted(NamedTuple):
    """An API request that was let in: our headers of it, who sends it, and as whom its use of limits is counted."""

    headers: Headers
    caller: Caller
    counted_as: str


REFUSED_LIMITS: Final = BodyLimits(bytes_max=0, pause_seconds_max=_DRAIN_SECONDS_MAX, seconds_max=_DRAIN_SECONDS_MAX)
"""Of a request that is refused by its head: nothing of its body is kept."""


class RequestStream:
    """Reads the request's body and sends the answer; a body that was not read to its end is not left in the way."""

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
        """Return the body, and how much of `capacity` it took, which is the user's to give back.

        Raises:
            HttpProblem: too large, too slow. OverloadedError: there is not enough. ClientGoneError.
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
        """Yield the body as it comes. Raises HttpProblem (too large, too slow) or ClientGoneError."""
        deadline = self._begin()
        while not self._at_end:
            chunk = self._within_limit(await self._next(deadline))
            if chunk:
                yield chunk

    def respond(self, response: HttpResponse, *more: tuple[str, str]) -> Awaitable[None]:
        """Send a whole response."""
        return self.respond_in_parts(response, [response.body], *more)

    async def respond_in_parts(self, response: HttpResponse, parts: list[bytes], *more: tuple[str, str]) -> None:
        """Send a response whose body is `parts`; of a large one, return when the client has read nearly all of it.

        The server ends the connection of a client that does not read.
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
        """Answer 500, unless an answer has begun."""
        if not self._begun:
            await send_response(self._send, status_response(500), close=True)

    def _begin(self) -> float:
        """Return until when the whole body must have come. Raises HttpProblem where it says that it is too large."""
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
        """Return how long more may be waited for a body that comes too slowly; our own waiting does not count."""
        earned = self._received / self._limits.bytes_per_second_min
        return self._limits.pause_seconds_max + earned - self._waited_seconds

    def _within_limit(self, chunk: bytes) -> bytes:
        self._received += len(chunk)
        if self._received > self._limits.bytes_max:
            raise self._too_large()
        return chunk

    async def _drain(self) -> None:
        """Read and drop what is left, within limits: most clients only read an answer once they have sent all.

        A client that goes meanwhile is no surprise: the server drops the answer.
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
    """Return what is known of an API request that was let in."""
    found: Admitted = scope[ADMITTED]
    return found


async def send_pieces(send: Send, body: bytes) -> None:
    """Send what may be much; more of the body, or its end, has to follow."""
    for start in range(0, len(body), PIECE_BYTES_MAX):
        piece = body[start : start + PIECE_BYTES_MAX]
        await send({"type": "http.response.body", "body": piece, "more_body": True})


def sending_pieces(send: Send) -> Send:
    """Return a `send` that hands large bodies on in pieces, so that what a client does not read is not all with us."""

    async def forward(message: Message) -> None:
        body = message.get("body", b"")
        if len(body) > PIECE_BYTES_MAX:
            await send_pieces(send, body)
            message = {"type": message["type"], "more_body": message.get("more_body", False)}
        await send(message)

    return forward


async def send_response(send: Send, response: HttpResponse, *, close: bool = False) -> None:
    """Send a whole answer to a request whose body nobody reads."""
    headers = [(name.encode(), value.encode()) for name, value in response.headers]
    headers += [(b"content-type", response.media_type.encode()), (b"content-length", str(len(response.body)).encode())]
    if close:
        headers.append(_CLOSE)
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": response.body})
