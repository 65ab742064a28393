"""The composition root: what is made, in which order it starts, and how it drains."""

import asyncio
from pathlib import Path
from typing import Final

from queue_consumer.mapping import Place
from queue_consumer.settings import Settings
from queue_consumer.source import Source
from shared.contracts.errors import FatalError
from shared.contracts.event import Channel
from shared.counters import TALLY
from shared.messaging.consumer import Consumer
from shared.messaging.publisher import READY, Publisher
from shared.messaging.receipts import ReceiptSender
from shared.messaging.topology import declare_public
from shared.producers import Producers, ProducersFileError
from shared.runtime.ops import serve_ops
from shared.runtime.readiness import Readiness
from shared.runtime.waiting import wait_any

_LOOK_SECONDS: Final = 1.0


async def serve(settings: Settings, stopping: asyncio.Event) -> None:
    """Consume until `stopping`; then settle what is in hand, and close.

    Raises:
        FatalError: RabbitMQ does not let us in, or the file of producers cannot be read.
    """
    readiness = Readiness(READY)
    producers = _producers(settings)
    publisher = Publisher(settings, name="queue-consumer", readiness=readiness)
    source = _source(settings, publisher, producers)
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
        settle_run=source.settle,
        run_bytes_max=settings.batch.batch_bytes_max,
        readiness=readiness,
    )
    drained = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        publishing = group.create_task(publisher.run())
        telling = group.create_task(receipts.run())
        if producers is not None:
            group.create_task(_watch(producers, readiness, drained))
        group.create_task(serve_ops(readiness, host=settings.ops_host, port=settings.ops_port, stopping=drained))
        await receipts.opened(stopping)
        consuming = group.create_task(consumer.run())
        await stopping.wait()
        readiness.draining = True
        source.drain()
        consumer.close()
        await consuming
        receipts.close()
        await telling
        publisher.close()
        await publishing
        drained.set()


async def _watch(producers: Producers, readiness: Readiness, stopping: asyncio.Event) -> None:
    """See until `stopping` that a change of the producers counts, and that nobody overlooks one that cannot."""
    while not stopping.is_set():
        producers.look()
        readiness.set("producers", present=producers.is_readable)
        await wait_any(stopping, seconds_max=_LOOK_SECONDS)


def _producers(settings: Settings) -> Producers | None:
    if not settings.producers_file:
        return None
    try:
        return Producers(Path(settings.producers_file))
    except ProducersFileError as error:
        raise FatalError(str(error)) from error


def _source(settings: Settings, publisher: Publisher, producers: Producers | None) -> Source:
    return Source(
        publisher,
        place=Place(
            queue=settings.queue,
            default_source=settings.queue_source,
            message_events_max=settings.queue_message_events_max,
        ),
        limits=settings.batch,
        events_max=settings.queue_events_max,
        interval_seconds=settings.queue_interval_seconds,
        producers=producers,
    )
