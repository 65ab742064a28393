"""Maps a foreign message to envelopes. Pure, and defined for any bytes.

Nothing is refused here: what cannot be an event is one event with its bytes, and the processor stores it as a FAILED
record. Where the reason is not in the body, the content type gives it.
"""

from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from typing import Final

import msgspec

from queue_consumer.attributes import read_origin, read_sender, read_source, read_time, read_type
from queue_consumer.identity import invalid_source_key, item_stem, own_id, whole_key
from queue_consumer.message import Message
from shared.contracts.event import Channel, Envelope, identify, stamp
from shared.contracts.failure import failed_type, failure_reason
from shared.contracts.media_types import JSON, JSON_LINES
from shared.contracts.payload import object_problem
from shared.framing import ArrayFramer, Framer, FramingError, LineFramer

# Encodings that leave the bytes as they are. Some publishers give the charset.
_UNPACKED: Final = frozenset({"", "identity", "utf-8", "utf8", "us-ascii", "ascii", "binary", "8bit", "7bit"})
_BLANK: Final = b" \t\r\n"
_CONTENT_TYPE_CHARS_MAX: Final = 100
_UNREADABLE: Final = "the properties cannot be read, so the source that they may name is not known"
_PACKED: Final = "the property content_encoding says that the body is packed or encoded; it is not unpacked"

_scan = msgspec.json.Decoder(msgspec.Raw).decode


class MappingOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The queue that messages come from, the source of those that name none, and the most events in one."""

    queue: str
    default_source: str
    message_events_max: int


def to_envelopes(message: Message, *, options: MappingOptions, received_at: datetime) -> list[Envelope]:
    """Return the events of a message, at least one, in order, all of one source.

    A JSON object is one event, an array one per element, NDJSON one per line. Everything else is one event that
    holds the whole message; so is a message whose source cannot be kept, under the default source.
    """
    source, problem, given_source = read_source(message.headers, default=options.default_source)
    own = own_id(message.headers)
    sender, event_type, occurred_at = read_sender(message), read_type(message), read_time(message)
    origin = read_origin(message, queue=options.queue, own_id=own, given_source=given_source)

    def event(body: bytes, key: str, content_type: str, moment: datetime, derived: bool) -> Envelope:  # noqa: FBT001 - called for each item
        return Envelope(
            event_id=identify(source, key, derived=derived),
            source=source,
            channel=Channel.QUEUE,
            received_at=moment,
            body=body,
            idempotency_key=key,
            derived=derived,
            sender=sender,
            type=event_type,
            occurred_at=occurred_at,
            content_type=content_type,
            origin=origin,
        )

    failure = problem if message.is_readable else _UNREADABLE
    content = failed_type(failure) if failure else _content(message, items_max=options.message_events_max)
    if isinstance(content, str):
        key, derived = whole_key(own, message)
        if given_source:
            key, derived = invalid_source_key(given_source, key, derived=derived)
        return [event(message.body, key, content, received_at, derived)]
    stem = item_stem(own, message)
    return [
        event(item, f"{stem}#{index}" if stem else "", JSON, stamp(received_at, index), bool(stem))
        for index, item in enumerate(content)
    ]


def _content(message: Message, *, items_max: int) -> list[bytes] | str:
    """Return the items of a message, or the content type of a message that is one event."""
    # The content type of a packed body says what it holds when it is unpacked.
    is_lines = _base_type(message.content_type) in JSON_LINES and _is_unpacked(message)
    if not is_lines and object_problem(message.body) is None:
        return JSON
    return _items(message.body, is_lines=is_lines, items_max=items_max) or _content_type(message)


def _items(body: bytes, *, is_lines: bool, items_max: int) -> list[bytes] | None:
    """Return the items of an array or of NDJSON, or None where the whole body is one event."""
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
    """Return True where there are several lines, and each begins with a brace."""
    count = 0
    for line in body.split(b"\n"):
        text = line.strip(_BLANK)
        if text and not text.startswith(b"{"):
            return False
        count += bool(text)
    return count > 1


def _content_type(message: Message) -> str:
    """Return the content type of a message that is one event. That of its publisher is a hint, and often wrong."""
    if _is_json(message.body):
        return JSON
    if not _is_unpacked(message):
        return failed_type(_PACKED)
    printable = "".join(char for char in message.content_type if char.isascii() and char.isprintable())
    kept = printable[:_CONTENT_TYPE_CHARS_MAX] or JSON
    # Publishers must not give reasons of ours.
    return JSON if failure_reason(kept) is not None else kept


def _is_unpacked(message: Message) -> bool:
    return message.content_encoding.strip().lower() in _UNPACKED


def _is_json(body: bytes) -> bool:
    try:
        _scan(body)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def _base_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()
