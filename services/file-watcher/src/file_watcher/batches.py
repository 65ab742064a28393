"""Assembly: the rows of one file become encoded event batches. Blocking; for threads."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import NamedTuple, Protocol

from file_watcher.formats.rows import Piece, Reject, Row, Skipped, UnreadableError
from file_watcher.mapping import MapRow
from shared.batching import BatchLimits
from shared.contracts.errors import InvalidEventError
from shared.contracts.event import Envelope, reserve_moments, stamp
from shared.contracts.receipt import hour_of
from shared.wire import encode_batch, envelope_bytes


class Batch(NamedTuple):
    """A part of a file: its events as one message (empty: none), and what was rejected.

    `arrivals` says how many of the events came in at which moment; one of an hour stands for all of that hour.
    `last` is what stood last in it. `skipped` counts rows that held nothing.
    """

    body: bytes
    events: int
    received_at: datetime
    arrivals: tuple[tuple[datetime, int], ...]
    rejects: tuple[Reject, ...]
    unreadable: bool
    last: Row | Reject | None
    skipped: int = 0


class FreshRows(Protocol):
    """Tells rows that are new from rows that were published before."""

    def is_new(self, row: Row) -> bool:
        """Return True where the row is to be published; asked once for each row, in order.

        Raises:
            InvalidEventError: it is nothing new, and was rejected.
        """


def assemble(
    rows: Iterator[Piece], map_row: MapRow, limits: BatchLimits, *, fresh: FreshRows | None = None
) -> Iterator[Batch]:
    """Yield batches until the rows end. Where the rest is unreadable the last batch says so, and nothing is raised."""
    part = _Part(limits, last=None)
    try:
        for row in rows:
            part.take(row, map_row, fresh)
            if part.full():
                yield part.batch()
                part = _Part(limits, last=part.last)
    except UnreadableError as error:
        part.rejects.append(
            Reject(part.last.number + 1 if part.last else 1, f"from here on nothing could be read: {error}")
        )
        part.unreadable = True
    if part.started:
        yield part.batch()


class _Part:
    """A batch that is being filled."""

    def __init__(self, limits: BatchLimits, *, last: Row | Reject | None) -> None:
        self._limits = limits
        self.rejects: list[Reject] = []
        self.unreadable = False
        self.skipped = 0
        self.last = last
        # Files are read side by side: their rows are told apart by when each came in.
        self._received_at: datetime = reserve_moments(limits.events_max)
        self._events: list[Envelope] = []
        self._bytes = 0

    @property
    def started(self) -> bool:
        return bool(self._events or self.rejects or self.skipped)

    def full(self) -> bool:
        return len(self._events) + len(self.rejects) >= self._limits.events_max or self._bytes >= self._limits.bytes_max

    def take(self, row: Piece, map_row: MapRow, fresh: FreshRows | None) -> None:
        if type(row) is not Row:
            self._take_no_row(row)
            return
        try:
            is_new = fresh is None or fresh.is_new(row)
            event = map_row(row, stamp(self._received_at, len(self._events))) if is_new else None
        except InvalidEventError as error:
            self.last = row
            self.rejects.append(Reject(row.number, _reason(error)))
            return
        # Not before: of a row from which on nothing can be read nothing was taken.
        self.last = row
        if event is None:
            return
        self._events.append(event)
        self._bytes += envelope_bytes(event)

    def _take_no_row(self, piece: Piece) -> None:
        if isinstance(piece, Reject):
            self.last = piece
            self.rejects.append(piece)
        elif isinstance(piece, Skipped):
            # Never the last row: what a file grows by is told from what it had by the row that came before.
            self.skipped += piece.count

    def batch(self) -> Batch:
        return Batch(
            encode_batch(self._events) if self._events else b"",
            len(self._events),
            self._received_at,
            _arrivals(self._events),
            tuple(self.rejects),
            self.unreadable,
            self.last,
            self.skipped,
        )


def _arrivals(events: Sequence[Envelope]) -> tuple[tuple[datetime, int], ...]:
    if not events:
        return ()
    first, last = events[0].received_at, events[-1].received_at
    if hour_of(first) == hour_of(last):
        return ((first, len(events)),)
    return tuple((event.received_at, 1) for event in events)


def _reason(error: InvalidEventError) -> str:
    return "; ".join(f"{problem.pointer} {problem.detail}".lstrip() for problem in error.problems)
