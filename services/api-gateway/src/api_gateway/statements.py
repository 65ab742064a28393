"""Every statement that the gateway sends to the ledger. Each is a SELECT that runs along an index of its own."""

from datetime import datetime
from typing import Any, Final, NamedTuple

from api_gateway.paging import Position
from shared.contracts.event import Channel
from shared.contracts.outcome import RecordStatus

PRESENT: Final = "SELECT 1"

# Records with the attributes of their events; the body only where it is the result. What is larger than $2 bytes is
# left out, and its `size` tells.
_ENTRIES: Final = """
    SELECT record.id, record.raw_event_id, record.status, record.attempt, record.processed_at,
           CASE WHEN octet_length(record.result_payload::text) <= $2 THEN record.result_payload::text END AS result,
           record.errors::text AS errors,
           CASE
               WHEN record.status = 1 AND record.result_payload IS NULL AND octet_length(raw.body) <= $2 THEN raw.body
           END AS body,
           CASE
               WHEN record.result_payload IS NOT NULL THEN octet_length(record.result_payload::text)
               WHEN record.status = 1 THEN octet_length(raw.body)
               ELSE 0
           END AS size,
           raw.event_id, raw.channel, raw.idempotency_key, raw.type, raw.occurred_at, raw.received_at,
           source.name AS source
    FROM {records} AS record
    JOIN raw_events AS raw ON raw.id = record.raw_event_id
    JOIN ingestion_sources AS source ON source.id = raw.source_id
"""
RECORD: Final = _ENTRIES.format(records="processed_records") + "WHERE record.id = $1"
RECORD_OF_EVENT: Final = (
    _ENTRIES.format(records="processed_records") + "WHERE raw.event_id = $1 ORDER BY record.attempt DESC LIMIT 1"
)

# One page: up to $1 rows, each with the bytes of the payloads before it, and how many were `found` before it was cut
# where it would grow beyond $2 bytes. It is taken from `processed_records` alone, along one of its indexes, before
# anything is joined to it.
_PAGE: Final = """
    SELECT * FROM (
        SELECT *, sum(size) OVER (ORDER BY processed_at DESC, id DESC) - size AS bytes_before, count(*) OVER () AS found
        FROM ({entries}) AS entries
    ) AS counted
    WHERE bytes_before + size <= $2 OR bytes_before = 0
    ORDER BY processed_at DESC, id DESC
"""
_PORTION: Final = "(SELECT * FROM processed_records {conditions} ORDER BY processed_at DESC, id DESC LIMIT $1)"

SOURCES: Final = "SELECT id, name, created_at FROM ingestion_sources WHERE id > $1 ORDER BY id LIMIT $2"

# Three books of one hour, from $1 until $2, side by side. Every line of a book that has none of the others counts with
# zeros.
AUDIT: Final = """
    SELECT source, channel, sum(stored)::bigint AS stored, sum(duplicate)::bigint AS duplicate,
           sum(conflict)::bigint AS conflict, sum(refused)::bigint AS refused, sum(queued)::bigint AS queued,
           sum(unknown)::bigint AS unknown, sum(events)::bigint AS events, sum(success)::bigint AS success,
           sum(failed)::bigint AS failed, sum(settled_duplicate)::bigint AS settled_duplicate,
           sum(settled_conflict)::bigint AS settled_conflict, max(moved_at) AS moved_at
    FROM (
        SELECT source, channel, stored, duplicate, conflict, refused, queued, unknown, 0 AS events, 0 AS success,
               0 AS failed, 0 AS settled_duplicate, 0 AS settled_conflict, reported_at AS moved_at
        FROM receipts WHERE hour = $1
        UNION ALL
        SELECT source.name, raw.channel, 0, 0, 0, 0, 0, 0, count(*), count(*) FILTER (WHERE record.status = 1),
               count(*) FILTER (WHERE record.status = 2), 0, 0, max(raw.stored_at)
        FROM raw_events AS raw
        JOIN ingestion_sources AS source ON source.id = raw.source_id
        LEFT JOIN processed_records AS record ON record.raw_event_id = raw.id AND record.attempt = 1
        WHERE raw.received_at >= $1 AND raw.received_at < $2
        GROUP BY source.name, raw.channel
        UNION ALL
        SELECT source.name, settled.channel, 0, 0, 0, 0, 0, 0, 0, 0, 0, count(*) FILTER (WHERE disposition = 2),
               count(*) FILTER (WHERE disposition = 3), max(settled.received_at)
        FROM settlements AS settled JOIN ingestion_sources AS source ON source.id = settled.source_id
        WHERE settled.received_at >= $1 AND settled.received_at < $2
        GROUP BY source.name, settled.channel
    ) AS books
    WHERE ($3::text IS NULL OR source = $3)
      AND ($4::text IS NULL OR (source COLLATE "C", channel) > ($4, $5::smallint))
    GROUP BY source, channel
    ORDER BY source COLLATE "C", channel
    LIMIT $6
"""


class RecordFilter(NamedTuple):
    """Which records; None: whichever. Times are those of processing, `since` included and `until` not."""

    source: str | None = None
    status: RecordStatus | None = None
    channel: Channel | None = None
    since: datetime | None = None
    until: datetime | None = None


def page_query(which: RecordFilter, *, after: Position | None, limit: int, bytes_max: int) -> tuple[str, list[Any]]:
    """Return the query of one page, `limit` rows and perhaps one more, and its parameters."""
    parameters: list[Any] = [limit + 1, bytes_max]
    conditions: list[str] = []

    def given(condition: str, *values: object) -> None:
        first = len(parameters) + 1
        conditions.append(condition.format(*(f"${first + place}" for place in range(len(values)))))
        parameters.extend(values)

    if which.source is not None:
        given("source_id = (SELECT id FROM ingestion_sources WHERE name = {})", which.source)
    if which.status is not None:
        # As a literal: the planner takes the partial index of FAILED records only where it sees the number.
        given(f"status = {which.status.value:d}")
    if which.channel is not None:
        given("channel = {}", which.channel.value)
    if which.since is not None:
        given("processed_at >= {}", which.since)
    if which.until is not None:
        given("processed_at < {}", which.until)
    if after is not None:
        given("(processed_at, id) < ({}, {})", after.processed_at, after.id)
    portion = _PORTION.format(conditions="WHERE " + " AND ".join(conditions) if conditions else "")
    return _PAGE.format(entries=_ENTRIES.format(records=portion)), parameters
