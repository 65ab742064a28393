"""Crash-only sessions with RabbitMQ: any surprise ends the session, and a new one is built after a random pause."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

import aio_pika
import structlog
from aio_pika.abc import AbstractConnection
from aio_pika.exceptions import CONNECTION_EXCEPTIONS
from yarl import URL

from shared.contracts.errors import FatalError
from shared.settings import AmqpSettings

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

# What a session may end with; everything else is a fault of ours and is raised.
SESSION_ERRORS: Final = (*CONNECTION_EXCEPTIONS, TimeoutError, asyncio.InvalidStateError)

_CLOSE_SECONDS_MAX: Final = 2.0
_FIRST_PAUSE_SECONDS: Final = 0.1


class Session:
    """One connection with RabbitMQ and whether it is over."""

    def __init__(self, connection: AbstractConnection) -> None:
        """`lost` is set when the connection is closed by anybody, or abandoned by us."""
        self.connection = connection
        self.lost = asyncio.Event()
        connection.close_callbacks.add(lambda *_: self.lost.set())

    def abandon(self) -> None:
        """End the session: what is in flight on it is unknown from now on."""
        self.lost.set()


async def keep_session(
    settings: AmqpSettings,
    *,
    name: str,
    use: Callable[[Session], Awaitable[None]],
    closing: asyncio.Event,
) -> None:
    """Call `use` with one session after the other until `closing` is set; `use` returns when its session is over.

    Raises:
        FatalError: RabbitMQ does not let us in with these credentials.
    """
    attempt = 0
    while not closing.is_set():
        try:
            async with _open_session(settings, name) as session:
                attempt = 0
                await use(session)
        except aio_pika.exceptions.ProbableAuthenticationError as error:
            raise FatalError("RabbitMQ refused the user or its password") from error
        except SESSION_ERRORS as error:
            log.warning("amqp session ended; nothing is lost, reconnecting", session=name, error=type(error).__name__)
        attempt += 1
        pause = random.uniform(0, min(settings.reconnect_seconds_max, _FIRST_PAUSE_SECONDS * 2**attempt))  # noqa: S311 - jitter, not a secret
        await first_of(closing, seconds_max=pause)


@asynccontextmanager
async def _open_session(settings: AmqpSettings, name: str) -> AsyncIterator[Session]:
    url = URL(settings.amqp_url).with_password(settings.amqp_password.get_secret_value())
    connection = await aio_pika.connect(
        url.update_query(heartbeat=str(settings.amqp_heartbeat_seconds)),
        timeout=settings.amqp_connect_seconds_max,
        client_properties={"connection_name": name},
    )
    try:
        yield Session(connection)
    finally:
        try:
            async with asyncio.timeout(_CLOSE_SECONDS_MAX):
                await connection.close()
        except SESSION_ERRORS as error:
            log.debug("amqp connection did not close cleanly", session=name, error=type(error).__name__)


async def first_of(*events: asyncio.Event, seconds_max: float | None = None) -> None:
    """Return when any of the events is set, or after `seconds_max`."""
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, timeout=seconds_max, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
