"""What pipelines do not read is counted in memory of bounded size, and written once."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, cast
from uuid import UUID

import msgspec
import pytest
from msgspec.structs import replace
from prometheus_client import REGISTRY

from processor.ledger.drifts import DriftCount, DriftKey, DriftStore
from processor.ledger.rows import Processed
from processor.stages.drift import REMEMBERED_MAX, DriftCounts, DriftRecorder
from processor.stages.processing import Received, Stages
from processor.stages.transform import transform
from shared.contracts.csv_row import CSV_ROW
from shared.contracts.drift import DriftKind
from shared.contracts.errors import EtlPayError, PermanentError, UnavailableError
from shared.contracts.result import Recorded, RecordStatus, ResultKind
from shared.runtime.service import running
from support.active_pipelines import active, set_of
from support.events import event

HEAD = 'etlpay = 1\nname = "p"\nsource = "shop-*"\n'
TABLE = '[[table]]\nname = "orders"\ntypes = ["order"]\n[table.columns]\nid = { from = "/id", required = true }\n'
NOTED = HEAD + '[event]\ntype = "/type"\n[drift]\nunknown_member = "note"\n' + TABLE
PIPELINE = active(NOTED)
VALUE = "DE89 3704 0044 0532 0130 00"
HOUR = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
MEMBER = DriftKind.UNKNOWN_MEMBER


def run(text: str, body: Mapping[str, Any] | bytes, **more: Any) -> Processed:  # noqa: ANN401 - attributes
    """Transform an event of a source of a pipeline."""
    encoded = body if isinstance(body, bytes) else msgspec.json.encode(body)
    return transform(replace(event(encoded, source="shop-1"), **more), set_of(active(text)))


def noted(*members: str, received_at: datetime = HOUR) -> Processed:
    """Return an event with members that its pipeline does not read."""
    drift = tuple((MEMBER, f"/{member}") for member in members)
    return Processed(replace(event(), received_at=received_at), RecordStatus.SUCCESS, pipeline=PIPELINE, drift=drift)


def places(counts: Mapping[DriftKey, DriftCount]) -> dict[str, int]:
    return {key.place: count.events for key, count in counts.items()}


def test_what_a_pipeline_does_not_read_is_told_by_kind_and_place_without_a_value() -> None:
    processed = run(NOTED, {"id": "1", "type": "order", "iban": VALUE})
    other = run(NOTED, {"id": "1", "type": VALUE})

    assert processed.drift == ((DriftKind.UNKNOWN_MEMBER, "/iban"),)
    assert other.drift == ((DriftKind.UNKNOWN_TYPE, ""),)
    assert VALUE not in repr((processed.drift, other.drift))


def test_an_event_without_drift_has_none_and_what_is_ignored_is_none() -> None:
    assert run(NOTED, {"id": "1", "type": "order"}).drift == ()
    ignoring = NOTED.replace('unknown_member = "note"', 'unknown_member = "ignore"\nunknown_type = "ignore"')
    assert run(ignoring, {"id": "1", "type": "order", "more": 1}).drift == ()
    assert run(ignoring, {"id": "1", "type": "another"}).drift == ()


def test_an_event_that_fails_tells_its_drift_too() -> None:
    """A provider that renames a member makes both: what is missing, and what is unknown."""
    renamed = run(NOTED, {"order_id": "1", "type": "order"})
    failing = run(NOTED.replace('"note"', '"fail"'), {"id": "1", "type": "order", "more": 1})

    assert (renamed.status, renamed.drift) == (RecordStatus.FAILED, ((MEMBER, "/order_id"),))
    assert [each.code for each in renamed.errors] == ["missing"]
    assert (failing.status, failing.drift) == (RecordStatus.FAILED, ((MEMBER, "/more"),))


def test_a_column_of_a_csv_file_is_told_with_each_row() -> None:
    text = HEAD + '[[table]]\nname = "orders"\n[table.columns]\nid = "/id"\n'

    processed = run(text, b"id,fee,rate\n1,x,y", content_type=CSV_ROW)

    assert processed.drift == ((MEMBER, "/fee"), (MEMBER, "/rate"))


def test_a_place_is_of_bounded_length_whatever_the_names() -> None:
    long, parent = "/" * 10_000, "p" * 10_000
    nested = NOTED + f'deep = "/{parent}/known"\n'
    counts = DriftCounts()

    counts.add([(run(NOTED, {"id": "1", "type": "order", long: VALUE}), 1)])
    counts.add([(run(nested, {"id": "1", "type": "order", parent: {long: VALUE}}), 2)])

    taken = counts.take()
    assert sorted(len(key.place) for key in taken) == [201, 300]
    assert VALUE not in repr(taken)


def test_a_hundred_thousand_names_are_counted_in_a_thousand_places_and_one_for_the_others() -> None:
    counts = DriftCounts()
    template = noted("x")

    for number in range(100_000):
        if number == 50_000:
            # A portion in between makes no new capacity.
            first = counts.take()
        drift = ((MEMBER, f"/name {number}"),)
        counts.add([(replace(template, drift=drift), number)])

    assert (len(first), places(first)["*"]) == (1_001, 49_000)
    assert places(counts.take()) == {"*": 50_000}


def test_an_event_counts_once_for_each_place() -> None:
    counts = DriftCounts(places_max=2)

    counts.add([(noted("a", "b", "c", "d", "a"), 7), (noted("b", "e", "f"), 8)])

    taken = counts.take()
    assert sorted(places(taken).values()) == [1, 2, 2]
    assert places(taken)["*"] == 2
    assert taken[next(key for key in taken if key.place == "*")].example == 8


def test_hours_are_counted_apart_and_the_earliest_are_forgotten_where_there_are_too_many() -> None:
    counts = DriftCounts(places_max=2, remembered_max=4)
    hours = [HOUR.replace(hour=hour) for hour in range(4)]

    for hour in hours:
        counts.add([(noted("a", "b", received_at=hour), 1)])
    counts.take()
    # Of a full memory's earliest hour nothing is counted apart any more; of the latest it goes on.
    counts.add([(noted("a", received_at=hours[0]), 2), (noted("a", "c", received_at=hours[3]), 3)])

    assert {(key.hour % 24, key.place): count.events for key, count in counts.take().items()} == {
        (0, "*"): 1, (3, "/a"): 1, (3, "*"): 1,
    }  # fmt: skip


def test_what_is_remembered_stays_within_its_limit() -> None:
    counts = DriftCounts()
    for hour in range(24):
        moment = HOUR.replace(hour=hour)
        for number in range(1_000):
            counts.add([(noted(f"{number}", received_at=moment), number)])
        counts.take()

    assert counts._remembered == sum(map(len, counts._places.values())) == REMEMBERED_MAX


def test_the_metric_counts_events_by_pipeline_and_kind() -> None:
    labels = {"pipeline": "p", "kind": "unknown_member"}
    before = REGISTRY.get_sample_value("etlpay_pipeline_drift_total", labels) or 0

    DriftCounts().add([(noted("a", "b"), 1), (noted("c"), 2)])

    assert REGISTRY.get_sample_value("etlpay_pipeline_drift_total", labels) == before + 2


@pytest.mark.parametrize(
    ("kind", "status", "counted"),
    [
        (ResultKind.STORED, RecordStatus.SUCCESS, True),
        (ResultKind.STORED, RecordStatus.FAILED, True),
        # It counts when it is processed.
        (ResultKind.STORED, RecordStatus.HELD, False),
        (ResultKind.DUPLICATE, RecordStatus.SUCCESS, False),
        (ResultKind.CONFLICT, RecordStatus.SUCCESS, False),
    ],
)
async def test_only_events_that_are_stored_and_processed_count(
    kind: ResultKind, status: RecordStatus, *, counted: bool
) -> None:
    class OneOutcome:
        async def write(self, batch: Sequence[Processed], *, processed_at: datetime) -> list[Recorded]:
            return [Recorded(kind=kind, raw_event_id=7, record_id=7, status=status, processed_at=processed_at)] * len(
                batch
            )

    class NoCache:
        cache = type("Cache", (), {"epoch": None})

        def feed(self, *_: object, epoch: str | None) -> None:
            """Keep nothing."""

    counts = DriftCounts()
    stages = Stages(cast("Any", OneOutcome()), cast("Any", NoCache()), lambda: set_of(active(NOTED)), counts)
    body = msgspec.json.encode({"id": "1", "type": "order", "more": 1})

    await stages.write([Received(event(body, source="shop-1"), acknowledged=False)])

    assert places(counts.take()) == ({"/more": 1} if counted else {})


class Ledger(DriftStore):
    """Keeps portions, or fails as it is told to."""

    def __init__(self, *errors: EtlPayError | None) -> None:
        self.errors = list(errors)
        self.tried: list[tuple[UUID, int, dict[str, int]]] = []

    async def add(self, instance: UUID, number: int, counts: Mapping[DriftKey, DriftCount]) -> None:
        self.tried.append((instance, number, places(counts)))
        error = self.errors.pop(0) if self.errors else None
        if error is not None:
            raise error


async def test_a_portion_that_is_not_confirmed_is_written_again_under_its_number_and_without_more() -> None:
    ledger, counts = Ledger(UnavailableError("away")), DriftCounts()
    recorder = DriftRecorder(ledger, counts)
    counts.add([(noted("a"), 1)])
    await recorder._write()
    counts.add([(noted("a"), 2), (noted("b"), 3)])

    await recorder._write()
    await recorder._write()

    assert [tried[1:] for tried in ledger.tried] == [(1, {"/a": 1}), (1, {"/a": 1}), (2, {"/a": 1, "/b": 1})]
    assert len({tried[0] for tried in ledger.tried}) == 1


async def test_a_portion_that_can_never_be_written_is_left_out() -> None:
    ledger, counts = Ledger(PermanentError("never")), DriftCounts()
    recorder = DriftRecorder(ledger, counts)
    counts.add([(noted("a"), 1)])
    await recorder._write()
    counts.add([(noted("b"), 2)])
    await recorder._write()

    assert [tried[2] for tried in ledger.tried] == [{"/a": 1}, {"/b": 1}]


async def test_what_is_left_is_written_at_the_end() -> None:
    ledger, counts = Ledger(), DriftCounts()

    async with running(DriftRecorder(ledger, counts, seconds=60)):
        counts.add([(noted("a"), 1)])

    assert [tried[2] for tried in ledger.tried] == [{"/a": 1}]
