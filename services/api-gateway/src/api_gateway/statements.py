"""Every statement that the gateway sends to the ledger. Each is a SELECT that runs along an index of its own."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final, NamedTuple

from api_gateway.paging import Position
from shared.auth.scopes import EVERY_SOURCE, Scope
from shared.contracts.event import Channel
from shared.contracts.outcome import RecordStatus

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

# The same of several sources, out of the index by source: one look at the newest of each, and then up to $1 of the $1
# sources with the newest. No record of another source is read, however rare those of these are among them, and what is
# newest of all is the newest of its source.
_PORTION_OF_SOURCES: Final = """(
    SELECT record.* FROM (
        SELECT newest.id
        FROM (
            SELECT mine.id AS source_id
            FROM ({sources}) AS mine
            CROSS JOIN LATERAL (
                SELECT id, processed_at FROM processed_records WHERE source_id = mine.id {conditions}
                ORDER BY processed_at DESC, id DESC LIMIT 1
            ) AS head
            ORDER BY head.processed_at DESC, head.id DESC LIMIT $1
        ) AS foremost
        CROSS JOIN LATERAL (
            SELECT id, processed_at FROM processed_records WHERE source_id = foremost.source_id {conditions}
            ORDER BY processed_at DESC, id DESC LIMIT $1
        ) AS newest
        ORDER BY newest.processed_at DESC, newest.id DESC LIMIT $1
    ) AS page JOIN processed_records AS record ON record.id = page.id
)"""
_SOURCES_OF_SCOPE: Final = "SELECT id FROM ingestion_sources WHERE name = ANY({0}::text[]) OR name ^@ ANY({1}::text[])"

# Of a scope, see `scope_parameters`.
SOURCES: Final = """
    SELECT id, name, created_at FROM ingestion_sources
    WHERE id > $1 AND ($3::text[] IS NULL OR name = ANY($3) OR name ^@ ANY($4::text[]))
    ORDER BY id LIMIT $2
"""

# Three books of one hour, from $1 until $2, side by side. Every line of a book that has none of the others counts with
# zeros. $7 and $8 are a scope, see `scope_parameters`.
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
      AND ($7::text[] IS NULL OR source = ANY($7) OR source ^@ ANY($8::text[]))
      AND ($4::text IS NULL OR (source COLLATE "C", channel) > ($4, $5::smallint))
    GROUP BY source, channel
    ORDER BY source COLLATE "C", channel
    LIMIT $6
"""


class RecordFilter(NamedTuple):
    """Which records; None: whichever. Times are those of processing, `since` included and `until` not.

    Without a `source` those of the `scope` are meant.
    """

    source: str | None = None
    status: RecordStatus | None = None
    channel: Channel | None = None
    since: datetime | None = None
    until: datetime | None = None
    scope: Scope = EVERY_SOURCE


def scope_parameters(scope: Scope) -> tuple[list[str] | None, list[str] | None]:
    """Return the names and the beginnings of names of a scope as statements take them; None: every source."""
    return (None, None) if scope.everything else (sorted(scope.names), list(scope.beginnings))


def page_query(which: RecordFilter, *, after: Position | None, limit: int, bytes_max: int) -> tuple[str, list[Any]]:
    """Return the query of one page, `limit` rows and perhaps one more, and its parameters."""
    parameters: list[Any] = [limit + 1, bytes_max]

    def given(condition: str, *values: object) -> str:
        first = len(parameters) + 1
        parameters.extend(values)
        return condition.format(*(f"${first + place}" for place in range(len(values))))

    conditions = [given(condition, *values) for condition, *values in _conditions(which, after)]
    if which.source is not None:
        conditions.append(given("source_id = (SELECT id FROM ingestion_sources WHERE name = {})", which.source))
    elif not which.scope.everything:
        sources = given(_SOURCES_OF_SCOPE, *scope_parameters(which.scope))
        if which.status is not RecordStatus.FAILED:
            more = "".join(f"AND {condition} " for condition in conditions)
            portion = _PORTION_OF_SOURCES.format(sources=sources, conditions=more)
            return _PAGE.format(entries=_ENTRIES.format(records=portion)), parameters
        # FAILED are few, so those of all sources are looked through, along an index of theirs.
        conditions.append(f"source_id = ANY(ARRAY({sources}))")
    portion = _PORTION.format(conditions="WHERE " + " AND ".join(conditions) if conditions else "")
    return _PAGE.format(entries=_ENTRIES.format(records=portion)), parameters


def _conditions(which: RecordFilter, after: Position | None) -> Iterator[tuple[Any, ...]]:
    """Yield what each record must fulfil, apart from its source: a condition with the values for its places."""
    if which.status is not None:
        # As a literal: the planner takes the partial index of FAILED records only where it sees the number.
        yield (f"status = {which.status.value:d}",)
    if which.channel is not None:
        yield "channel = {}", which.channel.value
    if which.since is not None:
        yield "processed_at >= {}", which.since
    if which.until is not None:
        yield "processed_at < {}", which.until
    if after is not None:
        yield "(processed_at, id) < ({}, {})", after.processed_at, after.id
