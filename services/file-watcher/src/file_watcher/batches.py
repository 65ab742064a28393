"""Batches: the mapped rows of a chunk become one message. Pure."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from file_watcher.mapping import MappedChunk
from shared.contracts.event import Envelope
from shared.contracts.receipt import hour_of
from shared.files.rows import Reject, Row
from shared.wire import encode_batch


class Batch(NamedTuple):
    """The events of a chunk as one message (empty: none), and how many rows were rejected or skipped.

    `arrivals` are the numbers of events by moment of arrival; where all are of one hour, there is one moment.
    `last` is the last row or reject of the chunk; `unreadable`: nothing after it can be read.
    """

    body: bytes
    events: int
    received_at: datetime
    arrivals: tuple[tuple[datetime, int], ...]
    rejected: int
    skipped: int
    last: Row | Reject | None
    unreadable: bool


def encode(chunk: MappedChunk, received_at: datetime) -> Batch:
    """Return the batch; `received_at` is the arrival of the first event."""
    return Batch(
        encode_batch(chunk.events) if chunk.events else b"",
        len(chunk.events),
        received_at,
        _arrivals(chunk.events),
        len(chunk.rejects),
        chunk.skipped,
        chunk.last,
        chunk.unreadable,
    )


def _arrivals(events: Sequence[Envelope]) -> tuple[tuple[datetime, int], ...]:
    if not events:
        return ()
    first, last = events[0].received_at, events[-1].received_at
    if hour_of(first) == hour_of(last):
        return ((first, len(events)),)
    return tuple((event.received_at, 1) for event in events)
