"""Compares events whose id is stored already with the events that were stored first.

Of a stored event no more is read than the comparison needs: its body may have any size.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TypeAlias
from uuid import UUID

import asyncpg
import msgspec

from processor.ledger.rows import Processed
from processor.ledger.sqlstates import Fault, OutdatedError
from processor.ledger.statements import FIND_BODIES, FIND_FIRSTS, FIND_RESULT
from processor.payload import may_be_same, same_payload
from shared.contracts.errors import Problem
from shared.contracts.result import Recorded, RecordStatus, ResultKind

_read_problems = msgspec.json.Decoder(tuple[Problem, ...]).decode


class Known(msgspec.Struct, frozen=True, gc=False):
    """The outcome of an event. `is_first`: it is the stored event itself, of this batch or of an earlier delivery."""

    outcome: Recorded
    is_first: bool


class StoredEvent(msgspec.Struct, frozen=True, gc=False):
    """What the ledger holds under an event id. `sha256`: of the body; None: the body is of another size."""

    channel: int
    received_at: datetime
    size: int
    sha256: bytes | None
    has_result: bool
    outcome: Recorded


class _Pair(msgspec.Struct, gc=False):
    """An event and the stored event of the same id. `same` is None until it is known."""

    sent: Processed
    first: StoredEvent
    same: bool | None
    result: bytes | None = None


_StoredEvents: TypeAlias = Mapping[tuple[UUID, int], StoredEvent]


class Duplicates:
    """Tells duplicates from conflicts. The memory that it takes does not depend on what is stored."""

    def __init__(self, *, compared_bytes_max: int, answered_bytes_max: int) -> None:
        """Set the limits.

        Args:
            compared_bytes_max: stored bodies that are read at once; a larger body is read alone.
            answered_bytes_max: stored payloads that the outcomes of one batch repeat. Beyond it the outcome of a
                duplicate holds the payload that was sent, which is equal by value.
        """
        self._compared_bytes_max = compared_bytes_max
        self._answered_bytes_max = answered_bytes_max

    async def find(
        self, connection: asyncpg.Connection, batch: Sequence[Processed], stored: Mapping[UUID, Recorded]
    ) -> list[Known]:
        """Return the outcome of each event of the batch, in order.

        `stored` holds the outcomes of the events that this batch has stored, by event id. All others were stored
        earlier.

        Raises:
            OutdatedError: an event is not stored any more. Otherwise the errors of asyncpg.
        """
        answers = _Answers(self._answered_bytes_max)
        pairs = _pairs(batch, stored, await _find_firsts(connection, batch, stored), answers)
        undecided = (pair for pair in pairs if pair is not None and pair.same is None)
        for portion in _portions(undecided, bytes_max=self._compared_bytes_max):
            await _compare_bodies(connection, portion, answers)
        for pair in pairs:
            if pair is not None and pair.first.has_result and _is_answered(pair):
                await _repeat_result(connection, pair, answers)
        return [
            Known(stored[each.event.event_id], is_first=True) if pair is None else _known(pair)
            for each, pair in zip(batch, pairs, strict=True)
        ]


class _Answers:
    """Counts the bytes of stored payloads that the outcomes of a batch repeat."""

    def __init__(self, bytes_max: int) -> None:
        self.bytes_left = bytes_max

    def repeat(self, pair: _Pair, payload: bytes) -> None:
        """Let the outcome of a duplicate hold the stored payload, unless the limit is reached."""
        if len(payload) <= self.bytes_left:
            self.bytes_left -= len(payload)
            pair.result = payload


async def _find_firsts(
    connection: asyncpg.Connection, batch: Iterable[Processed], stored: Mapping[UUID, Recorded]
) -> _StoredEvents:
    keys = {(each.event.event_id, len(each.event.body)) for each in batch if each.event.event_id not in stored}
    if not keys:
        return {}
    event_ids, sizes = zip(*keys, strict=True)
    rows = await connection.fetch(FIND_FIRSTS, event_ids, sizes)
    return {(row["event_id"], row["wanted_size"]): _read_first(row) for row in rows}


def _read_first(row: asyncpg.Record) -> StoredEvent:
    return StoredEvent(
        channel=row["channel"],
        received_at=row["received_at"],
        size=row["size"],
        sha256=row["sha256"],
        has_result=row["has_result"],
        outcome=Recorded(
            kind=ResultKind.DUPLICATE,
            raw_event_id=row["raw_event_id"],
            record_id=row["record_id"],
            status=RecordStatus(row["status"]),
            processed_at=row["processed_at"],
            errors=_read_problems(row["errors"]) if row["errors"] else (),
        ),
    )


def _pairs(
    batch: Iterable[Processed], stored: Mapping[UUID, Recorded], firsts: _StoredEvents, answers: _Answers
) -> list[_Pair | None]:
    """Pair each event with the stored event of its id; None for the stored event itself."""
    pairs: list[_Pair | None] = []
    now_stored: dict[UUID, Processed] = {}
    for each in batch:
        event_id = each.event.event_id
        if event_id not in stored:
            pairs.append(_pair(each, firsts))
        elif event_id not in now_stored:
            now_stored[event_id] = each
            pairs.append(None)
        else:
            pairs.append(_pair_within(each, now_stored[event_id], stored[event_id], answers))
    return pairs


def _pair(each: Processed, firsts: _StoredEvents) -> _Pair:
    """Pair an event with what the ledger holds."""
    first = firsts.get((each.event.event_id, len(each.event.body)))
    if first is None:
        raise OutdatedError(Fault.SOURCES)
    same = first.sha256 is not None and first.sha256 == hashlib.sha256(each.event.body).digest()
    undecided = not same and _may_be_same(each, first)
    # Beyond the limit of repeated payloads the outcome keeps this result, which is equal by value to the stored one.
    return _Pair(each, first, same=None if undecided else same, result=each.result)


def _pair_within(each: Processed, stored: Processed, outcome: Recorded, answers: _Answers) -> _Pair:
    """Pair an event with one that its own batch has stored, whose body is in memory."""
    event = stored.event
    first = StoredEvent(
        event.channel, event.received_at, len(event.body), sha256=None, has_result=False, outcome=outcome
    )
    pair = _Pair(each, first, same=event.body == each.event.body, result=each.result)
    if not pair.same and _may_be_same(each, first):
        pair.same = _is_same(each, event.content_type, event.body)
        if _is_answered(pair):
            answers.repeat(pair, outcome.payload(event.body, event.content_type) or b"")
    return pair


def _may_be_same(each: Processed, first: StoredEvent) -> bool:
    """Return True where two different bodies may have equal values. A body that cannot be read has none.

    One that a pipeline has FAILED may break its contract alone.
    """
    failed = RecordStatus.FAILED in {each.status, first.outcome.status}
    return (each.pipeline is not None or not failed) and may_be_same(len(each.event.body), first.size)


def _is_same(each: Processed, content_type: str, body: bytes) -> bool:
    """Compare with a body, by what counts in the pipeline of the event."""
    program = each.pipeline.program if each.pipeline else None
    return same_payload(each.event, content_type, body, counted=program.counted if program else None)


def _portions(pairs: Iterable[_Pair], *, bytes_max: int) -> Iterator[list[_Pair]]:
    """Yield the pairs in portions whose stored bodies have `bytes_max` at most; a larger body comes alone."""
    portion: list[_Pair] = []
    size = 0
    for pair in pairs:
        if portion and size + pair.first.size > bytes_max:
            yield portion
            portion, size = [], 0
        portion.append(pair)
        size += pair.first.size
    if portion:
        yield portion


async def _compare_bodies(connection: asyncpg.Connection, portion: Sequence[_Pair], answers: _Answers) -> None:
    """Decide by value whether each pair is the same. Of the bodies only the repeated payloads are kept."""
    wanted = list({pair.first.outcome.raw_event_id for pair in portion})
    rows = {row["id"]: row for row in await connection.fetch(FIND_BODIES, wanted)}
    for pair in portion:
        row = rows.get(pair.first.outcome.raw_event_id)
        if row is None:
            raise OutdatedError(Fault.SOURCES)
        pair.same = _is_same(pair.sent, row["content_type"], row["body"])
        if _is_answered(pair) and not pair.first.has_result:
            # The values are equal and the bytes differ: the outcome repeats the stored bytes.
            answers.repeat(pair, row["body"])


async def _repeat_result(connection: asyncpg.Connection, pair: _Pair, answers: _Answers) -> None:
    if answers.bytes_left > 0:
        result = await connection.fetchval(FIND_RESULT, pair.first.outcome.record_id)
        if result is None:
            raise OutdatedError(Fault.SOURCES)
        answers.repeat(pair, result.encode())


def _is_answered(pair: _Pair) -> bool:
    """Return True where the outcome holds the stored payload: a caller waits for it."""
    return bool(pair.same) and not pair.sent.acknowledged and pair.first.outcome.status is RecordStatus.SUCCESS


def _known(pair: _Pair) -> Known:
    """Return the stored outcome as that of a duplicate or a conflict."""
    event, first = pair.sent.event, pair.first
    result = pair.result if _is_answered(pair) else None
    disposition = ResultKind.DUPLICATE if pair.same else ResultKind.CONFLICT
    outcome = first.outcome
    # Most duplicates have the bytes of the stored event: they share its outcome object.
    if (outcome.kind, outcome.result) != (disposition, result):
        outcome = msgspec.structs.replace(outcome, kind=disposition, result=result)
    return Known(outcome, is_first=(event.received_at, event.channel) == (first.received_at, first.channel))
