"""Limits of HTTP connections that uvicorn does not have.

The number of connections, in all and by address; the time and size of a request's head; the time to read a response.
"""

import asyncio
from http import HTTPStatus
from itertools import chain
from typing import Any, Final

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from api_gateway.http.connections import Connections
from api_gateway.http.problems import HEAD, MALFORMED, OVERLOADED, ProblemType, problem_response
from api_gateway.http.writer import ResponseWriter
from api_gateway.schemas import BATCH_PATH
from shared.contracts.errors import OverloadedError
from shared.runtime.limits import network_of

_UPGRADE_HEADERS: Final = (b"connection", b"upgrade", b"http2-settings")
_LINGER_SECONDS_MAX: Final = 2.0
# Bytes of responses that a connection may hold and its client does not read; the library's own limit is 64 KiB.
_UNREAD_BYTES_MAX: Final = 16 * 1024


class _HeadTooLargeError(ValueError):
    """Ends the parsing of a request."""


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol with limits. A request that cannot be parsed is answered, and its connection closed."""

    head_seconds_max: float
    head_bytes_max: int
    send_seconds_max: float
    answer_seconds_max: float
    open_connections: Connections

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - the server's own arguments
        """Take the arguments of uvicorn."""
        super().__init__(*args, **kwargs)
        self._head_bytes = 0
        self._framing_bytes = 0
        self._head_deadline: asyncio.TimerHandle | None = None
        self._broken = False
        self._peer = ""
        self._reader_timer: asyncio.TimerHandle | None = None
        self._answer_deadline: float | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as the server has it
        """Start waiting for the first request."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=_UNREAD_BYTES_MAX)
        self._writer = ResponseWriter(transport, self._close)
        self._peer = network_of(self.client[0]) if self.client else ""
        try:
            self.open_connections.add(self, self._peer)
        except OverloadedError:
            # At once: a connection that lingers would use the place of the next one.
            self._refuse(OVERLOADED, "There are too many connections.")
            self._close()
        else:
            self.open_connections.set_idle(self, self._peer)
            self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the timers and forget the connection."""
        self._stop_waiting()
        self._stop_watching_reader()
        self._unset_keepalive_if_required()
        self.open_connections.remove(self, self._peer)
        super().connection_lost(exc)

    def shed(self) -> None:
        """Close, so that another connection can be opened."""
        self._stop_waiting()
        self._close()

    def shutdown(self) -> None:
        """Close when the current response is read, for which the client now has `send_seconds_max`."""
        if not self.transport.is_closing():
            # A TLS transport that is closed twice forgets what it has to write.
            super().shutdown()
        self._answer_deadline = self.loop.time() + self.send_seconds_max
        if self.transport.is_closing():
            self._watch_reader()

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection on which nothing arrived; abort it if the last response is still unread."""
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            super().timeout_keep_alive_handler()

    def pause_writing(self) -> None:
        """Start the timers of a client that does not read."""
        super().pause_writing()
        self._watch_reader()

    def resume_writing(self) -> None:
        """Stop the timers: the client has read."""
        self._stop_watching_reader()
        super().resume_writing()

    def data_received(self, data: bytes) -> None:
        """Parse. A head that is too slow or too large ends the connection."""
        if self._broken or self.transport.is_closing():
            # Dropped, not left unread: see `_linger`.
            return
        if self._between_requests():
            self.open_connections.set_busy(self, self._peer)
            self._head_bytes += len(data)
        self._framing_bytes += len(data)
        self._unset_keepalive_if_required()
        try:
            self._feed(data)
        except httptools.HttpParserError:
            self._break_off()
        if self._broken or self.transport.is_closing():
            return
        if not self._between_requests():
            self._stop_waiting()
            if self._framing_bytes > self.head_bytes_max:
                self._break_off()
        elif self._head_bytes > self.head_bytes_max and not self._body_is_left_over():
            self._break_off()
        elif self._head_deadline is None:
            self._await_head()

    def on_headers_complete(self) -> None:
        """Start serving, unless the request asks for an upgrade, see `_feed`.

        The size of a head that came in one piece is checked here, before the request is served.
        """
        self._head_bytes = len(self.url) + sum(map(len, chain.from_iterable(self.headers))) + 4 * len(self.headers)
        if self._head_bytes > self.head_bytes_max:
            raise _HeadTooLargeError
        self._framing_bytes = 0
        if not self.parser.should_upgrade():
            self.begin_request()

    def begin_request(self) -> None:
        """Start serving."""
        super().on_headers_complete()
        self.cycle.transport = self._writer

    def on_body(self, body: bytes) -> None:
        """Count the bytes outside of the body from zero: trailers and chunk extensions have no limit in the parser."""
        self._framing_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Let uvicorn end the request, unless it asks for an upgrade."""
        if not self.parser.should_upgrade():
            super().on_message_complete()

    def on_message_begin(self) -> None:
        """Count the bytes of this head from zero."""
        super().on_message_begin()
        self._head_bytes = self._framing_bytes = 0

    def on_response_complete(self) -> None:
        """Wait for the next request; uvicorn's keep-alive limits that time."""
        self._writer.end()
        super().on_response_complete()
        self._head_bytes = 0
        self._answer_deadline = None
        if self._between_requests() and not self.transport.is_closing():
            self.open_connections.set_idle(self, self._peer)

    def _close(self) -> None:
        """Close when everything is written; the time for that is limited."""
        if not self.transport.is_closing():
            self.transport.close()
        if self.transport.get_write_buffer_size():
            self._watch_reader()

    def _watch_reader(self) -> None:
        """Abort the connection if the client reads nothing for a while, or takes too long for a whole response."""
        if self._answer_deadline is None:
            self._answer_deadline = self.loop.time() + self.answer_seconds_max
        self._stop_watching_reader()
        unread = self.transport.get_write_buffer_size()
        self._reader_timer = self.loop.call_later(self.send_seconds_max, self._look_at_reader, unread)

    def _look_at_reader(self, unread: int) -> None:
        late = self._answer_deadline is not None and self.loop.time() >= self._answer_deadline
        if late or self.transport.get_write_buffer_size() >= unread:
            self.transport.abort()
        else:
            self._watch_reader()

    def _stop_watching_reader(self) -> None:
        if self._reader_timer is not None:
            self._reader_timer.cancel()
            self._reader_timer = None

    def _break_off(self) -> None:
        """End a connection whose bytes cannot be parsed. No response may be wrong about what was stored.

        A complete request is answered first. A batch of which the rest cannot be read may be stored in part, so it gets
        no response. A pipelined request gets none either: the client would take it for the response to the one before.
        Of any other request nothing is stored, and it gets 400.
        """
        self._broken = True
        self._stop_waiting()
        if self._between_requests():
            self._refuse_head()
        elif not self.cycle.more_body:
            self.cycle.keep_alive = False
        elif self.pipeline or self.cycle.response_started or self.cycle.scope["path"] == BATCH_PATH:
            self.transport.close()
        else:
            # Stop serving it.
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            self._refuse(MALFORMED, "The body is not sent as HTTP/1.1 says.")
            self._linger()

    def _refuse_head(self) -> None:
        if self._head_bytes > self.head_bytes_max:
            self._refuse(HEAD, f"The head must not be larger than {self.head_bytes_max} bytes.")
        else:
            self._refuse(MALFORMED, "This is not HTTP/1.1.")
        self._linger()

    def _linger(self) -> None:
        """Close when the client has closed, or soon: closing on unread bytes is a reset, and loses the response."""
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(_LINGER_SECONDS_MAX, self.timeout_keep_alive_handler)

    def _refuse(self, problem_type: ProblemType, detail: str) -> None:
        response = problem_response(problem_type, detail)
        headers = (
            *response.headers,
            ("content-type", response.media_type),
            ("content-length", str(len(response.body))),
        )
        self.transport.write(
            b"HTTP/1.1 %d %b\r\n%bconnection: close\r\n\r\n%b"
            % (
                response.status,
                HTTPStatus(response.status).phrase.encode(),
                "".join(f"{name}: {value}\r\n" for name, value in headers).encode(),
                response.body,
            )
        )

    def _feed(self, data: bytes) -> None:
        """Parse. A request that asks for an upgrade (HTTP/2 clients do) is served as if it did not ask.

        The parser does not read the body of such a request, so it gets the request again without the upgrade headers.
        """
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if self.parser.get_method() == b"CONNECT":
                raise httptools.HttpParserError from upgrade
            head = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())]
            head += [b"%b: %b" % header for header in self.headers if header[0] not in _UPGRADE_HEADERS]
            self.parser = httptools.HttpRequestParser(self)
            self._feed(b"\r\n".join(head) + b"\r\n\r\n" + data[upgrade.args[0] :])

    def _between_requests(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _body_is_left_over(self) -> bool:
        """Return whether the rest of a body is still arriving of a request that is answered."""
        return self.cycle is not None and self.cycle.more_body

    def _await_head(self) -> None:
        self._stop_waiting()
        self._head_deadline = self.loop.call_later(self.head_seconds_max, self.timeout_keep_alive_handler)

    def _stop_waiting(self) -> None:
        if self._head_deadline is not None:
            self._head_deadline.cancel()
            self._head_deadline = None


def bounded_protocol(  # noqa: PLR0913 - the limits of a connection
    *,
    head_seconds_max: float,
    head_bytes_max: int,
    send_seconds_max: float,
    answer_seconds_max: float,
    connections_max: int,
    caller_share_max: float,
) -> type[BoundedProtocol]:
    """Return the protocol class for uvicorn, with its limits.

    A client may read nothing for `send_seconds_max`, and take `answer_seconds_max` for a whole response.
    """
    limits = {
        "head_seconds_max": head_seconds_max,
        "head_bytes_max": head_bytes_max,
        "send_seconds_max": send_seconds_max,
        "answer_seconds_max": answer_seconds_max,
        "open_connections": Connections(connections_max, share=caller_share_max),
    }
    return type("BoundedProtocol", (BoundedProtocol,), limits)
