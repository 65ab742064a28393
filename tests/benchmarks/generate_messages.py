"""Fills a new quorum queue: `URL QUEUE SOURCE SIZE EVENTS EVENTS_PER_MESSAGE`. Single events are JSON, more NDJSON."""

import asyncio
import sys
import time

import aiormq
import msgspec
import uvloop
from pamqp.commands import Basic

from benchmarks.measuring import Sample
from benchmarks.payloads import body

_WINDOW = 500


async def fill(words: list[str]) -> Sample:
    """Publish with confirms, so many at a time; return once the broker has them all."""
    url, queue, source, size, *numbers = words
    events, per_message = map(int, numbers)
    connection = await aiormq.connect(url)
    channel = await connection.channel(publisher_confirms=True)
    await channel.queue_declare(queue, durable=True, arguments={"x-queue-type": "quorum"})
    content_type = "application/json" if per_message == 1 else "application/x-ndjson"
    began = time.perf_counter()
    properties = Basic.Properties(content_type=content_type, delivery_mode=2, headers={"source": source})
    firsts = range(1, events + 1, per_message)
    for start in range(0, len(firsts), _WINDOW):
        async with asyncio.TaskGroup() as group:
            for first in firsts[start : start + _WINDOW]:
                last = min(first + per_message - 1, events)
                message = b"\n".join(body(size, number) for number in range(first, last + 1))
                group.create_task(channel.basic_publish(message, routing_key=queue, properties=properties))
    await connection.close()
    return Sample(events, events / (time.perf_counter() - began))


def main() -> None:
    """Print the sample."""
    sys.stdout.buffer.write(msgspec.json.encode(uvloop.run(fill(sys.argv[1:]))))


if __name__ == "__main__":
    main()
