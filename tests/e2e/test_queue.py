"""The queue channel of the running system."""

import signal
import uuid

import aio_pika
from aio_pika.abc import HeadersType
from yarl import URL

from etlpay_client import QueueClient
from support import amqp
from support.stack import Stack, until

DEFAULT_SOURCE = "queue-worker-demo"


async def publish(stack: Stack, body: bytes, *, headers: HeadersType | None = None) -> None:
    """Publish as any AMQP client would: to the exchange, with nothing else set."""
    await amqp.publish(stack.amqp, [aio_pika.Message(body, headers=headers)])


async def stored_with(stack: Stack, body: bytes) -> list[dict[str, object]]:
    """Return the events that hold these bytes, once there is one."""

    async def ask() -> list[dict[str, object]]:
        rows = await stack.fetch("SELECT source, channel, status, body FROM events WHERE body = $1", body)
        return [dict(row) for row in rows]

    return await until(ask, bool)


async def test_a_plain_json_message_without_headers_or_content_type_lands(stack: Stack) -> None:
    body = b'{"value":  "%s"}' % uuid.uuid4().hex.encode()

    await publish(stack, body)

    assert await stored_with(stack, body) == [
        {"source": DEFAULT_SOURCE, "channel": "queue", "status": "SUCCESS", "body": body}
    ]


async def test_the_publishing_client_delivers_under_the_source_and_id_it_is_given(stack: Stack, source: str) -> None:
    client = QueueClient(stack.amqp)

    await client.publish("etl-queue", {"value": 1}, source=source, id="1")
    await client.publish("etl-queue", {"value": 1}, source=source, id="1")
    await client.publish("etl-queue", {"value": 2}, source=source, id="2")

    rows = await stack.events_of(source, count=2)
    assert [(row["idempotency_key"], row["body"]) for row in rows] == [("1", b'{"value":1}'), ("2", b'{"value":2}')]


async def test_an_array_and_ndjson_are_an_event_for_each_element(stack: Stack, source: str) -> None:
    await publish(stack, b'[{"n": 1},  {"n": 2}]', headers={"source": source})
    await publish(stack, b'{"n": 3}\n{"n": 4}\n', headers={"source": source})

    rows = await stack.events_of(source, count=4)
    assert sorted(row["body"] for row in rows) == [b'{"n": 1}', b'{"n": 2}', b'{"n": 3}', b'{"n": 4}']


async def test_a_message_that_is_not_json_is_kept_as_a_failed_record(stack: Stack) -> None:
    body = b"\xff\x00 not json " + uuid.uuid4().bytes

    await publish(stack, body)

    [row] = await stored_with(stack, body)
    assert row["status"] == "FAILED"


async def test_a_consumer_started_by_hand_declares_its_queue_and_takes_from_it(stack: Stack, source: str) -> None:
    queue = f"hand-{source[-8:]}"
    consumer = stack.start(
        "queue_consumer", "--queue", queue, "--source", source, "--interval", "5", "--max-messages", "10"
    )
    client = QueueClient(operator_url(stack))

    async def published() -> bool:
        try:
            await client.publish(queue, {"value": 1})
        except Exception:  # noqa: BLE001 - not declared yet
            return False
        return True

    assert await until(published, bool)
    for n in range(24):
        await client.publish(queue, {"value": n})

    await stack.events_of(source, count=25)
    consumer.send_signal(signal.SIGTERM)
    assert consumer.wait(timeout=30) == 0


def operator_url(stack: Stack) -> str:
    """Return the operator's URL for the virtual host of foreign queues."""
    lines = (stack.root / ".etlpay" / "stack.env").read_text().splitlines()
    settings = dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    url, password = (settings[name].strip("'\"") for name in ("ETLPAY_AMQP_URL", "ETLPAY_AMQP_PASSWORD"))
    return str(URL(url).with_password(password).with_path("/"))
