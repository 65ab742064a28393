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
IGNORING = set_of(active(RULES.replace("[[table]]", '[event]\nignore = ["/tries", "/lines/*/seen"]\n[[table]]')))
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


@pytest.mark.parametrize(
    ("again", "kind"),
    [
        (b'{"a": 1, "tries": 2, "lines": [{"n": 1, "seen": true}]}', ResultKind.DUPLICATE),
        (b'{"a":1, "lines": [{"n": 1}]}', ResultKind.DUPLICATE),
        (b'{"a": 2, "tries": 1, "lines": [{"n": 1, "seen": false}]}', ResultKind.CONFLICT),
        (b'{"a": 1, "tries": 1, "lines": [{"n": 2, "seen": false}]}', ResultKind.CONFLICT),
        (b'{"a": 1, "tries": 1, "tries": 1, "lines": [{"n": 1, "seen": false}]}', ResultKind.CONFLICT),
    ],
)
async def test_members_that_are_ignored_do_not_count_when_an_event_comes_again(
    connections: Connections, again: bytes, kind: ResultKind
) -> None:
    first = b'{"a": 1, "tries": 1, "lines": [{"n": 1, "seen": false}]}'
    await send(connections, first, IGNORING)

    assert (await send(connections, again, IGNORING)).kind is kind
    assert (await send(connections, again, RUNNING)).kind is ResultKind.CONFLICT


async def test_ignored_members_do_not_count_within_one_batch(connections: Connections) -> None:
    bodies = [b'{"a": 1, "tries": 1}', b'{"a": 1, "tries": 2}', b'{"a": 3, "tries": 1}']
    batch = [transform(event(body, key="k"), IGNORING) for body in bodies]

    outcomes = await Store(connections, copy_events_min=100).write(batch, processed_at=now())

    assert [each.kind for each in outcomes] == [ResultKind.STORED, ResultKind.DUPLICATE, ResultKind.CONFLICT]


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
