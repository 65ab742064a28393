"""Counters of the files: received = queued + refused + unknown. Rows that are read again after a crash count again."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from prometheus_client import Counter

from shared.contracts.event import Channel, Envelope, source_problem
from shared.contracts.receipt import UNREADABLE_SOURCE
from shared.contracts.result import ResultKind
from shared.counters import count, count_unconfirmed

EMPTY_ROWS: Final = Counter(
    "etlpay_files_empty_rows", "CSV rows that held only delimiters or blanks, and were skipped."
)
FILES: Final = Counter("etlpay_files", "Files that ended in done/ or failed/.", ["ended"])
TAKEN_BACK: Final = Counter("etlpay_files_taken_back", "Files that changed after they were moved, and were read on.")
GROWN_LATE: Final = Counter("etlpay_files_grown_late", "Files that grew after they were watched: not stored.")
KNOWN_FILES: Final = Counter("etlpay_files_known", "Files with the same content as an earlier one of their source.")
UNNAMED_ROWS: Final = Counter("etlpay_files_unnamed_rows", "Rows without an id of their own, in files that ended.")


def count_queued(arrivals: Sequence[tuple[datetime, int]], *, source: str) -> None:
    """Count rows whose batch the broker has confirmed: how many came in at which moment."""
    for received_at, number in arrivals:
        count(Channel.FILE, ResultKind.QUEUED, source=source, received_at=received_at, number=number)


def count_given_up(events: Sequence[Envelope]) -> None:
    """Count rows that the broker may hold, and had not confirmed when the service ended; they are read again."""
    count_unconfirmed(Channel.FILE, events)


def count_refused(rows: int, *, source: str, received_at: datetime) -> None:
    """Count rows that cannot be events; `source` is the name of their folder, valid or not."""
    known = UNREADABLE_SOURCE if source_problem(source) else source
    count(Channel.FILE, ResultKind.REFUSED, source=known, received_at=received_at, number=rows)
