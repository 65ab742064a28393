"""Crash-only sessions with RabbitMQ: any error ends the session, and a new one is opened after a random pause."""

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

import aio_pika
import structlog
from aio_pika.abc import AbstractConnection
from aio_pika.exceptions import CONNECTION_EXCEPTIONS, AMQPError
from aiormq.abc import AbstractChannel
from yarl import URL

from shared.contracts.errors import FatalError
from shared.runtime.retry import Backoff
from shared.runtime.timeouts import Timeout, Timeouts
from shared.runtime.waiting import wait_any
from shared.settings import AmqpSettings
from shared.tls import client_context

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

# The library logs every lost connection as an error with a traceback. Here that is the ordinary end of a session, which
# is logged once, below.
logging.getLogger("aiormq").setLevel(logging.CRITICAL)


def _is_ours(record: logging.LogRecord) -> bool:
    """Return False for an error of a task of the library that nobody awaits because its session has ended."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, AMQPError | ConnectionError)


logging.getLogger("asyncio").addFilter(_is_ours)

# What a session may end with. Any other error is a fault of ours and is raised.
SESSION_ERRORS: Final = (*CONNECTION_EXCEPTIONS, TimeoutError, EOFError, asyncio.InvalidStateError)

_CLOSE_SECONDS_MAX: Final = 2.0
# Dead letters of a quorum queue are safe from here on: https://www.rabbitmq.com/blog/2022/03/29/at-least-once-dead-lettering
_OLDEST: Final = (3, 10)
_OLDEST_VERSION: Final = ".".join(map(str, _OLDEST))
# A broker that is starting or stopping may refuse a user that it accepts a moment later.
_REFUSALS_MAX: Final = 5


class SessionLostError(ConnectionError):
    """The client library ended what was in flight because the session ended."""


class Session:
    """One connection with RabbitMQ, until it is lost."""

    def __init__(self, connection: AbstractConnection) -> None:
        """`lost` is set when the connection is closed by anybody, or abandoned by us."""
        self.connection = connection
        self.lost = asyncio.Event()
        self.reason = ""
        self._timeouts = Timeouts()
        connection.close_callbacks.add(lambda _, error: self.abandon(type(error).__name__))

    def abandon(self, reason: str) -> None:
        """End the session: the outcome of everything in flight on it is unknown. The first reason is kept."""
        self.reason = self.reason or reason
        self.lost.set()
        self._timeouts.expire()

    def within(self, deadline: float) -> Timeout:
        """Return a context that ends at `deadline` (of `time.monotonic`), or with the session.

        Some calls of the library never return once their connection is lost.

        Raises:
            TimeoutError: the session is lost. The context raises it too, and at the deadline.
        """
        if self.lost.is_set():
            raise TimeoutError
        return self._timeouts.until(deadline)

    async def open_channel(self) -> AbstractChannel:
        """Open a channel of the lower library, without confirms. Raises OSError when the session is lost."""
        transport = self.connection.transport
        if transport is None:
            raise ConnectionError("the session is lost")
        return await transport.connection.channel(publisher_confirms=False)

    async def unblocked(self) -> None:
        """Return once the broker accepts messages: it blocks publishers while it is short of memory or disk."""
        transport = self.connection.transport
        if transport is not None:
            await transport.ready()

    async def is_blocked(self) -> bool:
        """Return whether the broker blocks publishers."""
        try:
            async with asyncio.timeout(0):
                await self.unblocked()
        except TimeoutError:
            return True
        return False


@contextmanager
def translate_session_errors() -> Iterator[None]:
    """Raise SessionLostError where the client library ends a call because the session ended.

    The library does so with a cancellation, or with a plain `Exception`. The first would look like the end of the task
    that waits, and stop a loop over batches without a word; the second would look like a fault of ours.
    """
    try:
        yield
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise SessionLostError("the session ended") from error
    # The class itself, no subclass.
    except Exception as error:
        if type(error) is not Exception:
            raise
        raise SessionLostError("the session ended") from error


async def run_sessions(
    settings: AmqpSettings,
    *,
    name: str,
    use: Callable[[Session], Awaitable[None]],
    closing: asyncio.Event,
) -> None:
    """Call `use` with one session after the other until `closing` is set. `use` returns when its session is lost.

    Raises:
        FatalError: RabbitMQ has never accepted these credentials, or is too old.
    """
    refusals = 0
    backoff = Backoff(seconds_max=settings.reconnect_seconds_max)
    accepted = False
    loop = asyncio.get_running_loop()
    while not closing.is_set():
        begun = loop.time()
        try:
            with translate_session_errors():
                async with open_session(settings, name) as session:
                    accepted = True
                    await use(session)
                if not closing.is_set():
                    _log_end(name, session.reason)
        except aio_pika.exceptions.ProbableAuthenticationError as error:
            refusals += 1
            if not accepted and refusals >= _REFUSALS_MAX:
                raise FatalError("RabbitMQ refused the user or its password") from error
            log.error("RabbitMQ refused the user or its password; trying again", session=name)  # noqa: TRY400 - the reason says it all
        except SESSION_ERRORS as error:
            _log_end(name, type(error).__name__)
        # A session that ends at once, for example because a queue is refused, counts as a failed attempt.
        if loop.time() - begun > settings.reconnect_seconds_max:
            backoff.reset()
        await wait_any(closing, seconds_max=backoff.next_seconds())


def _log_end(name: str, reason: str) -> None:
    log.warning("amqp session ended; nothing is lost, reconnecting", session=name, reason=reason)


@asynccontextmanager
async def open_session(settings: AmqpSettings, name: str) -> AsyncIterator[Session]:
    """Open a connection for one session, and close it. `run_sessions` opens another whenever one ends.

    Raises:
        FatalError: the broker is too old to keep what it confirms, or the TLS files cannot be used.
    """
    url = URL(settings.amqp_url).with_password(settings.amqp_password.get_secret_value())
    connection = await aio_pika.connect(
        url.update_query(heartbeat=str(settings.amqp_heartbeat_seconds)),
        ssl_context=client_context(settings.amqp_tls),
        timeout=settings.amqp_connect_seconds_max,
        client_properties={"connection_name": name},
    )
    try:
        _require_version(connection)
        yield Session(connection)
    finally:
        try:
            async with asyncio.timeout(_CLOSE_SECONDS_MAX):
                await connection.close()
        except SESSION_ERRORS as error:
            log.debug("amqp connection did not close cleanly", session=name, error=type(error).__name__)


def _require_version(connection: AbstractConnection) -> None:
    transport = connection.transport
    found = transport.connection.server_properties.get("version") if transport is not None else None
    version = found.decode() if isinstance(found, bytes) else str(found)
    if not is_supported(version):
        raise FatalError(f"RabbitMQ {_OLDEST_VERSION} or newer is needed, and this one is {version[:32]}")


def is_supported(version: str) -> bool:
    """Return whether a broker of this version, such as `4.1.0` or `3.13.0-rc.2`, has the queues that we need."""
    found = re.match(r"(\d+)\.(\d+)", version)
    return found is not None and (int(found[1]), int(found[2])) >= _OLDEST
