"""Messages that are odd, too much, or not what they say: to the queue that anybody may publish to.

What is taken is kept, so nothing here is refused: it ends as a record, FAILED where it is no event.
"""

import asyncio
import uuid
from datetime import UTC, datetime
from typing import Any

import aio_pika
import aiormq.exceptions
import pytest
from aio_pika import DeliveryMode, Message
from aio_pika.abc import AbstractIncomingMessage
from yarl import URL

from etlpay_cli.layout import Layout
from etlpay_cli.provision import INGEST_VHOST, SECRET_PLACES
from shared.messaging.topology import PARKED_QUEUE
from support import amqp
from support.hostile import CANARY
from support.stack import Stack, until

MIB = 1024 * 1024
QUEUE = "etl-queue"
EVENT = b'{"mark": "%b"}' % CANARY.encode()


async def publish(stack: Stack, *messages: Message) -> None:
    await amqp.publish(stack.amqp, messages)


def message(source: str, body: bytes = EVENT, *, headers: dict[str, Any] | None = None, **properties: Any) -> Message:  # noqa: ANN401 - as the library has them
    return Message(body, headers={"source": source, **(headers or {})}, **properties)


async def landed(stack: Stack, source: str, count: int = 1) -> list[tuple[str, bytes]]:
    return [(row["status"], row["body"]) for row in await stack.events_of(source, count=count)]


@pytest.mark.parametrize(
    ("content_type", "body", "status"),
    [
        (None, EVENT, "SUCCESS"),
        ("", EVENT, "SUCCESS"),
        ("text/plain", EVENT, "SUCCESS"),
        ("application/xml", b"<mark>" + CANARY.encode() + b"</mark>", "FAILED"),
        ("application/json; charset=utf-16", EVENT, "SUCCESS"),
        ("application/octet-stream", bytes(range(256)), "FAILED"),
        ("x" * 255, EVENT, "SUCCESS"),
        ("a/b\r\nlevel: error", b"no json " + CANARY.encode(), "FAILED"),
        ("text/csv; header=present", b"a,b\n1,2", "SUCCESS"),
        ("application/x-ndjson", EVENT, "SUCCESS"),
    ],
)
async def test_a_content_type_that_is_wrong_or_none(
    stack: Stack, source: str, content_type: str | None, body: bytes, status: str
) -> None:
    await publish(stack, message(source, body, content_type=content_type))

    assert await landed(stack, source) == [(status, body)]


@pytest.mark.parametrize(
    "body",
    [b"", EVENT[:-1], b"[" + EVENT + b"," + EVENT, b"\x00", b"\x1f\x8b\x08" + bytes(7)],
    ids=["empty", "truncated", "truncated array", "NUL", "gzip"],
)
@pytest.mark.parametrize("content_encoding", [None, "gzip"])
async def test_a_body_that_is_no_event(stack: Stack, source: str, body: bytes, content_encoding: str | None) -> None:
    await publish(stack, message(source, body, content_encoding=content_encoding))

    assert await landed(stack, source) == [("FAILED", body)]


async def test_a_message_over_16_mib_is_refused_by_the_broker(stack: Stack, source: str) -> None:
    """Its publisher is told, and the next one's message is taken."""
    with pytest.raises(aiormq.exceptions.ChannelPreconditionFailed, match="larger than configured max size"):
        await publish(stack, message(source, _filled(16 * MIB + 1)))
    await publish(stack, message(source))

    assert await landed(stack, source) == [("SUCCESS", EVENT)]


async def test_a_message_that_no_batch_can_hold_is_parked_and_the_next_is_taken(stack: Stack, source: str) -> None:
    """16 MiB, with nothing left for what a batch says beside it: set aside whole, where an operator finds it."""
    large = _filled(16 * MIB)

    await publish(stack, message(source, large), message(source))

    assert await landed(stack, source) == [("SUCCESS", EVENT)]
    parked = await until(lambda: _take_parked(stack), lambda found: found is not None)
    assert parked is not None
    assert parked.body == large
    assert parked.headers["etlpay-queue"] == QUEUE


@pytest.mark.parametrize(("content_type", "status"), [(None, "SUCCESS"), ("text/csv; header=present", "FAILED")])
async def test_a_large_message_of_wide_text_takes_no_more_memory_than_another(
    stack: Stack, source: str, content_type: str | None, status: str
) -> None:
    """In Python one character of four bytes makes four bytes of each."""
    body = _filled(16 * MIB - 4_096).replace(b"xxxx", "\N{BANKNOTE WITH EURO SIGN}".encode(), 1)
    body = body if content_type is None else b"a\n" + body[2:]

    await publish(stack, message(source, body, content_type=content_type))

    assert await landed(stack, source) == [(status, body)]


def _filled(size: int) -> bytes:
    start = b'{"mark": "%b", "fill": "' % CANARY.encode()
    return start + b"x" * (size - len(start) - 2) + b'"}'


async def _take_parked(stack: Stack) -> AbstractIncomingMessage | None:
    """Take a message out as its operator would."""
    [place] = SECRET_PLACES["operator"]
    password = Layout(stack.root).read_secret(place)
    url = URL(stack.amqp).with_user("operator").with_password(password).with_path(f"/{INGEST_VHOST}")
    async with await aio_pika.connect(url) as connection:
        queue = await (await connection.channel()).get_queue(PARKED_QUEUE)
        found = await queue.get(fail=False)
        if found is not None:
            await found.ack()
    return found


async def test_a_large_message_is_kept_with_its_bytes(stack: Stack, source: str) -> None:
    large = b'{"mark": "%b", "fill": "%b"}' % (CANARY.encode(), b"x" * 2 * 1024 * 1024)

    await publish(stack, message(source, large))

    assert await landed(stack, source) == [("SUCCESS", large)]


@pytest.mark.parametrize(
    "headers",
    [
        {"x-death": [{"count": 10**9, "reason": "rejected", "queue": QUEUE, "exchange": "", "routing-keys": [QUEUE]}]},
        {"x-death": "not a list"},
        {"x-delivery-count": 10**9},
        {"x-delivery-count": -1, "x-death": [{"count": -1, "time": datetime(1970, 1, 1, tzinfo=UTC)}]},
        {"x-first-death-queue": "etlpay.parked", "etlpay-queue": "etlpay.ingest", "x-last-death-reason": "maxlen"},
        {"CC": ["etlpay.ingest", "etlpay.parked"], "BCC": ["etlpay.receipts"]},
    ],
    ids=["a billion deaths", "deaths that are text", "a billion deliveries", "negative", "our own names", "copies"],
)
async def test_headers_that_the_broker_or_we_would_write(stack: Stack, source: str, headers: dict[str, Any]) -> None:
    """A forged history changes nothing: once stored, once answered for."""
    await publish(stack, message(source, headers=headers))

    assert await landed(stack, source) == [("SUCCESS", EVENT)]


def _nested(levels: int) -> dict[str, Any]:
    table: dict[str, Any] = {"end": CANARY}
    for _ in range(levels):
        table = {"t": table, "l": [1, 2.5, None]}
    return table


@pytest.mark.parametrize(
    "headers",
    [
        {"nested": _nested(100)},
        {f"h{number}": CANARY for number in range(2_000)},
        {"long": CANARY * 3_000},
        {"ce-id": _nested(3), "ce-type": [CANARY], "ce-time": 10**15, "id": {"a": 1}},
        {"ce-id": bytearray(b"\xff\xfe" + CANARY.encode()), "ce-type": bytearray(1), "ce-time": "yesterday"},
        {"ce-id": True, "id": None, "ce-type": 1.5, "ce-time": bytearray(b"2026")},
    ],
    ids=["nested", "many", "long", "tables for texts", "bytes for texts", "other types"],
)
async def test_header_tables_of_any_shape(stack: Stack, source: str, headers: dict[str, Any]) -> None:
    await publish(stack, message(source, headers=headers))

    assert await landed(stack, source) == [("SUCCESS", EVENT)]


async def test_the_same_message_id_for_other_content_is_another_event(stack: Stack, source: str) -> None:
    bodies = [b'{"n": %d}' % number for number in range(20)]

    await publish(stack, *(message(source, body, message_id="same") for body in bodies * 2))

    assert sorted(body for _, body in await landed(stack, source, 20)) == sorted(bodies)


async def test_the_same_id_for_other_content_is_a_conflict_and_kept_as_such(stack: Stack, source: str) -> None:
    await publish(stack, *(message(source, b'{"n": %d}' % n, headers={"ce-id": "same"}) for n in range(5)))

    [row] = await stack.events_of(source, count=1)
    query = "SELECT body FROM conflicts WHERE raw_event_id = $1"
    kept = await until(lambda: stack.fetch(query, row["raw_event_id"]), lambda rows: len(rows) >= 4)
    assert sorted([row["body"], *(each["body"] for each in kept)]) == [b'{"n": %d}' % n for n in range(5)]


@pytest.mark.parametrize(
    "properties",
    [
        {"delivery_mode": DeliveryMode.NOT_PERSISTENT},
        {"priority": 255},
        {"expiration": 3_600},
        {"reply_to": "etlpay.ingest", "correlation_id": CANARY},
        {"timestamp": datetime(1970, 1, 1, tzinfo=UTC)},
        {"app_id": "processor", "type": "../" * 20},
    ],
    ids="-".join,
)
async def test_properties_of_any_value(stack: Stack, source: str, properties: dict[str, Any]) -> None:
    await publish(stack, message(source, **properties))

    assert await landed(stack, source) == [("SUCCESS", EVENT)]


@pytest.mark.parametrize("joined", [b"[%b]", b"%b"], ids=["array", "lines"])
async def test_good_and_bad_in_one_message(stack: Stack, source: str, joined: bytes) -> None:
    """Each has its own record; the good ones are none the worse."""
    bad = [b"1e999", b'"text"', b"null", b'{"n": 1e999}', b'{"n": "\\u0000"}']
    items = [EVENT, *bad, b'{"n": 2}']
    content_type = "application/json" if joined.startswith(b"[") else "application/x-ndjson"
    separator = b"," if joined.startswith(b"[") else b"\n"

    await publish(stack, message(source, joined % separator.join(items), content_type=content_type))

    found = await landed(stack, source, len(items))
    assert sorted(body for _, body in found) == sorted(items)
    assert {body for status, body in found if status == "SUCCESS"} == {EVENT, b'{"n": 2}'}


async def test_a_flood_of_empty_messages_does_not_keep_others_waiting(stack: Stack, source: str) -> None:
    empty = [message(f"{source}-empty", b"", message_id=str(uuid.uuid4())) for _ in range(500)]

    async with asyncio.timeout(30):
        await publish(stack, *empty, message(source))
        assert await landed(stack, source) == [("SUCCESS", EVENT)]
