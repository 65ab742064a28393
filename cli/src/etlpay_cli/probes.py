"""Asks a server or a service whether it is ready. A probe never raises: a part that cannot be reached is not ready."""

from __future__ import annotations

import asyncio
import struct
from typing import Final

from etlpay_cli.ports import HOST

_SECONDS_MAX: Final = 2.0
_AMQP_HEADER: Final = b"AMQP\x00\x00\x09\x01"
_AMQP_METHOD_FRAME: Final = b"\x01"
_POSTGRES_PROTOCOL: Final = 196608  # 3.0
_POSTGRES_ASKS_FOR_PASSWORD: Final = b"R"


async def postgres_ready(port: int) -> bool:
    """Tell whether PostgreSQL lets clients in: it asks for the password, where a starting server sends an error."""
    attributes = b"user\0etlpay_probe\0database\0etlpay\0\0"
    hello = struct.pack("!ii", 8 + len(attributes), _POSTGRES_PROTOCOL) + attributes
    return await _answers(port, hello, _POSTGRES_ASKS_FOR_PASSWORD)


async def valkey_ready(port: int) -> bool:
    """Tell whether Valkey or Redis lets clients in: it asks a client for the password."""
    return await _answers(port, b"PING\r\n", b"-NOAUTH")


async def rabbitmq_ready(port: int) -> bool:
    """Tell whether RabbitMQ greets an AMQP client. Its listener opens last, after the definitions are loaded."""
    return await _answers(port, _AMQP_HEADER, _AMQP_METHOD_FRAME)


async def listens(port: int) -> bool:
    """Tell whether somebody accepts connections."""
    return await _answers(port, b"", b"")


async def http_ready(port: int) -> bool:
    """Tell whether a service's /readyz answers 200."""
    return await _answers(
        port, b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", b"HTTP/1.1 200"
    )


async def _answers(port: int, question: bytes, answer: bytes) -> bool:
    """Tell whether the first bytes of the answer are these."""
    try:
        async with asyncio.timeout(_SECONDS_MAX):
            reader, writer = await asyncio.open_connection(HOST, port)
            try:
                writer.write(question)
                return await reader.readexactly(len(answer)) == answer
            finally:
                writer.close()
    except (OSError, TimeoutError, asyncio.IncompleteReadError):
        return False
