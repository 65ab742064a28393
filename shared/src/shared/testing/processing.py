"""A fake of the processor: a ledger in memory that answers as the real one does."""

from collections.abc import Callable, Sequence
from decimal import Decimal

import msgspec

from shared.contracts.errors import Problem, RetryableError
from shared.contracts.event import Envelope, now
from shared.contracts.payload import names_member_twice, object_problem, same_value
from shared.contracts.result import Recorded, RecordStatus, ResultKind

_read_exactly = msgspec.json.Decoder(float_hook=Decimal).decode


class FakeProcessing:
    """Implements `shared.submit.processing.Processing`; stores each event id once, for as long as it lives."""

    def __init__(self, check: Callable[[Envelope], Sequence[Problem]] | None = None) -> None:
        """`check` says what is wrong with an event; those with a problem become FAILED records."""
        self._check = check or _check_body
        self._stored: dict[object, tuple[Envelope, Recorded]] = {}
        self.held: set[str] = set()
        """The sources whose events are HELD."""
        self.conflicts: list[Envelope] = []
        self.batches: list[list[Envelope]] = []
        self.away: RetryableError | None = None
        """Raised by every call, before anything is stored, while it is set."""
        self.answer_lost: RetryableError | None = None
        """Raised by every call, after everything is stored, while it is set."""

    @property
    def events(self) -> list[Envelope]:
        """The stored events, oldest first."""
        return [event for event, _ in self._stored.values()]

    async def process(self, events: Sequence[Envelope]) -> list[Recorded]:
        """See `Processing`."""
        if self.away is not None:
            raise self.away
        self.batches.append(list(events))
        results = [self._store(event) for event in events]
        if self.answer_lost is not None:
            raise self.answer_lost
        return results

    def _store(self, event: Envelope) -> Recorded:
        if event.event_id not in self._stored:
            problems = tuple(self._check(event))
            number = len(self._stored) + 1
            result = Recorded(
                kind=ResultKind.STORED,
                raw_event_id=number,
                record_id=number,
                status=self._status_of(event, problems),
                processed_at=now(),
                errors=problems,
            )
            self._stored[event.event_id] = (event, result)
            return result
        first, result = self._stored[event.event_id]
        if not _same_payload(first.body, event.body):
            self.conflicts.append(event)
            return msgspec.structs.replace(result, kind=ResultKind.CONFLICT)
        is_repeated = result.status is RecordStatus.SUCCESS and first.body != event.body
        first_bytes = first.body if is_repeated else None
        return msgspec.structs.replace(result, kind=ResultKind.DUPLICATE, result=first_bytes)

    def _status_of(self, event: Envelope, problems: Sequence[Problem]) -> RecordStatus:
        if event.source in self.held:
            return RecordStatus.HELD
        return RecordStatus.FAILED if problems else RecordStatus.SUCCESS


def _check_body(event: Envelope) -> list[Problem]:
    problem = object_problem(event.body)
    return [Problem("", problem)] if problem else []


def _same_payload(one: bytes, other: bytes) -> bool:
    if one == other:
        return True
    try:
        values = _read_exactly(one), _read_exactly(other)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ArithmeticError):
        return False
    return same_value(*values) and not any(map(names_member_twice, (one, other), values))
