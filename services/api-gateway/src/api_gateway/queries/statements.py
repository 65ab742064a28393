"""Every statement that the gateway sends to the ledger. Each is a SELECT that runs along an index of its own."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final, NamedTuple

from api_gateway.queries.paging import AuditPosition, Position
from shared.auth.scopes import EVERY_SOURCE, Scope
from shared.contracts.outcome import RecordStatus
from shared.contracts.receipt import SILENT_INTERVALS, SILENT_SECONDS

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

# What was answered in the hour $1 beside what the ledger holds of the part of it from $2 until $3. The answers are
# counted by the hour, so they stand in its first part: the parts of an hour add up to it. A line that one side has
# alone counts with zeros on the other. $8 and $9 are a scope, see `scope_parameters`.
AUDIT: Final = """
    WITH part AS (
        SELECT id FROM ingestion_sources WHERE name = $4
    ), stored AS (
        SELECT raw.source_id, raw.channel, count(*) AS events, count(*) FILTER (WHERE record.status = 1) AS success,
               count(*) FILTER (WHERE record.status = 2) AS failed, max(raw.stored_at) AS moved_at
        FROM raw_events AS raw
        LEFT JOIN processed_records AS record ON record.raw_event_id = raw.id AND record.attempt = 1
        WHERE raw.received_at >= $2 AND raw.received_at < $3
          AND ($4::text IS NULL OR raw.source_id = (SELECT id FROM part))
        GROUP BY raw.source_id, raw.channel
    ), settled AS (
        SELECT source_id, channel, count(*) FILTER (WHERE disposition = 2) AS duplicate,
               count(*) FILTER (WHERE disposition = 3) AS conflict, max(received_at) AS moved_at
        FROM settlements WHERE received_at >= $2 AND received_at < $3
        GROUP BY source_id, channel
    ), found AS (
        SELECT coalesce(raw.source_id, settled.source_id) AS source_id, listed.channel, count(*) AS unconfirmed
        FROM unconfirmed AS listed
        LEFT JOIN raw_events AS raw ON raw.event_id = listed.event_id
              AND raw.received_at = listed.received_at AND raw.channel = listed.channel
        LEFT JOIN settlements AS settled ON settled.event_id = listed.event_id
              AND settled.received_at = listed.received_at AND settled.channel = listed.channel
        WHERE listed.received_at >= $2 AND listed.received_at < $3
          AND coalesce(raw.source_id, settled.source_id) IS NOT NULL
        GROUP BY 1, 2
    ), held AS (
        SELECT source_id, channel, events, success, failed, 0 AS duplicate, 0 AS conflict, 0 AS unconfirmed, moved_at
        FROM stored
        UNION ALL SELECT source_id, channel, 0, 0, 0, duplicate, conflict, 0, moved_at FROM settled
        UNION ALL SELECT source_id, channel, 0, 0, 0, 0, 0, unconfirmed, NULL FROM found
    )
    SELECT source, channel, sum(stored)::bigint AS stored, sum(duplicate)::bigint AS duplicate,
           sum(conflict)::bigint AS conflict, sum(refused)::bigint AS refused, sum(queued)::bigint AS queued,
           sum(unknown)::bigint AS unknown, sum(unlisted)::bigint AS unlisted, sum(events)::bigint AS events,
           sum(success)::bigint AS success, sum(failed)::bigint AS failed,
           sum(settled_duplicate)::bigint AS settled_duplicate, sum(settled_conflict)::bigint AS settled_conflict,
           sum(unconfirmed)::bigint AS unconfirmed, max(moved_at) AS moved_at
    FROM (
        SELECT source, channel, stored, duplicate, conflict, refused, queued, unknown,
               coalesce(unlisted, unknown) AS unlisted, 0 AS events, 0 AS success, 0 AS failed, 0 AS settled_duplicate,
               0 AS settled_conflict, 0 AS unconfirmed, reported_at AS moved_at
        FROM receipts WHERE hour = $1 AND $1 = $2
        UNION ALL
        SELECT source.name, held.channel, 0, 0, 0, 0, 0, 0, 0, events, success, failed, duplicate, conflict,
               unconfirmed, moved_at
        FROM held JOIN ingestion_sources AS source ON source.id = held.source_id
    ) AS books
    WHERE ($4::text IS NULL OR source = $4)
      AND ($8::text[] IS NULL OR source = ANY($8) OR source ^@ ANY($9::text[]))
      AND ($5::text IS NULL OR (source COLLATE "C", channel) > ($5, $6::smallint))
    GROUP BY source, channel
    ORDER BY source COLLATE "C", channel
    LIMIT $7
"""

# Of which processes the counts of the hour from $1 until $2 may not be all there: those that have not ended in order,
# and may have answered events after what they told last; and those of which a receipt in between is missing.
AUDIT_SERIES: Final = f"""
    SELECT service, instance, channel, open_since AS since,
           taken_at + make_interval(secs => {SILENT_INTERVALS} * interval_seconds + {SILENT_SECONDS}) AS until,
           reported_at, interval_seconds, 0 AS missing_receipts
    FROM receipt_series
    WHERE NOT closed AND open_since < $2
      AND taken_at + make_interval(secs => {SILENT_INTERVALS} * interval_seconds + {SILENT_SECONDS}) >= $1
    UNION ALL
    SELECT series.service, series.instance, series.channel, gap.since, gap.until, series.reported_at,
           series.interval_seconds, upper(gap.numbers) - lower(gap.numbers)
    FROM receipt_gaps AS gap JOIN receipt_series AS series USING (instance)
    WHERE gap.since < $2 AND gap.until >= $1 AND NOT series.numbers @> gap.numbers
    ORDER BY service, since
    LIMIT $3
"""  # noqa: S608 - our own numbers
AUDIT_OVERFLOWED: Final = """
    SELECT DISTINCT channel FROM receipts
    WHERE hour = $1 AND source = $2 AND stored + queued + coalesce(unlisted, unknown) > 0
"""
AUDIT_AS_OF: Final = "SELECT now()"


class AuditPart(NamedTuple):
    """A part of one hour, from `since` to before `until`; of one source, or of a scope; its lines after a position."""

    hour: datetime
    since: datetime
    until: datetime
    source: str | None = None
    after: AuditPosition | None = None
    scope: Scope = EVERY_SOURCE


class RecordFilter(NamedTuple):
    """Which records; None: whichever. Times are those of processing, `since` included and `until` not.

    Without a `source` those of the `scope` are meant.
    """

    source: str | None = None
    status: RecordStatus | None = None
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
    if which.since is not None:
        yield "processed_at >= {}", which.since
    if which.until is not None:
        yield "processed_at < {}", which.until
    if after is not None:
        yield "(processed_at, id) < ({}, {})", after.processed_at, after.id
