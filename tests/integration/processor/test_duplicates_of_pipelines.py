"""An event of a pipeline that comes again, whatever became of it before."""

import asyncpg
import pytest

from processor.ledger.database import Connections
from processor.ledger.store import Store
from processor.programs.active import NO_PIPELINES, ActiveSet
from processor.stages.transform import transform
from shared.contracts.event import now
from shared.contracts.result import Recorded, RecordStatus, ResultKind
from support.active_pipelines import active, set_of
from support.events import event
from support.registered import clear, create_tables

RULES = (
    'etlpay = 1\nname = "p"\nsource = "*"\n[[table]]\nname = "t"\n'
    '[table.columns]\nid = { from = "/id", required = true }\n'
)
RUNNING = set_of(active(RULES))
HOLDING = set_of(active(RULES), held={"p": "asked for"})
MASKING = set_of(active(RULES.replace("[[table]]", '[mask]\n"/mail" = "drop"\n[[table]]')))


async def send(connections: Connections, body: bytes, pipelines: ActiveSet) -> Recorded:
    processed = transform(event(body, key="k"), pipelines)
    [outcome] = await Store(connections, copy_events_min=100).write([processed], processed_at=now())
    return outcome


@pytest.mark.parametrize(
    ("first", "then", "status"),
    [
        (RUNNING, RUNNING, RecordStatus.FAILED),
        (HOLDING, HOLDING, RecordStatus.HELD),
        (HOLDING, RUNNING, RecordStatus.HELD),
        (NO_PIPELINES, RUNNING, RecordStatus.SUCCESS),
        (NO_PIPELINES, HOLDING, RecordStatus.SUCCESS),
    ],
)
async def test_equal_values_are_a_duplicate_also_where_they_break_the_contract(
    connections: Connections, first: ActiveSet, then: ActiveSet, status: RecordStatus
) -> None:
    await send(connections, b'{"a": 1.10}', first)

    again = await send(connections, b'{"a":1.1}', then)
    other = await send(connections, b'{"a":1.2}', then)

    assert (again.kind, again.status) == (ResultKind.DUPLICATE, status)
    assert (other.kind, other.status) == (ResultKind.CONFLICT, status)


async def test_a_duplicate_is_answered_with_what_was_masked(
    connections: Connections, owner: asyncpg.Connection
) -> None:
    await clear(owner)
    await create_tables(owner, MASKING.pipelines[0])
    body = b'{"id": "1", "mail": "a@b.example"}'
    await send(connections, body, MASKING)

    again = await send(connections, body, MASKING)

    assert again.kind is ResultKind.DUPLICATE
    assert again.payload(body) == b'{"id": "1", "mail": null}'
    await clear(owner)
