"""From a foreign message to envelopes. Pure and total: whatever the bytes are, they are kept.

A message has been taken already, so nothing is refused here: what is no event goes on as it is, and the processor
keeps it as a FAILED record.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Any, Final

import msgspec

from shared.contracts.event import Channel, Envelope, id_problem, identify, source_problem, stamp, type_problem
from shared.contracts.payload import object_problem
from shared.framing import ArrayFramer, Framer, FramingError, LineFramer

JSON: Final = "application/json"

_LINE_TYPES: Final = frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl"})
_BLANK: Final = b" \t\r\n"
_CONTENT_TYPE_CHARS_MAX: Final = 100
_MESSAGE_HASH_CHARS: Final = 16

# CloudEvents' attributes go by three prefixes on AMQP 0-9-1; the first header that holds something fit counts.
_PREFIXES: Final = ("ce-", "cloudEvents_", "cloudEvents:")
_SOURCE_HEADERS: Final = ("source", *(f"{prefix}source" for prefix in _PREFIXES))
_ID_HEADERS: Final = (*(f"{prefix}id" for prefix in _PREFIXES), "id")
_TYPE_HEADERS: Final = tuple(f"{prefix}type" for prefix in _PREFIXES)
_TIME_HEADERS: Final = tuple(f"{prefix}time" for prefix in _PREFIXES)

_scan = msgspec.json.Decoder(msgspec.Raw).decode


class Message(msgspec.Struct, frozen=True):
    """What a foreign publisher sent. `headers` hold values of any AMQP type."""

    body: bytes
    headers: Mapping[str, Any]
    content_type: str = ""
    message_id: str = ""


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where messages come from, and what holds for those that do not say."""

    queue: str
    default_source: str
    message_events_max: int


def to_envelopes(message: Message, *, place: Place, received_at: datetime) -> list[Envelope]:
    """Return the events of a message, at least one, in order.

    A JSON object is one event, an array one per element, NDJSON one per line. Everything else is one event that
    holds the whole message.
    """
    headers = message.headers
    source = _source(headers) or place.default_source
    event_type = _type(headers)
    occurred_at = _occurred_at(headers)
    origin = f"queue:{place.queue}"

    def envelope(body: bytes, item_key: str, content_type: str, moment: datetime) -> Envelope:
        kept_key = _bounded(item_key)
        return Envelope(
            event_id=identify(source, kept_key),
            source=source,
            channel=Channel.QUEUE,
            received_at=moment,
            body=body,
            idempotency_key=kept_key,
            type=event_type,
            occurred_at=occurred_at,
            content_type=content_type,
            origin=origin,
        )

    key = _key(message)
    is_lines = _base_type(message.content_type) in _LINE_TYPES
    if not is_lines and object_problem(message.body) is None:
        return [envelope(message.body, key, JSON, received_at)]
    items = _items(message.body, is_lines=is_lines, items_max=place.message_events_max)
    if items is None:
        return [envelope(message.body, key, _content_type(message), received_at)]
    return [
        envelope(item, f"{key}#{index}" if key else "", JSON, stamp(received_at, index))
        for index, item in enumerate(items)
    ]


def _items(body: bytes, *, is_lines: bool, items_max: int) -> list[bytes] | None:
    """Return the items of an array or of NDJSON, or None where the message, which is no object, counts as a whole."""
    framer: Framer
    if is_lines:
        framer = LineFramer(len(body))
    elif body.lstrip(_BLANK).startswith(b"["):
        framer = ArrayFramer(len(body))
    elif _looks_like_lines(body):
        framer = LineFramer(len(body))
    else:
        return None
    try:
        items = list(islice(_cut(framer, body), items_max + 1))
    except FramingError:
        return None
    return items if 0 < len(items) <= items_max else None


def _cut(framer: Framer, body: bytes) -> Iterator[bytes]:
    yield from framer.feed(body)
    yield from framer.finish()


def _looks_like_lines(body: bytes) -> bool:
    """Return True where there are several lines, each of which begins as an object does."""
    count = 0
    for line in body.split(b"\n"):
        text = line.strip(_BLANK)
        if text and not text.startswith(b"{"):
            return False
        count += bool(text)
    return count > 1


def _content_type(message: Message) -> str:
    """Return how to read a message that counts as a whole. What its publisher said is a hint, and often wrong."""
    if not message.content_type or _is_json(message.body):
        return JSON
    printable = "".join(char for char in message.content_type if char.isascii() and char.isprintable())
    return printable[:_CONTENT_TYPE_CHARS_MAX] or JSON


def _is_json(body: bytes) -> bool:
    try:
        _scan(body)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def _base_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _key(message: Message) -> str:
    """Return the idempotency key: the producer's id, else one that tells a redelivery from another message, else none.

    A `message_id` alone would not do: publishers reuse them for other content.
    """
    for text in _texts(message.headers, _ID_HEADERS):
        return text
    if message.message_id:
        digest = hashlib.sha256(message.body).hexdigest()[:_MESSAGE_HASH_CHARS]
        return f"mid:{message.message_id}:{digest}"
    return ""


def _bounded(key: str) -> str:
    """Return a key that the ledger can hold: one that is too long, or not printable, by its hash."""
    if not key or id_problem(key) is None:
        return key
    return f"sha256:{hashlib.sha256(key.encode('utf-8', 'surrogatepass')).hexdigest()}"


def _source(headers: Mapping[str, Any]) -> str:
    return next((text for text in _texts(headers, _SOURCE_HEADERS) if source_problem(text) is None), "")


def _type(headers: Mapping[str, Any]) -> str:
    return next((text for text in _texts(headers, _TYPE_HEADERS) if type_problem(text) is None), "")


def _occurred_at(headers: Mapping[str, Any]) -> datetime | None:
    for name in _TIME_HEADERS:
        if name not in headers:
            continue
        try:
            moment = msgspec.convert(headers[name], datetime)
        except msgspec.ValidationError:
            continue
        if moment.tzinfo is not None:
            return moment
    return None


def _texts(headers: Mapping[str, Any], names: Sequence[str]) -> Iterator[str]:
    """Yield what the named headers hold as text, without those that are empty or of a type that names nothing."""
    for name in names:
        if name not in headers:
            continue
        match headers[name]:
            case bool():
                continue
            case bytes() | bytearray() as raw if raw:
                # Bytes that are not UTF-8 stay distinct: each becomes a lone surrogate.
                yield bytes(raw).decode("utf-8", "surrogateescape")
            case str() as text if text:
                yield text
            case int() as number:
                yield str(number)
