"""What became of an event: one type for HTTP, gRPC, receipts and metrics."""

import enum
from datetime import datetime
from typing import Final, TypeAlias

import msgspec

from shared.contracts.csv_reading import payload_of
from shared.contracts.errors import InvalidEventError, Problem, RetryableError
from shared.contracts.event import Envelope
from shared.contracts.media_types import JSON


class ResultKind(enum.IntEnum):
    """How an event was answered; every received event has exactly one.

    The first three are what storing did, by their numbers on the wire (`etlpay.processing.v1.Disposition`) and in the
    ledger. The order is that of the numbers in `shared.contracts.receipt.Count`.
    """

    STORED = 1
    DUPLICATE = 2
    CONFLICT = 3
    REFUSED = 4
    QUEUED = 5
    UNKNOWN = 6


class RecordStatus(enum.IntEnum):
    """What processing made of a raw event. The numbers are those of the wire and of the ledger.

    HELD: it is kept, and processing is owed, since its pipeline is held.
    """

    SUCCESS = 1
    FAILED = 2
    HELD = 3


class Result(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What became of one event."""

    kind: ResultKind


QUEUED: Final = Result(kind=ResultKind.QUEUED)
"""The event is durable in a RabbitMQ quorum queue and will be stored; there is no record yet."""


class Recorded(Result, frozen=True, kw_only=True, gc=False):
    """The ledger's answer. Of a duplicate or a conflict it names the event that was stored first.

    `result` is the record's payload as JSON bytes; None: equal to the body that was sent, or, of a CSV row, to what the
    body holds.
    """

    raw_event_id: int
    record_id: int
    status: RecordStatus
    processed_at: datetime
    errors: tuple[Problem, ...] = ()
    result: bytes | None = None

    def payload(self, body: bytes, content_type: str = JSON) -> bytes | None:
        """Return the record's payload as JSON bytes, of an event with this body; None: it is FAILED, or HELD."""
        if self.status is not RecordStatus.SUCCESS:
            return None
        return payload_of(body, content_type) if self.result is None else self.result


class ErrorResult(Result, frozen=True, kw_only=True, gc=True):
    """The event was refused, or nothing is known of it; `error` says why. See `error_result`."""

    error: InvalidEventError | RetryableError


Answered: TypeAlias = tuple[Envelope | None, Result]
"""An event with its result; None: it was refused."""


def error_result(error: InvalidEventError | RetryableError) -> ErrorResult:
    """Return the result of an event that was answered with an error; the error lets go of where it was raised."""
    error.__cause__ = error.__context__ = error.__traceback__ = None
    kind = ResultKind.REFUSED if isinstance(error, InvalidEventError) else ResultKind.UNKNOWN
    return ErrorResult(kind=kind, error=error)
