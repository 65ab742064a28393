"""Messages of other versions in the ingest queue, read by this version of the processor."""

import asyncio
import base64
from collections.abc import Sequence
from functools import partial
from typing import Final

import aio_pika
import asyncpg

from etlpay_cli.provision import INGEST_VHOST
from faults.harness.case import Case, Context
from shared.contracts.event import identify, now
from shared.messaging.topology import INGEST_QUEUE
from shared.rpc import processing_pb2 as pb
from shared.wire import CONTENT_TYPE, to_microseconds
from support.waiting import until_true

# An EventBatch as version 0.1.0 wrote it on 2026-11-23: one event of each channel.
_PREVIOUS: Final = base64.b64decode(
    "CngKELF+2Wx0y1HhpgHGQiZUm9oSEHByZXZpb3VzLXZlcnNpb24aA29uZSABKgdwYXltZW50MID0uf+hm5gDOIC0l+7jnZgDQhBh"
    "cHBsaWNhdGlvbi9qc29uSh57ImFtb3VudCI6IDEuMTAsICJub3RlIjogIsOpIn0KVAoQLcCpAyoWXQa/qjlHv2gv9BIQcHJldmlv"
    "dXMtdmVyc2lvbhoDdHdvIAI4gbSX7uOdmANCEGFwcGxpY2F0aW9uL2pzb25KDHsiYW1vdW50IjoyfQp6ChBf6BxfrZNYXpNrkiHu"
    "CWkmEhBwcmV2aW91cy12ZXJzaW9uGgV0aHJlZSADOIK0l+7jnZgDQhh0ZXh0L2NzdjsgaGVhZGVyPXByZXNlbnRKFmlkLGFtb3Vu"
    "dAp0aHJlZSwiMywzMCJSEGluYm94L3Jvd3MuY3N2OjIKUQoQg9PcI/aQXZO3Sr97f5RiPxIQcHJldmlvdXMtdmVyc2lvbhoEZm91"
    "ciAEOIO0l+7jnZgDQhBhcHBsaWNhdGlvbi9qc29uSghub25zZW5zZQ=="
)
_PREVIOUS_ROWS: Final = [
    ("four", b"nonsense", 2),
    ("one", '{"amount": 1.10, "note": "é"}'.encode(), 1),
    ("three", b'id,amount\nthree,"3,30"', 1),
    ("two", b'{"amount":2}', 1),
]
# A field that this version does not know: number 100, a text.
_UNKNOWN_FIELD: Final = b"\xa2\x06\x03new"
_NEXT_ROWS: Final = [("one", b'{"amount":1}', 1)]
_QUERY: Final = """
    SELECT raw.idempotency_key AS key, raw.body, record.status
    FROM raw_events AS raw JOIN processed_records AS record ON record.raw_event_id = raw.id
    WHERE raw.source_id = (SELECT id FROM ingestion_sources WHERE name = $1) ORDER BY 1
"""


def _next_version() -> bytes:
    """Return an EventBatch of a version to come, with fields that this one does not know."""
    envelope = pb.Envelope(
        event_id=identify("next-version", "one").bytes,
        source="next-version",
        idempotency_key="one",
        channel="CHANNEL_HTTP",
        received_at_us=to_microseconds(now()),
        content_type="application/json",
        body=_NEXT_ROWS[0][1],
    )
    event = envelope.SerializeToString() + _UNKNOWN_FIELD
    return b"\x0a" + bytes([len(event) & 0x7F | 0x80, len(event) >> 7]) + event + _UNKNOWN_FIELD


async def _upgrade(context: Context) -> bool:
    """The ingest queue holds messages of a version before and of one after, twice each, when the processor starts."""
    processor = context.child("processor")
    async with asyncio.TaskGroup() as group:
        died = group.create_task(processor.kill(away_seconds=4))
        await asyncio.sleep(0.5)
        connection = await aio_pika.connect(context.world.amqp_url("operator", INGEST_VHOST))
        async with connection, connection.channel(on_return_raises=True) as amqp_channel:
            for body in (_PREVIOUS, _next_version()) * 2:
                message = aio_pika.Message(
                    body, content_type=CONTENT_TYPE, delivery_mode=aio_pika.DeliveryMode.PERSISTENT
                )
                await amqp_channel.default_exchange.publish(message, INGEST_QUEUE)
        away = processor.pid is None
    await processor.wait_ready()
    for source, rows in (("previous-version", _PREVIOUS_ROWS), ("next-version", _NEXT_ROWS)):
        if not await until_true(partial(_is_stored, context, source, rows), 30):
            context.problems.append(f"messages of the {source} are not stored as they are")
    return died.result() and away


async def _is_stored(context: Context, source: str, rows: Sequence[tuple[str, bytes, int]]) -> bool:
    try:
        async with context.world.owner() as owner:
            found = await owner.fetch(_QUERY, source)
    except (OSError, asyncpg.PostgresError):
        return False
    return [(row["key"], bytes(row["body"]), row["status"]) for row in found] == list(rows)


CASES: Final = [Case("messages of other versions in the ingest queue", _upgrade)]
