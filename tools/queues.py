"""Shows how many messages wait in each queue of a running EtlPay; with `take-parked` takes parked messages out.

Each parked message goes into two files of the current folder: `….bin` is its body, `….json` its headers and properties
(bytes as base64). It is acknowledged when both are on the disk. No file is ever replaced.
"""

import asyncio
import os
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import aio_pika
import msgspec
from aio_pika.abc import AbstractChannel
from yarl import URL

from shared.messaging.topology import INGEST_QUEUE, PARKED_QUEUE, PUBLIC_QUEUE, RECEIPTS_QUEUE, SLOW_QUEUE
from shared.settings import AmqpSettings, ProgramSettings, QueueBrokerSettings

PUBLIC_PARKED_QUEUE = f"{PUBLIC_QUEUE}.parked"


class Settings(ProgramSettings, QueueBrokerSettings):
    """The addresses of both brokers."""


@asynccontextmanager
async def channel_of(broker: AmqpSettings) -> AsyncIterator[AbstractChannel]:
    """Open a channel until the block ends."""
    url = URL(broker.amqp_url).with_password(broker.amqp_password.get_secret_value())
    async with await aio_pika.connect(url) as connection:
        yield await connection.channel()


async def show(broker: AmqpSettings, *names: str) -> None:
    """Print how many messages and consumers each queue has."""
    async with channel_of(broker) as amqp_channel:
        for name in names:
            found = (await amqp_channel.declare_queue(name, passive=True)).declaration_result
            print(f"{name:<20} {found.message_count:>8} waiting {found.consumer_count:>3} consumers")


async def take_out(broker: AmqpSettings, name: str) -> None:
    """Move every message of a queue into files."""
    run = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:8]}"
    async with channel_of(broker) as amqp_channel:
        queue = await amqp_channel.get_queue(name)
        number = 0
        while (message := await queue.get(fail=False)) is not None:
            number += 1
            path = Path(f"{name}-{run}-{number:06}.bin")
            keep(path.with_suffix(".json"), msgspec.json.format(msgspec.json.encode(message.info(), enc_hook=repr)))
            keep(path, message.body)
            await message.ack()
            print(path, len(message.body), "bytes")


def keep(path: Path, content: bytes) -> None:
    """Write a new file; return when it is on the disk."""
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    folder = os.open(".", os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


async def main(command: str) -> None:
    """Run the command on our queues, then on the public ones."""
    settings = Settings()
    if command == "take-parked":
        os.umask(0o077)
        await take_out(settings, PARKED_QUEUE)
        await take_out(settings.queue_broker(), PUBLIC_PARKED_QUEUE)
    else:
        await show(settings, INGEST_QUEUE, SLOW_QUEUE, RECEIPTS_QUEUE, PARKED_QUEUE)
        await show(settings.queue_broker(), PUBLIC_QUEUE, PUBLIC_PARKED_QUEUE)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "show"))
