"""The composition root: the parts of queue-consumer, in the order in which they start."""

import asyncio
from functools import partial
from pathlib import Path
from typing import Final

from queue_consumer.forwarder import Forwarder
from queue_consumer.mapping import MappingOptions
from queue_consumer.settings import Settings
from shared.auth.files import AccessFileError
from shared.auth.producers import Producers
from shared.contracts.errors import FatalError
from shared.contracts.event import Channel
from shared.counters import TALLY
from shared.messaging.consumer import Consumer
from shared.messaging.publisher import READY, Publisher
from shared.messaging.receipts import ReceiptSender
from shared.messaging.topology import declare_public
from shared.runtime.ops import OpsServer
from shared.runtime.readiness import Readiness
from shared.runtime.service import Periodic, running

_LOOK_SECONDS: Final = 1.0


async def serve(settings: Settings, stopping: asyncio.Event) -> None:
    """Consume until `stopping`; then settle what was received.

    Raises:
        FatalError: RabbitMQ refuses this service, or the file of producers cannot be read.
    """
    readiness = Readiness(READY, stopping=stopping)
    producers = _producers(settings)
    publisher = Publisher(settings, name="queue-consumer", readiness=readiness)
    forwarder = _forwarder(settings, publisher, producers)
    receipts = ReceiptSender(
        publisher,
        TALLY,
        service="queue-consumer",
        channel=Channel.QUEUE,
        interval_seconds=settings.receipt_seconds,
    )
    consumer = Consumer(
        settings.queue_broker(),
        name="queue-consumer",
        queue=settings.queue,
        prefetch_count=settings.queue_messages_max,
        bytes_max=settings.queue_bytes_max,
        declare=lambda connection: declare_public(connection, settings.queue),
        settle_batch=forwarder.settle,
        batch_bytes_max=settings.batch.bytes_max,
        readiness=readiness,
    )
    async with (
        running(OpsServer(readiness, host=settings.ops_host, port=settings.ops_port)),
        running(Periodic(partial(_look, producers, readiness), seconds=_LOOK_SECONDS)),
        running(publisher),
        running(receipts),
    ):
        await receipts.opened(stopping)
        async with running(consumer):
            await stopping.wait()
            forwarder.drain()


async def _look(producers: Producers | None, readiness: Readiness) -> None:
    """Read a changed file of producers, and report whether it can be read."""
    if producers is not None:
        producers.look()
        readiness.set("producers", present=producers.is_readable)


def _producers(settings: Settings) -> Producers | None:
    if not settings.producers_file:
        return None
    try:
        return Producers(Path(settings.producers_file))
    except AccessFileError as error:
        raise FatalError(str(error)) from error


def _forwarder(settings: Settings, publisher: Publisher, producers: Producers | None) -> Forwarder:
    return Forwarder(
        publisher,
        options=MappingOptions(
            queue=settings.queue,
            default_source=settings.queue_source,
            message_events_max=settings.queue_message_events_max,
        ),
        limits=settings.batch,
        events_max=settings.queue_events_max,
        interval_seconds=settings.queue_interval_seconds,
        producers=producers,
    )
