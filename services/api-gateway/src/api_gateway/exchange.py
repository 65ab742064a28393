"""One HTTP exchange as ASGI sees it: reading a body within its limits, answering, and room for what is in hand."""

from collections.abc import AsyncIterator
from time import monotonic
from typing import Final, NamedTuple

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api_gateway.headers import Headers, content_length, read_headers
from api_gateway.paths import API_PREFIX
from api_gateway.problems import SLOW, TOO_LARGE, RefusalError, answer_error, unauthenticated
from api_gateway.views import Answer
from shared.access import Access, Caller, UnauthenticatedError
from shared.contracts.errors import EtlPayError, OverloadedError
from shared.patience import Patience

_DRAIN_BYTES_MAX: Final = 128 * 1024 * 1024
_DRAIN_SECONDS_MAX: Final = 2.0
_CALLER: Final = "etlpay.caller"
_HEADERS: Final = "etlpay.headers"
_CLOSE: Final = (b"connection", b"close")


class ClientGoneError(EtlPayError):
    """The client closed the connection; there is nobody to answer."""


class BodyLimits(NamedTuple):
    """The bounds of one body."""

    bytes_max: int
    pause_seconds_max: float
    seconds_max: float


_REFUSED_LIMITS: Final = BodyLimits(bytes_max=0, pause_seconds_max=_DRAIN_SECONDS_MAX, seconds_max=_DRAIN_SECONDS_MAX)


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

    async def answer(self, answer: Answer, *more: tuple[str, str]) -> None:
        """Send a whole answer."""
        await self.stream(answer, [answer.body], *more)

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


class Admission:
    """Lets only so many API requests in at once; the rest get 503 before anything of them is read."""

    def __init__(self, app: ASGIApp, *, requests_max: int) -> None:
        """Health and metrics are let in always."""
        self._app = app
        self._room = Room(requests_max)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand the request on while there is room."""
        if scope["type"] != "http" or not scope["path"].startswith(API_PREFIX):
            await self._app(scope, receive, send)
            return
        try:
            self._room.take(1)
        except OverloadedError as error:
            await send_answer(send, answer_error(error), close=True)
            return
        try:
            await self._app(scope, receive, send)
        finally:
            self._room.give(1)


class Authentication:
    """Lets API requests in that have a valid key, where keys are asked for; the rest get 401."""

    def __init__(self, app: ASGIApp, *, access: Access) -> None:
        """Health, metrics and documents are open."""
        self._app = app
        self._access = access
        self._patience = Patience()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand the request on with its caller."""
        if scope["type"] == "http" and scope["path"].startswith(API_PREFIX):
            headers = scope[_HEADERS] = read_headers(scope["headers"])
            try:
                scope[_CALLER] = self._access.admit(headers.authorization)
            except UnauthenticatedError:
                exchange = Exchange(headers, receive, send, limits=_REFUSED_LIMITS, patience=self._patience)
                await exchange.answer(answer_error(unauthenticated()))
                return
        await self._app(scope, receive, send)


def caller_of(scope: Scope) -> Caller:
    """Return who sends an API request."""
    caller: Caller = scope[_CALLER]
    return caller


def headers_of(scope: Scope) -> Headers:
    """Return our headers of an API request, which were read to know who sends it."""
    headers: Headers = scope[_HEADERS]
    return headers


async def send_answer(send: Send, answer: Answer, *, close: bool = False) -> None:
    """Send a whole answer to a request whose body nobody reads."""
    headers = [(name.encode(), value.encode()) for name, value in answer.headers]
    headers += [(b"content-type", answer.media_type.encode()), (b"content-length", str(len(answer.body)).encode())]
    if close:
        headers.append(_CLOSE)
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})
