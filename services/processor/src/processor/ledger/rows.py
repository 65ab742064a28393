"""The events that are written to the ledger, and the rows that they become. Pure."""

import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from processor.ledger.tables import PROCESSED_RECORDS, RAW_EVENTS, Row, TableRows
from shared.contracts.event import Envelope
from shared.contracts.errors import Problem
from shared.contracts.result import Recorded, RecordStatus


class Processed(msgspec.Struct, frozen=True, gc=False):
    """An event with the record that it becomes.

    `result` is JSON; None: equal to the body, or there is none. `acknowledged`: the channel has answered already, since
    the event came over a queue.
    """

    event: Envelope
    status: RecordStatus
    result: bytes | None = None
    errors: tuple[Problem, ...] = ()
    acknowledged: bool = False


class WriteItem(msgspec.Struct, frozen=True, gc=False):
    """A processed event with the id that it gets in the ledger, and that of its source."""

    id: int
    source_id: int
    processed: Processed


def failed(event: Envelope, detail: str, *, acknowledged: bool = False) -> Processed:
    """Return the event with the record of one that could not be processed as a whole."""
    return Processed(event, RecordStatus.FAILED, errors=(Problem("", detail),), acknowledged=acknowledged)


def ledger_rows(items: Sequence[WriteItem], processed_at: datetime) -> list[TableRows]:
    """Return the rows that the events are stored as, table by table; `raw_events` is the first."""
    return [TableRows(RAW_EVENTS, _raw_rows(items)), TableRows(PROCESSED_RECORDS, _record_rows(items, processed_at))]


def _raw_rows(items: Sequence[WriteItem]) -> list[Row]:
    return [
        (
            item.id,
            event.event_id,
            item.source_id,
            event.idempotency_key or None,
            event.channel,
            event.type or None,
            event.occurred_at,
            event.received_at,
            event.content_type,
            event.origin or None,
            event.derived or None,
            event.sender or None,
            event.body,
        )
        for item in items
        for event in (item.processed.event,)
    ]


def _record_rows(items: Sequence[WriteItem], processed_at: datetime) -> list[Row]:
    return [
        (
            item.id,
            item.id,
            item.source_id,
            processed.event.channel,
            processed.status,
            processed.result and processed.result.decode(),
            _problems_json(processed.errors),
            processed_at,
        )
        for item in items
        for processed in (item.processed,)
    ]


def add_conflicts_parameters(conflicts: Sequence[tuple[Envelope, Recorded]]) -> tuple[list[Any], ...]:
    """Return the parameters of ADD_CONFLICTS for events and the outcomes that name the events stored first.

    Sorted, so that two batches with the same conflicts wait for each other instead of deadlocking.
    """
    digests = sorted(
        ((outcome.raw_event_id, hashlib.sha256(event.body).digest(), event) for event, outcome in conflicts),
        key=lambda row: row[:2],
    )
    return (
        [raw_event_id for raw_event_id, _, _ in digests],
        [event.channel for _, _, event in digests],
        [event.received_at for _, _, event in digests],
        [event.content_type for _, _, event in digests],
        [event.origin or None for _, _, event in digests],
        [event.sender or None for _, _, event in digests],
        [event.body for _, _, event in digests],
        [digest for _, digest, _ in digests],
    )


def add_settlements_parameters(
    settled: Sequence[tuple[Envelope, Recorded]], source_ids: dict[str, int]
) -> tuple[list[Any], ...]:
    """Return the parameters of ADD_SETTLEMENTS. Sorted, for the same reason."""
    settled = sorted(settled, key=lambda pair: (pair[0].event_id, pair[0].received_at, pair[0].channel))
    return (
        [event.event_id for event, _ in settled],
        [event.received_at for event, _ in settled],
        [source_ids[event.source] for event, _ in settled],
        [event.channel for event, _ in settled],
        [outcome.kind for _, outcome in settled],
    )


def _problems_json(problems: tuple[Problem, ...]) -> str | None:
    return msgspec.json.encode(problems).decode() if problems else None
