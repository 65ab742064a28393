"""Records that pipelines made, on a real PostgreSQL: what is held, what is kept as rows, which attempt counts."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import asyncpg
import msgspec
import pytest

from api_gateway.queries.audit import Audit, AuditPart
from api_gateway.queries.events import RECORD_OF_EVENT
from api_gateway.queries.ledger import Ledger, open_reader
from api_gateway.queries.records import RecordFilter, Records
from processor.ledger.database import Connections
from processor.ledger.store import Store
from processor.programs.active import ActiveSet
from processor.stages.transform import transform
from shared.auth.scopes import Scope
from shared.cache import Cache
from shared.contracts.audit import AuditLine
from shared.contracts.csv_row import CSV_ROW
from shared.contracts.event import Envelope
from shared.contracts.result import RecordStatus
from shared.settings import PostgresPoolSettings
from support.active_pipelines import active, set_of
from support.events import event
from support.registered import clear, create_tables
from support.servers import ROLE_PASSWORD, Servers

START = datetime(2026, 11, 23, 8, tzinfo=UTC)
RULES = 'etlpay = 1\nname = "p"\nsource = "shop-*"\n[[table]]\nname = "t"\n[table.columns]\nid = "/id"\n'
PLAIN = set_of(active(RULES))
HOLDING = set_of(active(RULES), held={"p": "asked for"})


@pytest.fixture
async def reader(ledger: Servers, owner: asyncpg.Connection) -> AsyncIterator[Ledger]:
    """The gateway's view of an empty ledger, which has the typed table of the pipeline."""
    await clear(owner)
    await create_tables(owner, PLAIN.pipelines[0])
    url = ledger.postgres_url("etlpay_reader")
    settings = PostgresPoolSettings(postgres_url=url, postgres_password=ROLE_PASSWORD, postgres_seconds_max=5)
    reader = Ledger(await open_reader(settings), page_bytes_max=10_000, seconds_max=10)
    yield reader
    await reader.close()
    await clear(owner)


@pytest.fixture
def records(reader: Ledger) -> Records:
    """The records of that ledger, without a cache."""
    return Records(reader, Cache(None, seconds=1))


async def store(connections: Connections, pipelines: ActiveSet, *events: Envelope) -> None:
    batch = [transform(each, pipelines) for each in events]
    await Store(connections, copy_events_min=2).write(batch, processed_at=START)


async def audited(reader: Ledger) -> dict[str, AuditLine]:
    """Return the lines of the audit of the hour, by source."""
    part = AuditPart(START, START, START + timedelta(hours=1))
    page = await Audit(reader, seconds_max=5).page(part, limit=10)
    return {item.source: item for item in page.items}


async def add_attempt(owner: asyncpg.Connection, number: int, status: RecordStatus) -> None:
    """Add an attempt to the one event, as a replay does."""
    await owner.execute(
        """
        INSERT INTO processed_records (id, raw_event_id, source_id, channel, status, attempt, processed_at)
        SELECT 1000000 + $1, id, source_id, channel, $2, $1, $3 FROM raw_events
        """,
        number, status, START + timedelta(minutes=number),
    )  # fmt: skip


@pytest.mark.parametrize("source", [None, "shop-1"])
@pytest.mark.parametrize("scope", [Scope(["*"]), Scope(["shop-*"])], ids=["all", "some"])
async def test_held_records_are_found_by_their_status_and_have_no_payload(
    connections: Connections, records: Records, source: str | None, scope: Scope
) -> None:
    sent = event(b'{"id": "1"}', key="a", source="shop-1")
    await store(connections, HOLDING, sent)
    await store(connections, PLAIN, event(b'{"id": "1"}', key="b", source="shop-1"))

    page = await records.page(RecordFilter(source=source, status=RecordStatus.HELD, scope=scope), after=None, limit=10)

    [found] = page.items
    assert (found.event_id, found.status) == (sent.event_id, "HELD")
    assert bytes(found.result_payload) == b"null"


async def test_a_row_that_is_kept_as_rows_is_shown_as_an_object_of_strings(
    connections: Connections, records: Records, owner: asyncpg.Connection
) -> None:
    sent = event("id; gross\n7;1,10 \u20ac".encode("cp1252"), source="shop-1",
                 content_type=f'{CSV_ROW}; delimiter=";"; charset=windows-1252')  # fmt: skip
    await store(connections, PLAIN, sent)

    record = await records.read(RECORD_OF_EVENT, sent.event_id)

    assert record is not None
    assert (record.status, msgspec.json.decode(record.result_payload)) == (
        "SUCCESS",
        {"id": "7", "gross": "1,10 \u20ac"},
    )
    assert await owner.fetchval("SELECT result_payload FROM processed_records") is None
    assert await owner.fetchval("SELECT payload FROM events") is None


@pytest.mark.parametrize(
    ("attempts", "current"),
    [
        ([RecordStatus.HELD, RecordStatus.SUCCESS], ("SUCCESS", 2)),
        ([RecordStatus.SUCCESS, RecordStatus.FAILED], ("SUCCESS", 1)),
        ([RecordStatus.HELD, RecordStatus.FAILED], ("FAILED", 2)),
        ([RecordStatus.FAILED, RecordStatus.SUCCESS, RecordStatus.SUCCESS, RecordStatus.HELD], ("SUCCESS", 3)),
    ],
)
async def test_the_current_record_is_the_latest_success_else_the_latest(
    connections: Connections,
    reader: Ledger,
    owner: asyncpg.Connection,
    attempts: list[RecordStatus],
    current: tuple[str, int],
) -> None:
    sent = msgspec.structs.replace(event(b'{"id": "1"}', source="shop-1"), received_at=START)
    await store(connections, PLAIN, sent)
    await owner.execute("UPDATE processed_records SET status = $1", attempts[0])
    for number, status in enumerate(attempts[1:], 2):
        await add_attempt(owner, number, status)

    record = await Records(reader, Cache(None, seconds=1)).read(RECORD_OF_EVENT, sent.event_id)

    assert record is not None
    assert (record.status, record.attempt) == current
    assert tuple(await owner.fetchrow("SELECT status, attempt FROM events")) == current
    line = (await audited(reader))["shop-1"]
    counted = {"SUCCESS": line.success, "FAILED": line.failed, "HELD": line.held}
    assert counted == {name: int(name == current[0]) for name in counted}
    assert line.events == 1


async def test_the_audit_counts_what_is_held(connections: Connections, reader: Ledger) -> None:
    await store(
        connections,
        HOLDING,
        *(
            msgspec.structs.replace(event(b"{}", source=source), received_at=START)
            for source in ("shop-1", "shop-1", "shop-1", "bank")
        ),
    )

    lines = await audited(reader)

    assert {source: (line.events, line.success, line.held) for source, line in lines.items()} == {
        "bank": (1, 1, 0),
        "shop-1": (3, 0, 3),
    }
