"""Takes messages from a queue and acks each, and does nothing else: `URL QUEUE MESSAGES`. Deletes the queue."""

import asyncio
import sys
import time

import aiormq
import msgspec
import uvloop
from aiormq.abc import DeliveredMessage

from benchmarks.measuring import Sample

_PREFETCH = 200


async def consume(url: str, queue: str, messages: int) -> Sample:
    """Return the rate from the start of consuming to the last ack."""
    connection = await aiormq.connect(url)
    channel = await connection.channel()
    await channel.basic_qos(prefetch_count=_PREFETCH)
    left, done = messages, asyncio.Event()

    async def take(message: DeliveredMessage) -> None:
        nonlocal left
        await channel.basic_ack(message.delivery_tag or 0)
        left -= 1
        if not left:
            done.set()

    began = time.perf_counter()
    await channel.basic_consume(queue, take)
    await done.wait()
    seconds = time.perf_counter() - began
    await channel.queue_delete(queue)
    await connection.close()
    return Sample(messages, messages / seconds)


def main() -> None:
    """Print the sample."""
    url, queue, messages = sys.argv[1:]
    sys.stdout.buffer.write(msgspec.json.encode(uvloop.run(consume(url, queue, int(messages)))))


if __name__ == "__main__":
    main()
