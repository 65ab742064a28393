"""Counters of the file door: received = queued + refused. Rows that are read again after a crash count again."""

from typing import Final

from prometheus_client import Counter

from shared import counters

_CHANNEL: Final = "file"

_FILES: Final = Counter("etlpay_files", "Files that ended in done/ or failed/.", ["ended"])


def count_queued(events: int) -> None:
    """Count rows whose batch the broker has confirmed."""
    counters.RECEIVED.labels(_CHANNEL).inc(events)
    counters.QUEUED.labels(_CHANNEL).inc(events)


def count_refused(rows: int) -> None:
    """Count rows that cannot be events."""
    counters.RECEIVED.labels(_CHANNEL).inc(rows)
    counters.REFUSED.labels(_CHANNEL).inc(rows)


def count_file(ended: str) -> None:
    """Count a file that left work/."""
    _FILES.labels(ended).inc()
