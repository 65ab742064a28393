"""An event, its identity and the limits of its attributes."""

import enum
import re
import threading
import uuid
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

import msgspec
import uuid_utils
from uuid_utils.compat import uuid7

from shared.contracts.media_types import JSON

SOURCE_CHARS_MAX: Final = 200
ID_CHARS_MAX: Final = 255
TYPE_CHARS_MAX: Final = 255

# The wildcard of an API key's sources, and the line of the audit that holds sources beyond its limit.
_NO_SOURCE: Final = "*"
# Anything printable. Control characters (and with them the separator below) and lone surrogates are not.
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

# A key that a producer gave and a key that was derived never name the same event.
_GIVEN: Final = uuid_utils.UUID("6f1f0a52-6a0e-5d8f-9b6c-2f3f3c1d7e10")
_DERIVED: Final = uuid_utils.UUID("3b0d7c84-51f2-5c39-8a64-c9d1e27f0b56")
_UUID7_VERSION: Final = 7
_NEW_UUID: Final = uuid.UUID.__new__
_SET: Final = object.__setattr__
_MICROSECOND: Final = timedelta(microseconds=1)

_reserving = threading.Lock()
_reserved_until = datetime.min.replace(tzinfo=UTC)


ChannelName = Literal["http", "grpc", "file", "queue"]


class Channel(enum.IntEnum):
    """The way an event came in. The numbers are those of `etlpay.processing.v1.Channel` and of the ledger."""

    HTTP = 1
    GRPC = 2
    FILE = 3
    QUEUE = 4

    @property
    def label(self) -> ChannelName:
        """The channel's name in answers, such as `http`."""
        return _CHANNEL_NAMES[self]


_CHANNEL_NAMES: Final[dict[Channel, ChannelName]] = {
    Channel.HTTP: "http",
    Channel.GRPC: "grpc",
    Channel.FILE: "file",
    Channel.QUEUE: "queue",
}


class Envelope(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An event's attributes plus its body.

    `body` holds the received bytes; `content_type` says how to read them. `idempotency_key` is the id that the producer
    gave; where `derived`, one that was made of the input, such as a file's content and a row's number; empty: none.
    `sender` is the name of an API key or a user of the broker; empty: unknown. `received_at` and `channel` tell one
    acceptance of an event from another: see `stamp`. `origin` names the place within the channel: a file and a row.
    `file_at` is one moment for a whole file: when it was claimed, or first seen where it is read in place.
    """

    event_id: uuid.UUID
    source: str
    channel: Channel
    received_at: datetime
    body: bytes
    idempotency_key: str = ""
    derived: bool = False
    sender: str = ""
    type: str = ""
    occurred_at: datetime | None = None
    content_type: str = JSON
    origin: str = ""
    file_at: datetime | None = None


def identify(source: str, idempotency_key: str, *, derived: bool = False) -> uuid.UUID:
    """Return the event id: made of `(source, idempotency_key)`, or a new UUIDv7 where there is no key.

    The first is a UUIDv5 (RFC 9562, section 5.5) of `source`, a line feed and the key, so every service and client
    computes the same one. A source holds no line feed: two pairs never share a name. A key that is `derived` has a name
    space of its own, which no producer can use.
    """
    if not idempotency_key:
        return uuid7()
    # The same as uuid.uuid5, in 0.6 instead of 2 microseconds: this is done for every event.
    return _uuid_of(uuid_utils.uuid5(_DERIVED if derived else _GIVEN, f"{source}\n{idempotency_key}").int)


def _uuid_of(number: int) -> uuid.UUID:
    """Return `uuid.UUID(int=number)`, without its checks, which take longer than all else."""
    made = _NEW_UUID(uuid.UUID)
    _SET(made, "int", number)
    _SET(made, "is_safe", uuid.SafeUUID.unknown)
    return made


def has_own_id(event: Envelope) -> bool:
    """Return True where the event's id is the one that its source and key make, or a UUIDv7 where it has no key."""
    if not event.idempotency_key:
        return event.event_id.version == _UUID7_VERSION
    namespace = _DERIVED if event.derived else _GIVEN
    return uuid_utils.uuid5(namespace, f"{event.source}\n{event.idempotency_key}").bytes == event.event_id.bytes


def source_problem(source: str) -> str | None:
    """Return what is wrong with a source's name, or None. The name itself is not repeated."""
    if source == _NO_SOURCE:
        return "must not be the wildcard"
    return _text_problem(source, SOURCE_CHARS_MAX)


def id_problem(idempotency_key: str) -> str | None:
    """Return what is wrong with a producer's id, or None. An empty one is wrong: leave it out instead."""
    return _text_problem(idempotency_key, ID_CHARS_MAX)


def type_problem(event_type: str) -> str | None:
    """Return what is wrong with an event's type, or None."""
    return _text_problem(event_type, TYPE_CHARS_MAX)


def _text_problem(text: str, chars_max: int) -> str | None:
    if 0 < len(text) <= chars_max and not _UNPRINTABLE.search(text):
        return None
    return f"must be 1 to {chars_max} printable characters"


def now() -> datetime:
    """Return the present moment, in UTC."""
    return datetime.now(UTC)


def reserve_moments(number: int) -> datetime:
    """Return the first of `number` moments for `stamp`, none of which this process returns again.

    For threads that stamp at the same time. Where they need more moments than have passed, those are in the future.
    """
    global _reserved_until  # noqa: PLW0603 - one state for all threads of the process
    with _reserving:
        first = max(now(), _reserved_until)
        _reserved_until = first + number * _MICROSECOND
    return first


def stamp(received_at: datetime, position: int) -> datetime:
    """Return `received_at` of the event at `position` of those that came together: each a microsecond after the other.

    So `(event_id, received_at, channel)` names one acceptance, also where a batch holds one id twice. A redelivery, or
    an event that went over both transports, has the same moment. Another acceptance of the event has another.
    """
    return received_at + position * _MICROSECOND
