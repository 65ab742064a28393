"""The composition root: what is made, in which order it starts, and how it drains."""

import asyncio

from queue_consumer.mapping import Place
from queue_consumer.settings import Settings
from queue_consumer.source import Source
from shared.counters import TALLY
from shared.messaging.consumer import Consumer
from shared.messaging.publisher import READY, Publisher
from shared.messaging.receipts import ReceiptSender
from shared.messaging.topology import declare_public
from shared.runtime.ops import serve_ops
from shared.runtime.readiness import Readiness


async def serve(settings: Settings, stopping: asyncio.Event) -> None:
    """Consume until `stopping`; then settle what is in hand, and close.

    Raises:
        FatalError: RabbitMQ does not let us in.
    """
    readiness = Readiness(READY)
    publisher = Publisher(settings, name="queue-consumer", readiness=readiness)
    source = _source(settings, publisher)
    receipts = ReceiptSender(publisher, TALLY, service="queue-consumer", interval_seconds=settings.receipt_seconds)
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
        consuming = group.create_task(consumer.run())
        group.create_task(serve_ops(readiness, host=settings.ops_host, port=settings.ops_port, stopping=drained))
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


def _source(settings: Settings, publisher: Publisher) -> Source:
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
    )
