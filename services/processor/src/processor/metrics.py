"""The metrics of the processor, counted once a batch."""

from collections import Counter as Tally
from collections.abc import Iterable, Sequence
from operator import attrgetter

from prometheus_client import Counter, Gauge, Histogram

from shared.contracts.result import Recorded, RecordStatus, ResultKind

_fate_of = attrgetter("kind", "status")

_EVENTS = Counter("etlpay_processor_events_total", "Events settled, by what storing did", ["disposition"])
_RECORDS = Counter("etlpay_processor_records_total", "Records stored, by status", ["status"])
_SECONDS = Histogram(
    "etlpay_processor_batch_seconds",
    "From the first statement to the commit of a batch",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
_SIZES = Histogram(
    "etlpay_processor_batch_events", "Events of a batch", buckets=(1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2000)
)
FAILURES = Counter(
    "etlpay_processor_batch_failures_total", "Batches that were not committed, by what is done", ["kind"]
)
REFUSED_CALLS = Counter(
    "etlpay_processor_refused_calls_total",
    "Calls refused: without a valid token, or with events of another channel",
    ["reason"],
)
UNCACHED = Counter(
    "etlpay_processor_uncached_records_total", "Records that were not put into the cache: it was slow or away"
)
LOAD_FAILURES = Counter(
    "etlpay_pipeline_load_failures_total", "Times that active versions of pipelines could not be run here"
)

DRIFT = Counter(
    "etlpay_pipeline_drift_total", "Stored events that hold what their pipeline does not read", ["pipeline", "kind"]
)

HELD = Gauge("etlpay_pipeline_held", "1 while the events of a pipeline are kept and not processed", ["pipeline"])


def count_batch(outcomes: Sequence[Recorded], *, seconds: float) -> None:
    """Count a committed batch."""
    _SECONDS.observe(seconds)
    _SIZES.observe(len(outcomes))
    for (kind, status), number in Tally(map(_fate_of, outcomes)).items():
        _EVENTS.labels(kind.name.lower()).inc(number)
        if kind is ResultKind.STORED:
            _RECORDS.labels(status.name).inc(number)


def count_records(statuses: Iterable[RecordStatus]) -> None:
    """Count committed records, first ones and later attempts."""
    for status, number in Tally(statuses).items():
        _RECORDS.labels(RecordStatus(status).name).inc(number)
