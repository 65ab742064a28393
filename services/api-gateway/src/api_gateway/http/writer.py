"""Writes the responses of the ASGI way: the head of each with the first part of its body."""

import asyncio
from collections.abc import Callable
from typing import Final

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class ResponseWriter(asyncio.Transport):
    """The transport that responses are written to: it sends the head of each with the first part of its body.

    Each write is a segment, and uvicorn writes the head alone: one system call more here, and one in the client.
    Measured with 64 connections: 54 instead of 61 microseconds of CPU a request.
    """

    def __init__(self, transport: asyncio.Transport, close: Callable[[], None]) -> None:
        """`transport` is the connection's; `close` closes it when everything is written."""
        super().__init__()
        self._transport = transport
        self._close = close
        self._head = b""
        self._begun = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Hold a head; write everything else at once; drop what comes after the end of the connection.

        Of several pipelined requests uvicorn reports the end to the last one only, so an earlier one may still write.
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
        """Expect the head of the next response; write the head of this one if it had no body."""
        if self._head:
            self._transport.write(self._head)
            self._head = b""
        self._begun = False

    def close(self) -> None:
        """Close the connection when everything is written."""
        self.end()
        self._close()

    def is_closing(self) -> bool:
        """Return whether the connection is closing."""
        return self._transport.is_closing()
