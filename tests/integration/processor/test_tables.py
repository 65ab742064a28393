"""The store writes to the tables that it is given rows of: here to a third one, in the transaction of the event."""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime

import asyncpg
import pytest

from processor.ledger.database import Connections
from processor.ledger.rows import Column, Table, TableRows, WriteItem, ledger_rows
from processor.ledger.store import Store
from processor.programs.active import NO_PIPELINES
from processor.stages.transform import transform
from shared.contracts.event import Envelope, now
from shared.contracts.result import Recorded, RecordStatus, ResultKind
from support.events import event

STORED, DUPLICATE = ResultKind.STORED, ResultKind.DUPLICATE
SIZES = Table("sizes_of_test", "event", (Column("event", "bigint"), Column("part", "int"), Column("size", "int")))


def rows_of(items: Sequence[WriteItem], processed_at: datetime) -> list[TableRows]:
    """Return the ledger's rows, and two rows in the third table of each event that could be processed."""
    sizes = [
        (item.id, part, len(item.processed.event.body))
        for item in items
        if item.processed.status is RecordStatus.SUCCESS
        for part in (1, 2)
    ]
    return [*ledger_rows(items, processed_at), *([TableRows(SIZES, sizes)] if sizes else [])]


@pytest.fixture
async def sizes(owner: asyncpg.Connection) -> AsyncIterator[None]:
    await owner.execute("CREATE TABLE sizes_of_test (event bigint, part int, size int CHECK (size < 100))")
    await owner.execute("GRANT INSERT ON sizes_of_test TO etlpay_processor")
    yield
    await owner.execute("DROP TABLE sizes_of_test")


async def write(connections: Connections, copy_events_min: int, *events: Envelope) -> list[Recorded]:
    store = Store(connections, copy_events_min=copy_events_min, rows_of=rows_of)
    return await store.write([transform(each, NO_PIPELINES) for each in events], processed_at=now())


@pytest.mark.usefixtures("sizes")
@pytest.mark.parametrize("copy_events_min", [1, 100], ids=["copied", "inserted"])
async def test_rows_of_another_table_are_stored_with_their_event(
    connections: Connections, owner: asyncpg.Connection, copy_events_min: int
) -> None:
    first = await write(connections, copy_events_min, event(key="a"), event(b"[]", key="b"))
    again = await write(connections, copy_events_min, event(key="a"), event(key="c"))

    assert [outcome.kind for outcome in (*first, *again)] == [STORED, STORED, DUPLICATE, STORED]
    stored = await owner.fetch("SELECT event, part FROM sizes_of_test ORDER BY event, part")
    ids = [first[0].raw_event_id, again[1].raw_event_id]
    assert [tuple(row) for row in stored] == [(number, part) for number in ids for part in (1, 2)]


@pytest.mark.usefixtures("sizes")
@pytest.mark.parametrize("copy_events_min", [1, 100], ids=["copied", "inserted"])
async def test_an_event_whose_row_another_table_refuses_is_kept_as_failed_and_the_others_are_stored(
    connections: Connections, owner: asyncpg.Connection, copy_events_min: int
) -> None:
    large = event(b'{"text": "%s"}' % (b"x" * 100), key="large")

    outcomes = await write(connections, copy_events_min, *(event(key=str(number)) for number in range(6)), large)

    assert [outcome.status.name for outcome in outcomes] == ["SUCCESS"] * 6 + ["FAILED"]
    assert outcomes[6].errors[0].detail == "PostgreSQL refused it (SQLSTATE 23514)"
    assert await owner.fetchval("SELECT count(*) FROM sizes_of_test") == 12
