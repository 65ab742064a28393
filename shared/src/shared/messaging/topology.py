"""Every exchange and queue of EtlPay, declared in this one place.

The queues between our services are in the virtual host that `ETLPAY_AMQP_URL` names, where no foreign producer has
permissions. The public exchange and the foreign queues are in the virtual host that `ETLPAY_QUEUE_AMQP_URL` names,
which may belong to another broker.

`etlpay.ingest` is the fast ingest queue. A message that keeps failing there moves to `etlpay.ingest.slow`; a crash
while it is unacked counts as a failure. The slow queue is read one message at a time, so that healthy messages that
failed beside a poison message are stored. What keeps failing there moves to `etlpay.parked`, which nobody reads: a
message in it is an alarm. `etlpay.receipts` carries the counts of the services. All are quorum queues: only those fsync
before they confirm.
"""

import asyncio
from typing import Final

import structlog
from aio_pika.abc import AbstractConnection, ExchangeType
from aiormq.exceptions import ChannelAccessRefused, ChannelNotFoundEntity, ChannelPreconditionFailed
from pamqp.common import FieldTable

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

EVENTS_EXCHANGE: Final = "etlpay.events"
PUBLIC_QUEUE: Final = "etl-queue"
INGEST_QUEUE: Final = "etlpay.ingest"
SLOW_QUEUE: Final = "etlpay.ingest.slow"
PARKED_QUEUE: Final = "etlpay.parked"
RECEIPTS_QUEUE: Final = "etlpay.receipts"

# Dead letters of a foreign queue: they cannot leave its virtual host.
PARKED_SUFFIX: Final = ".parked"

_QUORUM: Final[FieldTable] = {"x-queue-type": "quorum"}
# Looking at a parked message requeues it; RabbitMQ 4 would drop it after twenty times.
_PARKED: Final[FieldTable] = {"x-delivery-limit": 1_000_000_000}
_QUEUE_BYTES_MAX: Final = 8 * 1024**3
_INGEST_DELIVERIES_MAX: Final = 20
_PUBLIC_DELIVERIES_MAX: Final = 100
_LOOK_SECONDS: Final = 0.5


def _dead_lettering(to: str, deliveries_max: int) -> FieldTable:
    return {
        "x-delivery-limit": deliveries_max,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": to,
        # At least once needs reject-publish: a full queue refuses messages instead of dropping them.
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
        "x-max-length-bytes": _QUEUE_BYTES_MAX,
    }


_ARGUMENTS: Final[dict[str, FieldTable]] = {
    PARKED_QUEUE: _PARKED,
    SLOW_QUEUE: _dead_lettering(PARKED_QUEUE, _INGEST_DELIVERIES_MAX),
    INGEST_QUEUE: _dead_lettering(SLOW_QUEUE, _INGEST_DELIVERIES_MAX),
    RECEIPTS_QUEUE: _dead_lettering(PARKED_QUEUE, _INGEST_DELIVERIES_MAX),
}


async def declare_ingest_queues(connection: AbstractConnection) -> None:
    """Declare the queues between the services. Idempotent.

    Raises:
        aiormq.exceptions.ChannelPreconditionFailed: one exists with other arguments.
    """
    async with connection.channel() as amqp_channel:
        for name, arguments in _ARGUMENTS.items():
            try:
                await amqp_channel.declare_queue(name, durable=True, arguments=_QUORUM | arguments)
            except ChannelPreconditionFailed:
                log.error("a queue exists with another type or other arguments; nothing is read from it", queue=name)  # noqa: TRY400 - the reason says it all
                raise


async def require_ingest_queues(connection: AbstractConnection) -> None:
    """Return once the queues between the services exist: for a service that may lack the permission to declare them.

    A missing queue is declared if this user may do so. Otherwise the processor declares it, and this waits.
    """
    reported = False
    while not await _ingest_queues_exist(connection):
        try:
            await declare_ingest_queues(connection)
        except ChannelAccessRefused:
            if not reported:
                log.info("waiting for the processor to declare the ingest queues; nothing is published yet")
            reported = True
            await asyncio.sleep(_LOOK_SECONDS)


async def _ingest_queues_exist(connection: AbstractConnection) -> bool:
    try:
        async with connection.channel() as amqp_channel:
            for name in _ARGUMENTS:
                await amqp_channel.declare_queue(name, passive=True)
    except ChannelNotFoundEntity:
        return False
    return True


async def ingest_queue_depths(connection: AbstractConnection) -> dict[str, int]:
    """Return how many messages wait in each queue between the services, without the unacked ones.

    Raises:
        aiormq.exceptions.ChannelNotFoundEntity: one does not exist.
    """
    async with connection.channel() as amqp_channel:
        return {
            name: (await amqp_channel.declare_queue(name, passive=True)).declaration_result.message_count or 0
            for name in _ARGUMENTS
        }


async def declare_public(connection: AbstractConnection, queue: str) -> None:
    """Make sure that `queue` exists and is bound to the public exchange under its own name. Idempotent.

    A queue that exists is used with its own arguments: it may belong to somebody else. A queue that is declared here
    gets another one for its dead letters, `<queue>.parked`.
    """
    try:
        await _bind_public(connection, queue, passive=True, arguments=None)
    except ChannelNotFoundEntity:
        # The broker has closed the channel of the first attempt; the second one opens another.
        parked = f"{queue}{PARKED_SUFFIX}"
        async with connection.channel() as amqp_channel:
            await amqp_channel.declare_queue(parked, durable=True, arguments=_QUORUM | _PARKED)
        arguments = _QUORUM | _dead_lettering(parked, _PUBLIC_DELIVERIES_MAX)
        await _bind_public(connection, queue, passive=False, arguments=arguments)


async def _bind_public(
    connection: AbstractConnection, queue: str, *, passive: bool, arguments: FieldTable | None
) -> None:
    async with connection.channel() as amqp_channel:
        exchange = await amqp_channel.declare_exchange(EVENTS_EXCHANGE, ExchangeType.TOPIC, durable=True)
        found = await amqp_channel.declare_queue(queue, durable=True, passive=passive, arguments=arguments)
        await found.bind(exchange, routing_key=queue)
