"""Two processors on one queue and behind one gRPC name: the same events through every channel, each stored once."""

import asyncio

import aio_pika
import msgspec

from support import amqp
from support.servers import free_port
from support.siblings import counted, environment_of, ready, send, sibling
from support.stack import Stack

EVENTS = 400
COMMITS = "etlpay_processor_batch_events_count"


ROWS: list[dict[str, str | int]] = [{"id": f"key-{number}", "value": 1} for number in range(EVENTS)]


async def publish(stack: Stack, source: str) -> None:
    """Publish every event to the queue."""
    await amqp.publish(
        stack.amqp,
        (aio_pika.Message(msgspec.json.encode(row), headers={"source": source, "id": row["id"]}) for row in ROWS),
    )


def drop(stack: Stack, source: str) -> None:
    """Drop every event into the inbox, in one file."""
    stack.drop(source, "all.ndjson", b"\n".join(map(msgspec.json.encode, ROWS)))


async def test_two_processors_share_the_work_and_one_may_die(local_stack: Stack, source: str) -> None:
    port, processing, ops_port = free_port(), free_port(), free_port()
    own = environment_of(local_stack, "processor")
    both = f"ipv4:127.0.0.1:{own['ETLPAY_PROCESSING_PORT']},127.0.0.1:{processing}"
    own_ops = int(own["ETLPAY_OPS_PORT"])
    settings = {"ETLPAY_PROCESSING_PORT": str(processing), "ETLPAY_OPS_PORT": str(ops_port)}
    with (
        sibling(local_stack, "processor", **settings) as second,
        sibling(
            local_stack, "api_gateway", ETLPAY_HTTP_PORT=str(port), ETLPAY_OPS_PORT="0", ETLPAY_PROCESSOR_TARGET=both
        ),
    ):
        assert await ready(port, ops_port)
        before = await counted(own_ops, COMMITS)
        drop(local_stack, source)
        keys = [str(row["id"]) for row in ROWS]
        sending = asyncio.gather(send(port, source, keys), send(port, source, reversed(keys)))
        await publish(local_stack, source)
        forwards, backwards = await sending
        shares = [await counted(own_ops, COMMITS) - before, await counted(ops_port, COMMITS)]
        after = asyncio.ensure_future(send(port, source, [f"after-{number}" for number in range(EVENTS)]))
        await asyncio.sleep(0.1)
        second.kill()
        last = await after

    statuses = {*forwards, *backwards, *last}
    assert statuses <= {200, 201, 202}
    assert all(share > 0 for share in shares)
    await local_stack.events_of(source, count=2 * EVENTS)
