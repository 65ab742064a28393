"""Crash-only sessions with RabbitMQ: any surprise ends the session, and a new one is built after a random pause."""

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
from shared.runtime.waiting import wait_any
from shared.settings import AmqpSettings
from shared.tls import client_context

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

# The library tells of every lost connection as an error, with a traceback. Here that is an ordinary end of a session,
# told once, below.
logging.getLogger("aiormq").setLevel(logging.CRITICAL)


def _is_worth_telling(record: logging.LogRecord) -> bool:
    """Tell a fault of ours from what befell a task of the library that nobody waits for since its session is over."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, AMQPError | ConnectionError)


logging.getLogger("asyncio").addFilter(_is_worth_telling)

# What a session may end with; everything else is a fault of ours and is raised.
SESSION_ERRORS: Final = (*CONNECTION_EXCEPTIONS, TimeoutError, EOFError, asyncio.InvalidStateError)

_CLOSE_SECONDS_MAX: Final = 2.0
# Dead letters of a quorum queue are safe from here on: https://www.rabbitmq.com/blog/2022/03/29/at-least-once-dead-lettering
_OLDEST: Final = (3, 10)
_OLDEST_VERSION: Final = ".".join(map(str, _OLDEST))
# A broker that is just starting or stopping may refuse a user that it will know in a moment.
_REFUSALS_MAX: Final = 5


class SessionLostError(ConnectionError):
    """The client library ended what was in flight because the session ended."""


class Session:
    """One connection with RabbitMQ and whether it is over."""

    def __init__(self, connection: AbstractConnection) -> None:
        """`lost` is set when the connection is closed by anybody, or abandoned by us."""
        self.connection = connection
        self.lost = asyncio.Event()
        self.reason = ""
        self._waits: set[asyncio.Timeout] = set()
        connection.close_callbacks.add(lambda _, error: self.abandon(type(error).__name__))

    def abandon(self, reason: str) -> None:
        """End the session: what is in flight on it is unknown from now on. The first reason counts."""
        self.reason = self.reason or reason
        self.lost.set()
        for wait in self._waits:
            if not wait.expired():
                wait.reschedule(0)

    @asynccontextmanager
    async def bounded(self, deadline: float) -> AsyncIterator[None]:
        """Bound what waits for the broker: until `deadline` (the event loop's time), and no longer than the session.

        The library has calls that never return once their connection is gone.

        Raises:
            TimeoutError: the deadline came, or the session is over.
        """
        async with asyncio.timeout_at(0 if self.lost.is_set() else deadline) as wait:
            self._waits.add(wait)
            try:
                yield
            finally:
                self._waits.discard(wait)

    async def open_channel(self) -> AbstractChannel:
        """Open a channel of the lower library, without confirms. Raises OSError where the session is over."""
        transport = self.connection.transport
        if transport is None:
            raise ConnectionError("the session is over")
        return await transport.connection.channel(publisher_confirms=False)

    async def unblocked(self) -> None:
        """Return once the broker takes messages; it blocks publishers while it is short of memory or disk."""
        transport = self.connection.transport
        if transport is not None:
            await transport.ready()

    async def is_blocked(self) -> bool:
        """Return True while the broker has told us to publish nothing."""
        try:
            async with asyncio.timeout(0):
                await self.unblocked()
        except TimeoutError:
            return True
        return False


@contextmanager
def translate_session_errors() -> Iterator[None]:
    """Tell the end of a session as what it is.

    When a session ends the library ends what is in flight with a cancellation, or with an `Exception` of no kind.
    Passed on, the one would look like the end of the task that waits, so that a loop over batches would stop without a
    word; the other like a fault of ours.

    Raises:
        SessionLostError: in place of either.
    """
    try:
        yield
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise SessionLostError("the session ended") from error
    # Of no kind, and no kind of it: the class itself.
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
    """Call `use` with one session after the other until `closing` is set; `use` returns when its session is over.

    Raises:
        FatalError: RabbitMQ has never let us in with these credentials, or is too old.
    """
    refusals = 0
    backoff = Backoff(seconds_max=settings.reconnect_seconds_max)
    let_in = False
    loop = asyncio.get_running_loop()
    while not closing.is_set():
        begun = loop.time()
        try:
            with translate_session_errors():
                async with open_session(settings, name) as session:
                    let_in = True
                    await use(session)
                if not closing.is_set():
                    _tell_end(name, session.reason)
        except aio_pika.exceptions.ProbableAuthenticationError as error:
            refusals += 1
            if not let_in and refusals >= _REFUSALS_MAX:
                raise FatalError("RabbitMQ refused the user or its password") from error
            log.error("RabbitMQ refused the user or its password; trying again", session=name)  # noqa: TRY400 - the reason says it all
        except SESSION_ERRORS as error:
            _tell_end(name, type(error).__name__)
        # A session that ends as soon as it has begun, because a queue is refused, say, is no better than none.
        if loop.time() - begun > settings.reconnect_seconds_max:
            backoff.reset()
        await wait_any(closing, seconds_max=backoff.next_seconds())


def _tell_end(name: str, reason: str) -> None:
    log.warning("amqp session ended; nothing is lost, reconnecting", session=name, reason=reason)


@asynccontextmanager
async def open_session(settings: AmqpSettings, name: str) -> AsyncIterator[Session]:
    """Open a connection for one session, and close it. `run_sessions` is for those that need one for ever.

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
    said = transport.connection.server_properties.get("version") if transport is not None else None
    version = said.decode() if isinstance(said, bytes) else str(said)
    if not is_supported(version):
        raise FatalError(f"RabbitMQ {_OLDEST_VERSION} or newer is needed, and this one says that it is {version[:32]}")


def is_supported(version: str) -> bool:
    """Tell whether a broker of this version, such as `4.1.0` or `3.13.0-rc.2`, has what the lanes are made of."""
    found = re.match(r"(\d+)\.(\d+)", version)
    return found is not None and (int(found[1]), int(found[2])) >= _OLDEST
