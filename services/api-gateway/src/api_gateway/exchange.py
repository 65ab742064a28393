"""One HTTP exchange as ASGI sees it: reading a body within its limits, answering, and room for what is in hand."""

from collections.abc import AsyncIterator, Awaitable
from time import monotonic
from typing import Final, NamedTuple

from starlette.types import Message, Receive, Scope, Send

from api_gateway.headers import Headers, content_length
from api_gateway.problems import SLOW, TOO_LARGE, RefusalError, answer_status
from api_gateway.views import Answer
from shared.auth.authenticator import Caller
from shared.contracts.errors import EtlPayError, OverloadedError
from shared.patience import Patience

ADMITTED: Final = "etlpay.admitted"
"""Where an ASGI scope has the headers and the caller of an API request, for whoever serves it."""

_DRAIN_BYTES_MAX: Final = 128 * 1024 * 1024
_DRAIN_SECONDS_MAX: Final = 2.0
_CLOSE: Final = (b"connection", b"close")


class ClientGoneError(EtlPayError):
    """The client closed the connection; there is nobody to answer."""


class BodyLimits(NamedTuple):
    """The bounds of one body."""

    bytes_max: int
    pause_seconds_max: float
    seconds_max: float


REFUSED_LIMITS: Final = BodyLimits(bytes_max=0, pause_seconds_max=_DRAIN_SECONDS_MAX, seconds_max=_DRAIN_SECONDS_MAX)
"""Of a request that is refused by its head: nothing of its body is kept."""


class Room:
    """Room for what requests hold; where it is full a request is refused instead of taken."""

    def __init__(self, size: int) -> None:
        """`size` in whatever is taken: bytes, requests."""
        self._left = size

    def take(self, size: int) -> None:
        """Take room; give it back with `give`. Raises OverloadedError where there is not enough."""
        if size > self._left:
            raise OverloadedError("too much is in hand")
        self._left -= size

    def give(self, size: int) -> None:
        """Give room back."""
        self._left += size


class Exchange:
    """Reads the request's body and sends the answer; a body that was not read to its end is not left in the way."""

    def __init__(
        self, headers: Headers, receive: Receive, send: Send, *, limits: BodyLimits, patience: Patience
    ) -> None:
        """Nothing is read before `chunks` or `body`."""
        self.headers = headers
        self._receive = receive
        self._send = send
        self._limits = limits
        self._patience = patience
        self._at_end = False
        self._begun = False
        self._drainable = not headers.expect
        self._received = 0

    async def body(self, room: Room) -> tuple[bytes, int]:
        """Return the body and how much room it took, which is the caller's to give back.

        Raises:
            RefusalError: too large, too slow. OverloadedError: no room. ClientGoneError.
        """
        chunks: list[bytes] = []
        taken = 0
        deadline = self._begin()
        try:
            while not self._at_end:
                chunk = self._within_limit(await self._next(deadline))
                room.take(len(chunk))
                taken += len(chunk)
                chunks.append(chunk)
        except BaseException:
            room.give(taken)
            raise
        return b"".join(chunks), taken

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes. Raises RefusalError (too large, too slow) or ClientGoneError."""
        deadline = self._begin()
        while not self._at_end:
            chunk = self._within_limit(await self._next(deadline))
            if chunk:
                yield chunk

    def answer(self, answer: Answer, *more: tuple[str, str]) -> Awaitable[None]:
        """Send a whole answer."""
        return self.stream(answer, [answer.body], *more)

    async def stream(self, answer: Answer, parts: list[bytes], *more: tuple[str, str]) -> None:
        """Send an answer whose body is `parts`; a client that does not take them within the deadline is left alone."""
        if not self._at_end:
            await self._drain()
        headers = [(name.encode(), value.encode()) for name, value in (*answer.headers, *more)]
        headers += [
            (b"content-type", answer.media_type.encode()),
            (b"content-length", str(sum(map(len, parts))).encode()),
        ]
        if not self._at_end:
            headers.append(_CLOSE)
        messages: list[Message] = [
            {"type": "http.response.body", "body": part, "more_body": position < len(parts)}
            for position, part in enumerate(parts, 1)
        ]
        self._begun = True
        try:
            with self._patience.until(monotonic() + self._limits.pause_seconds_max):
                await self._send({"type": "http.response.start", "status": answer.status, "headers": headers})
                await self._send(messages[0])
            for message in messages[1:]:
                with self._patience.until(monotonic() + self._limits.pause_seconds_max):
                    await self._send(message)
        except TimeoutError:
            # The server closes a connection whose answer was not completed.
            return

    async def fail(self) -> None:
        """Answer that something went wrong here which nobody expected, unless an answer has begun."""
        if not self._begun:
            await send_answer(self._send, answer_status(500), close=True)

    def _begin(self) -> float:
        """Return until when the whole body must have come. Raises RefusalError where it says that it is too large."""
        length = content_length(self.headers)
        if length is not None and length > self._limits.bytes_max:
            raise self._too_large()
        return monotonic() + self._limits.seconds_max

    async def _next(self, deadline: float) -> bytes:
        try:
            with self._patience.until(min(deadline, monotonic() + self._limits.pause_seconds_max)):
                message = await self._receive()
        except TimeoutError as error:
            self._drainable = False
            raise RefusalError(SLOW, "The body took too long to arrive.") from error
        if message["type"] == "http.disconnect":
            raise ClientGoneError("the client is gone")
        self._at_end = not message.get("more_body", False)
        chunk: bytes = message.get("body", b"")
        return chunk

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
            except (RefusalError, ClientGoneError):
                return

    def _too_large(self) -> RefusalError:
        return RefusalError(TOO_LARGE, f"The body must not be larger than {self._limits.bytes_max} bytes.")


def admitted(scope: Scope) -> tuple[Headers, Caller]:
    """Return our headers of an API request that was let in, and who sends it."""
    found: tuple[Headers, Caller] = scope[ADMITTED]
    return found


async def send_answer(send: Send, answer: Answer, *, close: bool = False) -> None:
    """Send a whole answer to a request whose body nobody reads."""
    headers = [(name.encode(), value.encode()) for name, value in answer.headers]
    headers += [(b"content-type", answer.media_type.encode()), (b"content-length", str(len(answer.body)).encode())]
    if close:
        headers.append(_CLOSE)
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})
