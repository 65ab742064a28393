"""Counters of the gRPC channel: received = stored + duplicate + conflict + refused + queued + unknown."""

from collections.abc import Sequence
from datetime import datetime

from shared.contracts.errors import OutcomeUnknownError, RetryableError
from shared.contracts.event import Channel, Envelope, source_problem
from shared.contracts.receipt import UNREADABLE_SOURCE
from shared.contracts.result import Result, ResultKind
from shared.counters import count, count_unconfirmed


def count_outcomes(events: Sequence[Envelope], outcomes: Sequence[Result]) -> None:
    """Count events that were answered each with its outcome."""
    for event, outcome in zip(events, outcomes, strict=True):
        count(Channel.GRPC, outcome.kind, source=event.source, received_at=event.received_at)


def count_error(events: Sequence[Envelope], error: RetryableError) -> None:
    """Count events that were answered with one error."""
    if isinstance(error, OutcomeUnknownError):
        count_unanswered(events)
    else:
        for event in events:
            count(Channel.GRPC, ResultKind.UNKNOWN, source=event.source, received_at=event.received_at)


def count_unanswered(events: Sequence[Envelope]) -> None:
    """Count events that were handed over, and of which no confirmation came, or came too late for their client."""
    count_unconfirmed(Channel.GRPC, events)


def count_refused(source: str, *, received_at: datetime) -> None:
    """Count a request that could be no event; `source` is what it named, whatever that is."""
    known = UNREADABLE_SOURCE if source_problem(source) else source
    count(Channel.GRPC, ResultKind.REFUSED, source=known, received_at=received_at)
