"""Counters of the files: received = queued + refused + unknown. Rows that are read again after a crash count again."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from prometheus_client import Counter

from shared.contracts.event import Channel, Envelope, source_problem
from shared.contracts.receipt import UNREADABLE_SOURCE
from shared.contracts.result import ResultKind
from shared.counters import count, count_unconfirmed

_EMPTY_ROWS: Final = Counter(
    "etlpay_files_empty_rows", "CSV rows that held only delimiters or blanks, and were skipped."
)
_FILES: Final = Counter("etlpay_files", "Files that ended in done/ or failed/.", ["ended"])
_TAKEN_BACK: Final = Counter("etlpay_files_taken_back", "Files that changed after they were moved, and were read on.")
_GROWN_LATE: Final = Counter("etlpay_files_grown_late", "Files that grew after they were watched: not stored.")
_KNOWN: Final = Counter("etlpay_files_known", "Files with the same content as an earlier one of their source.")
_UNNAMED_ROWS: Final = Counter("etlpay_files_unnamed_rows", "Rows without an id of their own, in files that ended.")


def count_queued(arrivals: Sequence[tuple[datetime, int]], *, source: str) -> None:
    """Count rows whose batch the broker has confirmed: how many came in at which moment."""
    for received_at, number in arrivals:
        count(Channel.FILE, ResultKind.QUEUED, source=source, received_at=received_at, number=number)


def count_given_up(events: Sequence[Envelope]) -> None:
    """Count rows that the broker may hold, and had not confirmed when the service ended; they are read again."""
    count_unconfirmed(Channel.FILE, events)


def count_refused(rows: int, *, source: str, received_at: datetime) -> None:
    """Count rows that cannot be events; `source` is the name that their folder gives them, whatever it is."""
    known = UNREADABLE_SOURCE if source_problem(source) else source
    count(Channel.FILE, ResultKind.REFUSED, source=known, received_at=received_at, number=rows)


def count_empty(rows: int) -> None:
    """Count rows that held nothing."""
    _EMPTY_ROWS.inc(rows)


def count_file(ended: str) -> None:
    """Count a file that left work/."""
    _FILES.labels(ended).inc()


def count_taken_back() -> None:
    """Count a file that came back out of done/ or failed/."""
    _TAKEN_BACK.inc()


def count_grown_late() -> None:
    """Count a file that grew when nobody expected it any more."""
    _GROWN_LATE.inc()


def count_known() -> None:
    """Count a file whose content was taken before."""
    _KNOWN.inc()


def count_unnamed_rows(rows: int) -> None:
    """Count the rows of a file that are named by its content."""
    _UNNAMED_ROWS.inc(rows)
