"""One behaviour of `Processing`, of the fake in memory and of the processor's stages on PostgreSQL."""

from collections.abc import Sequence

import pytest

from processor.cache import CacheFeeder
from processor.ledger.database import Connections
from processor.ledger.store import Store
from processor.stages.processing import Stages, checked
from shared.cache import Cache
from shared.contracts.event import Envelope
from shared.contracts.result import Recorded, RecordStatus, ResultKind
from shared.submit.processing import Processing
from shared.testing.processing import FakeProcessing
from support.events import event

STORED, DUPLICATE, CONFLICT = ResultKind.STORED, ResultKind.DUPLICATE, ResultKind.CONFLICT


class _OnPostgres:
    """The stages behind the processor's inputs."""

    def __init__(self, connections: Connections) -> None:
        self._write = checked(
            Stages(Store(connections, copy_events_min=2), CacheFeeder(Cache(None, seconds=1))).write, acknowledged=False
        )

    async def process(self, events: Sequence[Envelope]) -> list[Recorded]:
        return await self._write(events)


class Suite:
    """What both must do."""

    async def test_new_events_are_stored_and_numbered_in_order(self, processing: Processing) -> None:
        outcomes = await processing.process([event(key="b"), event(key="a"), event()])

        assert [outcome.kind for outcome in outcomes] == [STORED] * 3
        assert [outcome.status for outcome in outcomes] == [RecordStatus.SUCCESS] * 3
        numbers = [outcome.raw_event_id for outcome in outcomes]
        assert numbers == sorted(set(numbers))

    @pytest.mark.parametrize(
        ("first", "second", "kind"),
        [
            (b'{"v": 1}', b'{"v": 1}', DUPLICATE),
            (b'{"v": 1}', b'{ "v":1.0 }', DUPLICATE),
            (b'{"a": 1, "b": 2}', b'{"b": 2, "a": 1}', DUPLICATE),
            (b'{"v": 1}', b'{"v": 2}', CONFLICT),
            (b'{"v": 1}', b'{"v": true}', CONFLICT),
            (b'{"v": 0.1}', b'{"v": 0.1000000000000000055}', CONFLICT),
            (b'{"v": [1, 2]}', b'{"v": [2, 1]}', CONFLICT),
            (b'{"v": 1, "v": 2}', b'{"v": 1, "v": 2}', DUPLICATE),
            (b'{"v": 1, "v": 2}', b'{"v": 2}', CONFLICT),
            (b'{"v": 2}', b'{"v": 1, "v": 2}', CONFLICT),
            (b"not json", b"not json", DUPLICATE),
            (b"not json", b"not  json", CONFLICT),
        ],
    )
    async def test_the_same_id_is_a_duplicate_of_equal_values_and_in_conflict_with_others(
        self, processing: Processing, first: bytes, second: bytes, kind: ResultKind
    ) -> None:
        [before] = await processing.process([event(first, key="a")])

        [again] = await processing.process([event(second, key="a")])

        assert again.kind is kind
        assert (again.raw_event_id, again.record_id) == (before.raw_event_id, before.record_id)
        assert (again.status, again.processed_at) == (before.status, before.processed_at)

    async def test_an_answer_again_holds_the_first_bytes_where_they_differ(self, processing: Processing) -> None:
        await processing.process([event(b'{"v": 1.10}', key="a")])

        same, other = await processing.process([event(b'{"v": 1.10}', key="a"), event(b'{"v":1.1}', key="a")])

        assert (same.result, other.result) == (None, b'{"v": 1.10}')

    async def test_what_cannot_be_read_is_kept_as_failed_beside_the_others(self, processing: Processing) -> None:
        outcomes = await processing.process([event(key="a"), event(b"\xff", key="b"), event(b"[1]", key="c")])

        assert [outcome.kind for outcome in outcomes] == [STORED] * 3
        assert [outcome.status.name for outcome in outcomes] == ["SUCCESS", "FAILED", "FAILED"]
        assert all(outcome.errors for outcome in outcomes[1:])

    async def test_within_a_batch_the_first_of_an_id_counts(self, processing: Processing) -> None:
        outcomes = await processing.process([event(b'{"v": 1}', key="a"), event(b'{"v": 2}', key="a")])

        assert [outcome.kind for outcome in outcomes] == [STORED, CONFLICT]


class TestFake(Suite):
    @pytest.fixture
    def processing(self) -> Processing:
        return FakeProcessing()


class TestOnPostgres(Suite):
    @pytest.fixture
    def processing(self, connections: Connections) -> Processing:
        return _OnPostgres(connections)
