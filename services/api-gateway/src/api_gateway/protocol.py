"""The limits of an HTTP connection that the server does not have: how long, and how large, a request's head may be."""

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from api_gateway.problems import HEAD, MALFORMED, problem_answer

_PHRASES: Final = {HEAD.status: b"Request Header Fields Too Large", MALFORMED.status: b"Bad Request"}


class _HeadTooLargeError(ValueError):
    """Ends the parsing of a request."""


class BoundedProtocol(HttpToolsProtocol):
    """Closes connections whose next request is not there in time; answers a request that cannot be read, and closes."""

    head_seconds_max: float
    head_bytes_max: int

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - the server's own arguments
        """As the server calls it."""
        super().__init__(*args, **kwargs)
        self._head_bytes = 0
        self._head_deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as the server has it
        """Start waiting for the first request."""
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse; what does not complete a head in time, or is larger than one may be, ends the connection."""
        if self._between_requests():
            self._head_bytes += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if not self._between_requests():
            self._stop_waiting()
        elif self._head_bytes > self.head_bytes_max and not self._body_is_left_over():
            self.send_400_response("")
        elif self._head_deadline is None:
            self._await_head()

    def on_message_begin(self) -> None:
        """Count this head from zero."""
        super().on_message_begin()
        self._head_bytes = 0

    def on_url(self, url: bytes) -> None:
        """Count the URL."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count the header."""
        self._count(len(name) + len(value) + 4)
        super().on_header(name, value)

    def on_response_complete(self) -> None:
        """Leave the time until the next request to the server's keep-alive."""
        super().on_response_complete()
        self._head_bytes = 0

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - ours is a problem document
        """Answer a request that cannot be read, and close."""
        too_large = self._head_bytes > self.head_bytes_max
        kind = HEAD if too_large else MALFORMED
        answer = problem_answer(kind, f"At most {self.head_bytes_max} bytes." if too_large else "This is not HTTP/1.1.")
        self.transport.write(
            b"HTTP/1.1 %d %b\r\ncontent-type: %b\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
            % (kind.status, _PHRASES[kind.status], answer.media_type.encode(), len(answer.body), answer.body)
        )
        self.transport.close()

    def _between_requests(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _body_is_left_over(self) -> bool:
        """True while the rest of a body arrives whose request is answered already."""
        return self.cycle is not None and self.cycle.more_body

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > self.head_bytes_max:
            raise _HeadTooLargeError

    def _await_head(self) -> None:
        self._stop_waiting()
        self._head_deadline = self.loop.call_later(self.head_seconds_max, self.timeout_keep_alive_handler)

    def _stop_waiting(self) -> None:
        if self._head_deadline is not None:
            self._head_deadline.cancel()
            self._head_deadline = None


def bounded_protocol(*, head_seconds_max: float, head_bytes_max: int) -> type[BoundedProtocol]:
    """Return the protocol class with its limits, as the server takes it."""
    limits = {"head_seconds_max": head_seconds_max, "head_bytes_max": head_bytes_max}
    return type("BoundedProtocol", (BoundedProtocol,), limits)
