"""Every statement that the processor sends to the ledger. A batch travels as arrays: one statement for any size."""

from typing import Final

from shared.postgres import LEDGER_EPOCH

# No id is drawn for a source that has a row: ids are integers, and a source may be looked up any number of times.
ADD_SOURCES: Final = """
    INSERT INTO ingestion_sources (name)
    SELECT name FROM unnest($1::text[]) AS new (name)
    WHERE NOT EXISTS (SELECT FROM ingestion_sources AS known WHERE known.name = new.name)
    ON CONFLICT (name) DO NOTHING
"""
FIND_SOURCES: Final = "SELECT name, id FROM ingestion_sources WHERE name = ANY($1::text[])"

ADD_CAUSES: Final = """
    INSERT INTO causes (name)
    SELECT name FROM unnest($1::text[]) AS new (name)
    WHERE NOT EXISTS (SELECT FROM causes AS known WHERE known.name = new.name)
    ON CONFLICT (name) DO NOTHING
"""
FIND_CAUSES: Final = "SELECT name, id FROM causes WHERE name = ANY($1::text[])"

# The sequence counts blocks of ids, not ids: see ids.py.
NEXT_ID_BLOCKS: Final = "SELECT nextval('ledger_id_blocks') FROM generate_series(1, $1::int)"

# Draws the blocks whose ids are used already, so that the next one is free; a million blocks at most at once.
SKIP_ID_BLOCKS: Final = """
    WITH drawn AS MATERIALIZED (SELECT nextval('ledger_id_blocks') AS block),
         used AS (SELECT greatest((SELECT max(id) FROM raw_events), (SELECT max(id) FROM processed_records)) AS id)
    SELECT count(nextval('ledger_id_blocks'))
    FROM drawn, used,
         generate_series(drawn.block + 1, least((used.id + $1::bigint - 1) / $1::bigint, drawn.block + 1000000))
"""

# The stored event of each event id, without its body and result, which may be large. The hash of the body comes where
# the body has the wanted size. The record is the current one: the latest SUCCESS, else the latest.
FIND_FIRSTS: Final = """
    SELECT raw.event_id, wanted.size AS wanted_size, raw.id AS raw_event_id, raw.channel, raw.received_at,
           octet_length(raw.body) AS size,
           CASE WHEN octet_length(raw.body) = wanted.size THEN sha256(raw.body) END AS sha256,
           latest.id AS record_id, latest.status, latest.has_result, latest.errors::text AS errors, latest.processed_at
    FROM unnest($1::uuid[], $2::int[]) AS wanted (event_id, size)
    JOIN raw_events AS raw ON raw.event_id = wanted.event_id
    JOIN LATERAL (
        SELECT record.id, record.status, record.result_payload IS NOT NULL AS has_result, record.errors,
               record.processed_at
        FROM processed_records AS record WHERE record.raw_event_id = raw.id
        ORDER BY (record.status = 1) DESC, record.attempt DESC LIMIT 1) AS latest ON true
"""
FIND_KNOWN: Final = "SELECT event_id FROM raw_events WHERE event_id = ANY($1::uuid[])"
FIND_BODIES: Final = "SELECT id, content_type, body FROM raw_events WHERE id = ANY($1::bigint[])"
FIND_RESULT: Final = "SELECT result_payload::text FROM processed_records WHERE id = $1"

ADD_CONFLICTS: Final = """
    INSERT INTO conflicts (raw_event_id, channel, received_at, content_type, origin, sender, body, body_sha256)
    SELECT * FROM unnest($1::bigint[], $2::smallint[], $3::timestamptz[], $4::text[], $5::text[], $6::text[],
                         $7::bytea[], $8::bytea[])
    ON CONFLICT (raw_event_id, body_sha256) DO NOTHING
"""

# One row for each acceptance: a message that is delivered again adds none.
ADD_SETTLEMENTS: Final = """
    INSERT INTO settlements (event_id, received_at, source_id, channel, disposition)
    SELECT * FROM unnest($1::uuid[], $2::timestamptz[], $3::int[], $4::smallint[], $5::smallint[])
    ON CONFLICT (event_id, received_at, channel) DO NOTHING
"""

ADD_RECEIPT: Final = """
    INSERT INTO receipts (instance, number, service, source, channel, hour, stored, duplicate, conflict, refused,
                          queued, unknown, unlisted)
    SELECT $1, $2, $3, counts.* FROM unnest($4::text[], $5::smallint[], $6::timestamptz[], $7::bigint[], $8::bigint[],
                                            $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[])
                                         AS counts
    ON CONFLICT (instance, number, source, channel, hour) DO NOTHING
"""

# A portion is added once: writing it again, after the answer of its commit was lost, changes nothing.
ADD_DRIFTS: Final = """
    INSERT INTO drifts (instance, number, pipeline_id, kind, place, hour, events, example)
    SELECT $1, $2, new.* FROM unnest($3::int[], $4::smallint[], $5::text[], $6::timestamptz[], $7::bigint[],
                                     $8::bigint[]) AS new
    ON CONFLICT (pipeline_id, hour, kind, place, instance) DO UPDATE
    SET number = EXCLUDED.number, events = drifts.events + EXCLUDED.events, example = EXCLUDED.example
    WHERE drifts.number < EXCLUDED.number
"""

HAD_EVENTS: Final = "SELECT had_events FROM upgrades WHERE revision = $1"
# A key that was derived then came over the channel that derives it now. A key that a producer gave does not count.
FIND_FORMER: Final = """
    SELECT event_id, channel FROM raw_events WHERE event_id = ANY($1::uuid[]) AND derived IS NULL
"""

# Until the end of the transaction; the wait for a table itself counts as well.
LIMIT_LOCK_WAITS: Final = "SELECT set_config('lock_timeout', $1, true), now() AS began_at"

FIND_REVISION: Final = "SELECT version_num FROM alembic_version"
ADD_UNCONFIRMED: Final = """
    INSERT INTO unconfirmed (event_id, received_at, channel)
    SELECT * FROM unnest($1::uuid[], $2::timestamptz[], $3::smallint[])
    ON CONFLICT (event_id, received_at, channel) DO NOTHING
"""

# The numbers between the newest receipt and this one are noted as a gap before this one becomes the newest. The gap
# begins at $4 where this receipt is the first. The lock puts receipts of one process, which two processors may hold,
# one after the other.
ADD_RECEIPT_GAP: Final = """
    INSERT INTO receipt_gaps (instance, numbers, since, until)
    SELECT $1, int8range(coalesce(max(number), 0) + 1, $2::bigint), coalesce(max(open_since), $4), $3
    FROM (SELECT number, open_since FROM receipt_series WHERE instance = $1 FOR UPDATE) AS series
    HAVING coalesce(max(number), 0) + 1 < $2
    ON CONFLICT (instance, numbers) DO NOTHING
"""

ADD_TO_SERIES: Final = """
    INSERT INTO receipt_series (instance, service, channel, interval_seconds, numbers, number, open_since, taken_at,
                                closed, reported_at)
    VALUES ($1, $3, $4, $5, int8multirange(int8range($2::bigint, $2, '[]')), $2, $6, $7, $8, now())
    ON CONFLICT (instance) DO UPDATE SET
        numbers = receipt_series.numbers + excluded.numbers,
        closed = receipt_series.closed OR excluded.closed,
        reported_at = greatest(receipt_series.reported_at, excluded.reported_at),
        (number, open_since, taken_at) = (
            SELECT newest.number, newest.open_since, newest.taken_at
            FROM (VALUES (receipt_series.number, receipt_series.open_since, receipt_series.taken_at),
                         (excluded.number, excluded.open_since, excluded.taken_at))
                 AS newest (number, open_since, taken_at)
            ORDER BY newest.number DESC LIMIT 1
        )
"""

# The last row of each name, those that processors have set apart from the others.
FIND_HOLDS: Final = """
    SELECT DISTINCT ON (name, own) name, set_by = $1 AS own, id, held, reason
    FROM pipeline_holds WHERE id > $2 ORDER BY name, own, id DESC
"""
# Changes nothing while somebody holds it.
ADD_UNLESS_HELD: Final = """
    INSERT INTO pipeline_holds (name, held, set_by, reason)
    SELECT $1, $4::boolean, $2, $3
    WHERE NOT coalesce((SELECT held FROM pipeline_holds WHERE name = $1 ORDER BY id DESC LIMIT 1), false)
"""
# Nobody but an operator ends the hold of an operator.
ADD_RELEASE: Final = """
    INSERT INTO pipeline_holds (name, held, set_by, reason)
    SELECT $1, false, $2, $3
    WHERE NOT coalesce((SELECT held AND set_by <> $2 FROM pipeline_holds WHERE name = $1 ORDER BY id DESC LIMIT 1),
                       false)
"""
FIND_SETTLED: Final = """
    SELECT max(set_at) FROM pipeline_holds WHERE name = $1 AND set_by = $2 AND NOT held AND reason = $3
"""

# A part of the HELD records, the oldest first. `owed`: they are of this cause, and no later attempt was made. So the
# work of one look is bounded, however many of them were processed long ago.
FIND_HELD: Final = """
    WITH looked AS MATERIALIZED (
        SELECT id, processed_at, raw_event_id, attempt, cause_id FROM processed_records
        WHERE status = 3 AND (processed_at, id) > ($2::timestamptz, $3::bigint)
        ORDER BY processed_at, id LIMIT $4)
    SELECT looked.id, looked.processed_at, looked.raw_event_id, looked.attempt,
           CASE WHEN looked.cause_id = $1
                 AND NOT EXISTS (SELECT FROM processed_records AS later WHERE later.raw_event_id = looked.raw_event_id
                                 AND later.attempt > looked.attempt)
                THEN (SELECT octet_length(raw.body) FROM raw_events AS raw WHERE raw.id = looked.raw_event_id)
                END AS owed_bytes
    FROM looked ORDER BY looked.processed_at, looked.id
"""
FIND_CAUSES_LIKE: Final = "SELECT name FROM causes WHERE name LIKE $1"
FIND_EVENTS: Final = """
    SELECT raw.id, raw.event_id, raw.source_id, source.name AS source, raw.idempotency_key, raw.channel, raw.type,
           raw.occurred_at, raw.received_at, raw.content_type, raw.origin, raw.derived, raw.sender, raw.file_at,
           raw.body
    FROM raw_events AS raw JOIN ingestion_sources AS source ON source.id = raw.source_id
    WHERE raw.id = ANY($1::bigint[])
"""

# One processor at a time works off what is owed of a pipeline; the lock ends with the transaction.
BEGIN_ATTEMPTS: Final = """
    SELECT pg_try_advisory_xact_lock(hashtextextended('etlpay held ' || $1::text, 0)) AS locked,
           set_config('lock_timeout', $2, true), now() AS began_at
"""
# Of an event whose next attempt was made meanwhile none is added.
ADD_ATTEMPTS: Final = """
    INSERT INTO processed_records (id, raw_event_id, source_id, channel, status, attempt, result_payload, errors,
                                   processed_at, pipeline_id, row_count, cause_id)
    SELECT id, raw_event_id, source_id, channel, status, attempt, result_payload::jsonb, errors::jsonb,
           $12::timestamptz, pipeline_id, row_count, cause_id
    FROM unnest($1::bigint[], $2::bigint[], $3::int[], $4::smallint[], $5::smallint[], $6::smallint[], $7::text[],
                $8::text[], $9::int[], $10::int[], $11::int[])
         AS new (id, raw_event_id, source_id, channel, status, attempt, result_payload, errors, pipeline_id, row_count,
                 cause_id)
    ON CONFLICT (raw_event_id, attempt) DO NOTHING RETURNING raw_event_id
"""

# Grants are checked, too. Without one a processor would take deliveries, end at its first write and start again, until
# healthy messages had been delivered too often.
CHECK_LEDGER: Final = f"""
    SELECT current_setting('fsync') = 'on' AS fsync,
           current_setting('synchronous_commit') <> 'off' AS synchronous_commit,
           NOT pg_is_in_recovery() AND current_setting('transaction_read_only') = 'off' AS writable,
           (SELECT bool_and(has_table_privilege(name, 'SELECT') AND has_table_privilege(name, 'INSERT'))
            FROM unnest(ARRAY['ingestion_sources', 'raw_events', 'processed_records', 'conflicts', 'settlements',
                              'receipts', 'receipt_series', 'receipt_gaps', 'unconfirmed', 'causes',
                              'pipeline_holds', 'feed', 'drifts']) AS name)
           AND has_table_privilege('pipelines', 'SELECT') AND has_table_privilege('pipeline_states', 'SELECT')
           AND has_table_privilege('drifts', 'UPDATE') AND has_table_privilege('receipt_series', 'UPDATE')
           AND has_sequence_privilege('ledger_id_blocks', 'USAGE') AS granted,
           EXISTS (SELECT FROM pg_trigger WHERE tgrelid = to_regclass('processed_records')
                   AND tgname = 'processed_records_to_feed' AND tgenabled IN ('O', 'A')) AS feeds,
           (SELECT version_num FROM alembic_version) AS revision,
           {LEDGER_EPOCH} AS epoch
"""  # noqa: S608 - parts of our own statement

# Changes with what is active. It is no part of the statement above, which would fail where a grant is missing.
FIND_PIPELINE_MARK: Final = "SELECT coalesce(max(id), 0) FROM pipeline_states"
