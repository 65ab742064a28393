"""Every exchange and queue of EtlPay, declared in this one place.

The lanes live in the virtual host that `ETLPAY_AMQP_URL` names, where no foreign producer has a permission; the public
exchange and the foreign queues live in that of `ETLPAY_QUEUE_AMQP_URL`, which may be of another broker.

`etlpay.ingest` is the fast lane. A message that keeps failing there (a crash while it is in hand counts) moves to
`etlpay.ingest.slow`, which is read one message at a time so that innocent neighbours come home, and from there to
`etlpay.parked`, which nobody reads: its depth is an alarm. `etlpay.receipts` brings what the doors have counted. All
are quorum queues: only those fsync before they confirm.
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

# Set aside beside the queue that they came from: a dead letter cannot leave its virtual host.
PARKED_SUFFIX: Final = ".parked"

_QUORUM: Final[FieldTable] = {"x-queue-type": "quorum"}
# Looking at a parked message gives it back; RabbitMQ 4 would drop it after twenty looks.
_PARKED: Final[FieldTable] = {"x-delivery-limit": 1_000_000_000}
_LANE_BYTES_MAX: Final = 8 * 1024**3
_LANE_DELIVERIES_MAX: Final = 20
_PUBLIC_DELIVERIES_MAX: Final = 100
_LOOK_SECONDS: Final = 0.5


def _dead_lettering(to: str, deliveries_max: int) -> FieldTable:
    return {
        "x-delivery-limit": deliveries_max,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": to,
        # At least once needs reject-publish: the broker refuses rather than drops.
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
        "x-max-length-bytes": _LANE_BYTES_MAX,
    }


_ARGUMENTS: Final[dict[str, FieldTable]] = {
    PARKED_QUEUE: _PARKED,
    SLOW_QUEUE: _dead_lettering(PARKED_QUEUE, _LANE_DELIVERIES_MAX),
    INGEST_QUEUE: _dead_lettering(SLOW_QUEUE, _LANE_DELIVERIES_MAX),
    RECEIPTS_QUEUE: _dead_lettering(PARKED_QUEUE, _LANE_DELIVERIES_MAX),
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
                log.error("a queue is there with another type or other arguments; nothing is read from it", queue=name)  # noqa: TRY400 - the reason says it all
                raise


async def require_ingest_queues(connection: AbstractConnection) -> None:
    """Return once the queues between the services exist, for a service that may have permission to write only.

    Looking takes no permission. A lane that is missing is declared where that is allowed; elsewhere the processor,
    whose intake they are, declares them, and until then there is nothing to publish to.
    """
    told = False
    while not await _lanes_exist(connection):
        try:
            await declare_ingest_queues(connection)
        except ChannelAccessRefused:
            if not told:
                log.info("waiting for the processor to declare the lanes; nothing is taken yet")
            told = True
            await asyncio.sleep(_LOOK_SECONDS)


async def _lanes_exist(connection: AbstractConnection) -> bool:
    try:
        async with connection.channel() as amqp_channel:
            for name in _ARGUMENTS:
                await amqp_channel.declare_queue(name, passive=True)
    except ChannelNotFoundEntity:
        return False
    return True


async def ingest_queue_depths(connection: AbstractConnection) -> dict[str, int]:
    """Return how many messages wait in each queue between the services; those in a consumer's hands do not count.

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

    A queue that is there already is used as it is, whatever its arguments: it may belong to somebody else. One that is
    not gets a queue beside it for its dead letters, `<queue>.parked`.
    """
    try:
        await _bind_public(connection, queue, passive=True, arguments=None)
    except ChannelNotFoundEntity:
        # The broker closed that channel with its refusal; the second attempt has one of its own.
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
