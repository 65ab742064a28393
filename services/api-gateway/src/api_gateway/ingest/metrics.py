"""What the HTTP channel counts: received = stored + duplicate + conflict + refused + queued + unknown."""

from collections.abc import Sequence

from shared.contracts.errors import EtlPayError, OutcomeUnknownError, RetryableError
from shared.contracts.event import Channel, Envelope, now
from shared.contracts.receipt import UNREADABLE_SOURCE
from shared.contracts.result import Result, ResultKind
from shared.counters import count, count_unconfirmed


def count_outcome(event: Envelope, outcome: Result) -> None:
    """Count an event that was answered with an outcome."""
    count(Channel.HTTP, outcome.kind, source=event.source, received_at=event.received_at)


def count_error(error: EtlPayError, event: Envelope | None = None) -> None:
    """Count an event that was answered with an error; None: it could not be read."""
    if event and isinstance(error, OutcomeUnknownError):
        count_unanswered([event])
        return
    kind = ResultKind.UNKNOWN if isinstance(error, RetryableError) else ResultKind.REFUSED
    source, received_at = (event.source, event.received_at) if event else (UNREADABLE_SOURCE, now())
    count(Channel.HTTP, kind, source=source, received_at=received_at)


def count_unanswered(events: Sequence[Envelope]) -> None:
    """Count events that were handed over, and of which no confirmation came, or came too late for their client."""
    count_unconfirmed(Channel.HTTP, events)


def count_group(events: Sequence[Envelope], outcomes: Sequence[Result] | RetryableError, *, refused: int) -> None:
    """Count a group of a batch: its events, all of them with one error or each with its outcome, and the refused."""
    if isinstance(outcomes, OutcomeUnknownError):
        count_unanswered(events)
    elif isinstance(outcomes, RetryableError):
        for event in events:
            count(Channel.HTTP, ResultKind.UNKNOWN, source=event.source, received_at=event.received_at)
    else:
        for event, outcome in zip(events, outcomes, strict=True):
            count(Channel.HTTP, outcome.kind, source=event.source, received_at=event.received_at)
    count(Channel.HTTP, ResultKind.REFUSED, source=UNREADABLE_SOURCE, received_at=now(), number=refused)
