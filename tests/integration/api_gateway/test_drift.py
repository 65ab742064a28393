"""What pipelines do not read, over the API, on a real PostgreSQL, as the role that only reads."""

import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import asyncpg
import msgspec
import pytest

from api_gateway.http.problems import HttpProblem
from api_gateway.queries.drift import Drifts
from api_gateway.queries.ledger import Ledger, open_reader
from api_gateway.queries.pipelines import Pipelines
from processor.ledger.database import Connections
from processor.ledger.drifts import DriftCount, DriftKey, DriftStore
from processor.stages.drift import DriftCounts
from processor.stages.transform import transform
from shared.auth.scopes import EVERY_SOURCE, Scope
from shared.contracts.drift import DriftItem, DriftKind
from shared.contracts.receipt import hour_of
from shared.settings import PostgresPoolSettings
from support.active_pipelines import active, bundle_of, set_of
from support.events import event
from support.registered import OFF, clear, register
from support.servers import ROLE_PASSWORD, Servers

SHOP = (
    'etlpay = 1\nname = "shop"\nsource = ["shop-*", "outlet"]\n[drift]\nunknown_member = "note"\n'
    '[[table]]\nname = "orders"\n[table.columns]\nid = "/id"\n'
)
BANK = 'etlpay = 1\nname = "bank"\nsource = "bank"\n'
VALUE = "DE89 3704 0044 0532 0130 00"
NOW = datetime.now(UTC)
TYPE, MEMBER = DriftKind


@pytest.fixture
async def registry(owner: asyncpg.Connection) -> AsyncIterator[asyncpg.Connection]:
    """The owner's connection, on a ledger with two pipelines, one of them in two versions."""
    await clear(owner)
    await register(owner, "shop", bundle_of(SHOP))
    await register(owner, "shop", bundle_of(SHOP + "# newer\n"), version=2)
    await register(owner, "bank", bundle_of(BANK))
    yield owner
    await clear(owner)


@pytest.fixture
async def drifts(ledger: Servers, registry: asyncpg.Connection) -> AsyncIterator[Drifts]:  # noqa: ARG001 - what it reads
    """The gateway's view of them."""
    url = ledger.postgres_url("etlpay_reader")
    settings = PostgresPoolSettings(postgres_url=url, postgres_password=ROLE_PASSWORD, postgres_seconds_max=5)
    reader = Ledger(await open_reader(settings), page_bytes_max=2_000, seconds_max=10)
    yield Drifts(reader, Pipelines(reader))
    await reader.close()


async def add(connections: Connections, *counted: tuple[int, DriftKind, str, datetime, int]) -> None:
    """Add the counts of a processor: version, kind, place, moment, events."""
    counts = {
        DriftKey(pipeline_id, hour_of(moment), kind, place): DriftCount(events, 7)
        for pipeline_id, kind, place, moment, events in counted
    }
    await DriftStore(connections).add(uuid.uuid4(), 1, counts)


async def report(
    drifts: Drifts, *sources: str, pipeline: str | None = None, since: datetime | None = None, limit: int = 100
) -> list[DriftItem]:
    scope = Scope(sources) if sources else EVERY_SOURCE
    return (await drifts.report(scope, pipeline=pipeline, since=since, limit=limit)).items


async def test_places_are_counted_over_hours_and_processes_those_of_the_most_events_first(
    connections: Connections, drifts: Drifts
) -> None:
    earlier = NOW - timedelta(hours=3)
    await add(connections, (2, MEMBER, "/fee", NOW, 2), (2, MEMBER, "/fee", earlier, 3), (1, MEMBER, "/fee", NOW, 1))
    await add(connections, (2, MEMBER, "/fee", NOW, 4), (3, TYPE, "", NOW, 8))

    items = await report(drifts)

    assert [(each.pipeline, each.version, each.kind, each.place, each.events) for each in items] == [
        ("shop", 2, "unknown_member", "/fee", 9),
        ("bank", 1, "unknown_type", "", 8),
        ("shop", 1, "unknown_member", "/fee", 1),
    ]
    assert (hour_of(items[0].first_hour), hour_of(items[0].last_hour)) == (hour_of(earlier), hour_of(NOW))
    assert [each.place for each in await report(drifts, limit=1)] == ["/fee"]
    assert [each.version for each in await report(drifts, pipeline="shop")] == [2, 1]


async def test_it_goes_back_for_seven_days_or_to_the_hour_of_a_moment(connections: Connections, drifts: Drifts) -> None:
    for days, place in ((1, "/a"), (6, "/b"), (8, "/c")):
        await add(connections, (1, MEMBER, place, NOW - timedelta(days=days), 1))

    async def places(since: datetime | None) -> set[str]:
        return {each.place for each in await report(drifts, since=since)}

    assert await places(None) == {"/a", "/b"}
    assert await places(NOW - timedelta(days=1)) == {"/a"}
    assert await places(NOW - timedelta(days=9)) == {"/a", "/b", "/c"}
    assert await places(datetime(1, 1, 1, tzinfo=UTC)) == {"/a", "/b", "/c"}
    assert await places(datetime(9999, 12, 31, 23, 59, tzinfo=UTC)) == set()


@pytest.mark.parametrize(
    ("key", "found"),
    [
        (["*"], {"shop", "bank"}),
        (["shop-*", "outlet"], {"shop"}),
        (["shop-*"], set()),
        (["outlet", "bank"], {"bank"}),
        (["bank-1"], set()),
    ],
)
async def test_a_pipeline_is_shown_to_keys_of_all_of_its_sources(
    connections: Connections, drifts: Drifts, key: list[str], found: set[str]
) -> None:
    await add(connections, (1, MEMBER, "/a", NOW, 1), (2, MEMBER, "/b", NOW, 1), (3, MEMBER, "/c", NOW, 1))

    assert {each.pipeline for each in await report(drifts, *key)} == found
    for name in ("shop", "bank", "none"):
        if name in found:
            assert await report(drifts, *key, pipeline=name)
            continue
        with pytest.raises(HttpProblem) as raised:
            await report(drifts, *key, pipeline=name)
        assert raised.value.type.status == 404


async def test_a_version_that_cannot_be_read_and_a_pipeline_that_is_off_are_for_keys_of_every_source(
    registry: asyncpg.Connection, connections: Connections, drifts: Drifts
) -> None:
    number = await register(registry, "later", b"of a later release")
    await registry.execute(
        "INSERT INTO pipeline_states (name, state, set_by, reason) VALUES ('later', $1, 'tests', 'a test')", OFF
    )
    await add(connections, (number, MEMBER, "/a", NOW, 1))

    assert [each.pipeline for each in await report(drifts, pipeline="later")] == ["later"]
    assert await report(drifts, "l*", "s*") == []


async def test_names_of_any_length_are_shown_cut_with_an_event_and_without_a_value(
    registry: asyncpg.Connection, connections: Connections, drifts: Drifts
) -> None:
    counts = DriftCounts()
    body = msgspec.json.encode({"id": "1", "n" * 10_000: VALUE, "\x1b[31m": VALUE})
    sent = event(body, source="shop-1")
    await registry.execute("INSERT INTO ingestion_sources (name) VALUES ('shop-1')")
    await registry.execute(
        "INSERT INTO raw_events (id, event_id, source_id, channel, received_at, content_type, body) "
        "VALUES (7, $1, 1, 1, now(), 'application/json', $2)",
        sent.event_id, body,
    )  # fmt: skip
    counts.add([(transform(sent, set_of(active(SHOP))), 7)])
    await DriftStore(connections).add(uuid.uuid4(), 1, counts.take())

    items = await report(drifts)

    assert sorted(len(each.place) for each in items) == [6, 101]
    assert {each.example for each in items} == {sent.event_id}
    assert VALUE not in msgspec.json.encode(items).decode()
