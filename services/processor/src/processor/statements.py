"""Every statement that the processor sends to the ledger. A batch travels as arrays: one statement for any size."""

from typing import Final

from shared.postgres import LEDGER_EPOCH

ADD_SOURCES: Final = "INSERT INTO ingestion_sources (name) SELECT unnest($1::text[]) ON CONFLICT (name) DO NOTHING"
FIND_SOURCES: Final = "SELECT name, id FROM ingestion_sources WHERE name = ANY($1::text[])"

# The sequence counts blocks of ids, not ids: see ids.py.
NEXT_ID_BLOCKS: Final = "SELECT nextval('ledger_id_blocks') FROM generate_series(1, $1::int)"

# The raw event and its record in one statement; of an event id that is there already, neither. Returns the ids that
# are new. The first record of an event has the event's own id. With IS TRUE the ids are looked up in a hash table: a
# join would compare each with each, since the plan is made before the size of a batch is known.
ADD_EVENTS: Final = """
    WITH stored AS (
        INSERT INTO raw_events (id, event_id, source_id, idempotency_key, channel, type, occurred_at, received_at,
                                content_type, origin, derived, sender, body)
        SELECT * FROM unnest($1::bigint[], $2::uuid[], $3::int[], $4::text[], $5::smallint[], $6::text[],
                             $7::timestamptz[], $8::timestamptz[], $9::text[], $10::text[], $11::boolean[],
                             $12::text[], $13::bytea[])
        ON CONFLICT (event_id) DO NOTHING
        RETURNING id
    )
    INSERT INTO processed_records (id, raw_event_id, source_id, channel, status, result_payload, errors, processed_at)
    SELECT id, id, source_id, channel, status, result::jsonb, errors::jsonb, $17::timestamptz
    FROM unnest($1::bigint[], $3::int[], $5::smallint[], $14::smallint[], $15::text[], $16::text[])
        AS records (id, source_id, channel, status, result, errors)
    WHERE (id IN (SELECT id FROM stored)) IS TRUE
    RETURNING id
"""

# The columns of a batch that is copied, in the order of its rows.
RAW_COLUMNS: Final = (
    "id", "event_id", "source_id", "idempotency_key", "channel", "type", "occurred_at", "received_at", "content_type",
    "origin", "derived", "sender", "body",
)  # fmt: skip
RECORD_COLUMNS: Final = (
    "id", "raw_event_id", "source_id", "channel", "status", "result_payload", "errors", "processed_at",
)  # fmt: skip

FIND_FIRSTS: Final = """
    SELECT raw.event_id, raw.id AS raw_event_id, raw.channel, raw.received_at, raw.content_type, raw.body,
           record.id AS record_id, record.status, record.result_payload::text AS result, record.errors::text AS errors,
           record.processed_at
    FROM raw_events AS raw JOIN processed_records AS record ON record.raw_event_id = raw.id AND record.attempt = 1
    WHERE raw.event_id = ANY($1::uuid[])
"""

ADD_CONFLICTS: Final = """
    INSERT INTO conflicts (raw_event_id, channel, received_at, content_type, origin, sender, body, body_sha256)
    SELECT * FROM unnest($1::bigint[], $2::smallint[], $3::timestamptz[], $4::text[], $5::text[], $6::text[],
                         $7::bytea[], $8::bytea[])
    ON CONFLICT (raw_event_id, body_sha256) DO NOTHING
"""

# One row for each acceptance: a message that is delivered again settles nothing anew.
ADD_SETTLEMENTS: Final = """
    INSERT INTO settlements (event_id, received_at, source_id, channel, disposition)
    SELECT * FROM unnest($1::uuid[], $2::timestamptz[], $3::int[], $4::smallint[], $5::smallint[])
    ON CONFLICT (event_id, received_at, channel) DO NOTHING
"""

ADD_RECEIPT: Final = """
    INSERT INTO receipts (instance, number, service, source, channel, hour, stored, duplicate, conflict, refused,
                          queued, unknown)
    SELECT $1, $2, $3, counts.* FROM unnest($4::text[], $5::smallint[], $6::timestamptz[], $7::bigint[], $8::bigint[],
                                            $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[]) AS counts
    ON CONFLICT (instance, number, source, channel, hour) DO NOTHING
"""

# The grants are asked for as well: a processor that lost one would take deliveries, end at the first that it writes,
# and begin anew, until innocent messages had been delivered too often.
CHECK_LEDGER: Final = f"""
    SELECT current_setting('fsync') = 'on' AS fsync,
           current_setting('synchronous_commit') <> 'off' AS synchronous_commit,
           NOT pg_is_in_recovery() AND current_setting('transaction_read_only') = 'off' AS writable,
           (SELECT bool_and(has_table_privilege(name, 'SELECT') AND has_table_privilege(name, 'INSERT'))
            FROM unnest(ARRAY['ingestion_sources', 'raw_events', 'processed_records', 'conflicts', 'settlements',
                              'receipts']) AS name)
           AND has_sequence_privilege('ledger_id_blocks', 'USAGE') AS granted,
           (SELECT version_num FROM alembic_version) AS revision,
           {LEDGER_EPOCH} AS epoch
"""  # noqa: S608 - parts of our own statement
