"""Events whose id is stored already: each is compared with the one that was stored first.

Of that one no more is read than it takes: a body of any size may be behind an id of a few bytes.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TypeAlias
from uuid import UUID

import asyncpg
import msgspec

from processor.rows import Entry
from processor.sqlstates import Fault, OutdatedError
from processor.statements import FIND_BODIES, FIND_FIRSTS, FIND_RESULT
from processor.transform import may_be_same, same_payload
from shared.contracts.outcome import Disposition, Outcome, Problem, RecordStatus

_read_problems = msgspec.json.Decoder(tuple[Problem, ...]).decode


class Known(msgspec.Struct, frozen=True, gc=False):
    """What became of an entry. `is_first`: it is what is stored, from this batch or from an earlier delivery."""

    outcome: Outcome
    is_first: bool


class _First(msgspec.Struct, frozen=True, gc=False):
    """What is known of the event that was stored first. `sha256` is that of its body; None: of another size."""

    channel: int
    received_at: datetime
    size: int
    sha256: bytes | None
    has_result: bool
    outcome: Outcome


class _Pair(msgspec.Struct, gc=False):
    """An event and the one that was stored first. `same` is None until it is known."""

    entry: Entry
    first: _First
    same: bool | None
    result: bytes | None = None


_Firsts: TypeAlias = Mapping[tuple[UUID, int], _First]


class Duplicates:
    """Tells duplicates from conflicts; what it takes in memory does not depend on what is stored."""

    def __init__(self, *, compared_bytes_max: int, answered_bytes_max: int) -> None:
        """Bodies are read in portions of `compared_bytes_max`, or one that is larger.

        The outcomes of one batch repeat `answered_bytes_max` of payloads at most. Beyond it the answer to a duplicate
        is what was sent, which is equal by value.
        """
        self._compared_bytes_max = compared_bytes_max
        self._answered_bytes_max = answered_bytes_max

    async def find(
        self, connection: asyncpg.Connection, entries: Sequence[Entry], stored: Mapping[UUID, Outcome]
    ) -> list[Known]:
        """Return what became of each of the entries, in order.

        The first of each event id in `stored` was stored now, with that outcome; every other one earlier.

        Raises:
            OutdatedError: one is not stored any more. Else what asking PostgreSQL ends with.
        """
        answers = _Answers(self._answered_bytes_max)
        pairs = _pairs(entries, stored, await _find_firsts(connection, entries, stored), answers)
        undecided = (pair for pair in pairs if pair is not None and pair.same is None)
        for portion in _portions(undecided, bytes_max=self._compared_bytes_max):
            await _compare_bodies(connection, portion, answers)
        for pair in pairs:
            if pair is not None and pair.first.has_result and _is_answered(pair):
                await _repeat_result(connection, pair, answers)
        return [
            Known(stored[entry.event.event_id], is_first=True) if pair is None else _known(pair)
            for entry, pair in zip(entries, pairs, strict=True)
        ]


class _Answers:
    """Counts what the outcomes of a batch repeat."""

    def __init__(self, bytes_max: int) -> None:
        self.bytes_left = bytes_max

    def repeat(self, pair: _Pair, payload: bytes) -> None:
        """Let the answer to a duplicate be the payload that was stored first, where there is room for it."""
        if len(payload) <= self.bytes_left:
            self.bytes_left -= len(payload)
            pair.result = payload


async def _find_firsts(
    connection: asyncpg.Connection, entries: Iterable[Entry], stored: Mapping[UUID, Outcome]
) -> _Firsts:
    keys = {(entry.event.event_id, len(entry.event.body)) for entry in entries if entry.event.event_id not in stored}
    if not keys:
        return {}
    event_ids, sizes = zip(*keys, strict=True)
    rows = await connection.fetch(FIND_FIRSTS, event_ids, sizes)
    return {(row["event_id"], row["wanted_size"]): _read_first(row) for row in rows}


def _read_first(row: asyncpg.Record) -> _First:
    return _First(
        channel=row["channel"],
        received_at=row["received_at"],
        size=row["size"],
        sha256=row["sha256"],
        has_result=row["has_result"],
        outcome=Outcome(
            disposition=Disposition.DUPLICATE,
            raw_event_id=row["raw_event_id"],
            record_id=row["record_id"],
            status=RecordStatus(row["status"]),
            processed_at=row["processed_at"],
            errors=_read_problems(row["errors"]) if row["errors"] else (),
        ),
    )


def _pairs(
    entries: Iterable[Entry], stored: Mapping[UUID, Outcome], firsts: _Firsts, answers: _Answers
) -> list[_Pair | None]:
    """Return each entry with the one that was stored first; None for that one itself."""
    pairs: list[_Pair | None] = []
    now_stored: dict[UUID, Entry] = {}
    for entry in entries:
        event_id = entry.event.event_id
        if event_id not in stored:
            pairs.append(_pair(entry, firsts))
        elif event_id not in now_stored:
            now_stored[event_id] = entry
            pairs.append(None)
        else:
            pairs.append(_pair_within(entry, now_stored[event_id], stored[event_id], answers))
    return pairs


def _pair(entry: Entry, firsts: _Firsts) -> _Pair:
    """Pair an entry with what the ledger holds."""
    first = firsts.get((entry.event.event_id, len(entry.event.body)))
    if first is None:
        raise OutdatedError(Fault.SOURCES)
    same = first.sha256 is not None and first.sha256 == hashlib.sha256(entry.event.body).digest()
    undecided = not same and _may_be_same(entry, first)
    # Where there is no room for the first payload the answer is that of this one: equal by value, if they are the same.
    return _Pair(entry, first, same=None if undecided else same, result=entry.draft.result)


def _pair_within(entry: Entry, stored: Entry, outcome: Outcome, answers: _Answers) -> _Pair:
    """Pair an entry with what its own batch has stored, whose body is at hand."""
    event = stored.event
    first = _First(event.channel, event.received_at, len(event.body), sha256=None, has_result=False, outcome=outcome)
    pair = _Pair(entry, first, same=event.body == entry.event.body, result=entry.draft.result)
    if not pair.same and _may_be_same(entry, first):
        pair.same = same_payload(entry.event, event.content_type, event.body)
        if _is_answered(pair):
            answers.repeat(pair, event.body if outcome.result is None else outcome.result)
    return pair


def _may_be_same(entry: Entry, first: _First) -> bool:
    """Tell whether two bodies with other bytes may have equal values. What cannot be read has none."""
    return (
        entry.draft.status is not RecordStatus.FAILED
        and first.outcome.status is not RecordStatus.FAILED
        and may_be_same(len(entry.event.body), first.size)
    )


def _portions(pairs: Iterable[_Pair], *, bytes_max: int) -> Iterator[list[_Pair]]:
    """Yield the pairs in portions whose first bodies are `bytes_max` together, or one body that is larger."""
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
    """Decide whether those of a portion are the same, by value. Nothing of the bodies is kept but what is answered."""
    wanted = list({pair.first.outcome.raw_event_id for pair in portion})
    rows = {row["id"]: row for row in await connection.fetch(FIND_BODIES, wanted)}
    for pair in portion:
        row = rows.get(pair.first.outcome.raw_event_id)
        if row is None:
            raise OutdatedError(Fault.SOURCES)
        pair.same = same_payload(pair.entry.event, row["content_type"], row["body"])
        if _is_answered(pair) and not pair.first.has_result:
            # Equal values in other bytes: the first answer again means the bytes of the first.
            answers.repeat(pair, row["body"])


async def _repeat_result(connection: asyncpg.Connection, pair: _Pair, answers: _Answers) -> None:
    if answers.bytes_left > 0:
        result = await connection.fetchval(FIND_RESULT, pair.first.outcome.record_id)
        if result is None:
            raise OutdatedError(Fault.SOURCES)
        answers.repeat(pair, result.encode())


def _is_answered(pair: _Pair) -> bool:
    """Tell whether somebody waits to be told the payload of the first: the door of a lane's event has answered."""
    return bool(pair.same) and not pair.entry.acknowledged and pair.first.outcome.status is RecordStatus.SUCCESS


def _known(pair: _Pair) -> Known:
    """Return the first outcome again, as a duplicate or as a conflict."""
    event, first = pair.entry.event, pair.first
    result = pair.result if _is_answered(pair) else None
    disposition = Disposition.DUPLICATE if pair.same else Disposition.CONFLICT
    outcome = first.outcome
    # Most come again as they were: that one is what they are told.
    if (outcome.disposition, outcome.result) != (disposition, result):
        outcome = msgspec.structs.replace(outcome, disposition=disposition, result=result)
    return Known(outcome, is_first=(event.received_at, event.channel) == (first.received_at, first.channel))
