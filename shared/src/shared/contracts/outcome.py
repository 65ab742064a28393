"""What storing and processing made of an event."""

import enum
from datetime import datetime

import msgspec


class Disposition(enum.IntEnum):
    """What storing did. The numbers are those of `etlpay.processing.v1.Disposition`."""

    STORED = 1
    DUPLICATE = 2
    CONFLICT = 3


class RecordStatus(enum.IntEnum):
    """What processing made of a raw event. The numbers are those of the wire and of the ledger."""

    SUCCESS = 1
    FAILED = 2


class Problem(msgspec.Struct, frozen=True, gc=False):
    """A place (JSON Pointer, RFC 6901; empty: the whole) and what is wrong there. Never holds the value found there."""

    pointer: str
    detail: str


class Outcome(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The ledger's answer to one event. Of a duplicate or a conflict it names the event that was stored first.

    `result` is the record's payload as JSON bytes; None: equal to the body that was sent.
    """

    disposition: Disposition
    raw_event_id: int
    record_id: int
    status: RecordStatus
    processed_at: datetime
    errors: tuple[Problem, ...] = ()
    result: bytes | None = None


class Accepted(msgspec.Struct, frozen=True, gc=False):
    """The event is durable in a RabbitMQ quorum queue and will be stored; there is no record yet."""
