"""The limits of HTTP connections that the server does not have.

How many there are, of whom, the time and size of a request's head, and the time in which an answer must be read.
"""

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from itertools import chain
from typing import Any, Final

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from api_gateway.http.connections import Connections
from api_gateway.http.problems import HEAD, MALFORMED, OVERLOADED, ProblemType, problem_response
from api_gateway.schemas import BATCH_PATH
from shared.contracts.errors import OverloadedError
from shared.runtime.limits import network_of

_UPGRADE_HEADERS: Final = (b"connection", b"upgrade", b"http2-settings")
_LINGER_SECONDS_MAX: Final = 2.0
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
# What a connection may hold of answers that its client does not read; the library's own is 64 KiB.
_UNREAD_BYTES_MAX: Final = 16 * 1024


class _HeadTooLargeError(ValueError):
    """Ends the parsing of a request."""


class _Answers(asyncio.Transport):
    """What the answers on a connection are written to: the head of each goes out with the first of its body.

    The server writes one after the other, and each write is a segment: a system call more here, and one in the client.
    Measured with 64 connections: 54 instead of 61 microseconds of CPU a request.
    """

    def __init__(self, transport: asyncio.Transport, close: Callable[[], None]) -> None:
        """`transport` is the connection's, which `close` closes once all is written."""
        super().__init__()
        self._transport = transport
        self._close = close
        self._head = b""
        self._begun = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Hold a head; write all else at once. What comes after the end of a connection is dropped.

        The server tells that to the last of several requests in one breath, and not to the one that is being answered.
        """
        if self._transport.is_closing():
            return
        if self._begun or data == _CONTINUE:
            self._transport.write(data)
        elif self._head:
            self._begun = True
            self._transport.writelines((self._head, data))
            self._head = b""
        else:
            self._head = bytes(data)

    def end(self) -> None:
        """Expect the head of the next answer; write that of this one, where it has no body."""
        if self._head:
            self._transport.write(self._head)
            self._head = b""
        self._begun = False

    def close(self) -> None:
        """Close the connection once all is written."""
        self.end()
        self._close()

    def is_closing(self) -> bool:
        """Tell whether the connection ends."""
        return self._transport.is_closing()


class BoundedProtocol(HttpToolsProtocol):
    """Closes connections whose next request is not there in time; answers a request that cannot be read, and closes."""

    head_seconds_max: float
    head_bytes_max: int
    send_seconds_max: float
    answer_seconds_max: float
    open_connections: Connections

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - the server's own arguments
        """As the server calls it."""
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
        self._answers = _Answers(transport, self._close)
        self._peer = network_of(self.client[0]) if self.client else ""
        try:
            self.open_connections.add(self, self._peer)
        except OverloadedError:
            # At once: one that lingered would take the place of the next.
            self._refuse(OVERLOADED, "There are too many connections.")
            self._close()
        else:
            self.open_connections.set_idle(self, self._peer)
            self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._stop_waiting()
        self._stop_watching_reader()
        self._unset_keepalive_if_required()
        self.open_connections.remove(self, self._peer)
        super().connection_lost(exc)

    def shed(self) -> None:
        """Close, to make room for another connection."""
        self._stop_waiting()
        self._close()

    def shutdown(self) -> None:
        """Close once the answer in hand is read, for which there is no more than the time of a pause now."""
        super().shutdown()
        self._answer_deadline = self.loop.time() + self.send_seconds_max
        if self.transport.is_closing():
            self._watch_reader()

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection on which nothing has come; at once, where the last answer is still not read."""
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            super().timeout_keep_alive_handler()

    def pause_writing(self) -> None:
        """Watch a client that does not read."""
        super().pause_writing()
        self._watch_reader()

    def resume_writing(self) -> None:
        """It has read."""
        self._stop_watching_reader()
        super().resume_writing()

    def data_received(self, data: bytes) -> None:
        """Parse; what does not complete a head in time, or is larger than one may be, ends the connection."""
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
        """Start serving, unless the request asks for another protocol: that wish is not granted, see `_feed`.

        Here at the latest a head that came in one piece is measured, and nothing of it served that is too large.
        """
        self._head_bytes = len(self.url) + sum(map(len, chain.from_iterable(self.headers))) + 4 * len(self.headers)
        if self._head_bytes > self.head_bytes_max:
            raise _HeadTooLargeError
        self._framing_bytes = 0
        if not self.parser.should_upgrade():
            super().on_headers_complete()
            self.cycle.transport = self._answers

    def on_body(self, body: bytes) -> None:
        """Count anew what is no body: the parser holds a trailer until its end, and passes over an extension's."""
        self._framing_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """As the server has it."""
        if not self.parser.should_upgrade():
            super().on_message_complete()

    def on_message_begin(self) -> None:
        """Count this head from zero."""
        super().on_message_begin()
        self._head_bytes = self._framing_bytes = 0

    def on_response_complete(self) -> None:
        """Leave the time until the next request to the server's keep-alive."""
        self._answers.end()
        super().on_response_complete()
        self._head_bytes = 0
        self._answer_deadline = None
        if self._between_requests() and not self.transport.is_closing():
            self.open_connections.set_idle(self, self._peer)

    def _close(self) -> None:
        """Close once all is written, for which there is a limit."""
        self.transport.close()
        if self.transport.get_write_buffer_size():
            self._watch_reader()

    def _watch_reader(self) -> None:
        """End the connection of a client that reads nothing for a while, or takes too long for a whole answer."""
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
        """End a connection on which something cannot be read, without a word that is not true.

        A request that was read to its end is answered first. A batch whose rest cannot be read may be stored in part,
        so it gets no answer; nor does one behind another, whose answer this would be taken for. Of anything else
        nothing is stored, and 400 says so.
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
            # Nothing of it is served any more.
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
        """Close when the client has, or soon: to close on bytes that are unread is to reset, and the answer is lost."""
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(_LINGER_SECONDS_MAX, self.timeout_keep_alive_handler)

    def _refuse(self, kind: ProblemType, detail: str) -> None:
        answer = problem_response(kind, detail)
        headers = (*answer.headers, ("content-type", answer.media_type), ("content-length", str(len(answer.body))))
        self.transport.write(
            b"HTTP/1.1 %d %b\r\n%bconnection: close\r\n\r\n%b"
            % (
                kind.status,
                HTTPStatus(kind.status).phrase.encode(),
                "".join(f"{name}: {value}\r\n" for name, value in headers).encode(),
                answer.body,
            )
        )

    def _feed(self, data: bytes) -> None:
        """Parse. A request that would like an upgrade (HTTP/2 clients ask by habit) is served as if it had not asked.

        The parser leaves the body of such a request unread, so it gets the request a second time without the wish.
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
        """True while the rest of a body arrives whose request is answered already."""
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
    """Return the protocol class with its limits, as the server takes it.

    Of an answer nothing may stay unread for `send_seconds_max`, and something for `answer_seconds_max`.
    """
    limits = {
        "head_seconds_max": head_seconds_max,
        "head_bytes_max": head_bytes_max,
        "send_seconds_max": send_seconds_max,
        "answer_seconds_max": answer_seconds_max,
        "open_connections": Connections(connections_max, share=caller_share_max),
    }
    return type("BoundedProtocol", (BoundedProtocol,), limits)
