"""Every statement that the processor sends to the ledger. A batch travels as arrays: one statement for any size."""

from typing import Final

from sqlalchemy import text

ADD_SOURCES: Final = text(
    "INSERT INTO ingestion_sources (name) SELECT unnest(CAST(:names AS text[])) ON CONFLICT (name) DO NOTHING"
)
FIND_SOURCES: Final = text("SELECT name, id FROM ingestion_sources WHERE name = ANY(CAST(:names AS text[]))")

# The sequence counts blocks of ids, not ids: see ids.py.
NEXT_ID_BLOCKS: Final = text("SELECT nextval('ledger_id_blocks') FROM generate_series(1, CAST(:blocks AS int))")

# The raw event and its record in one statement; of an event id that is there already, neither. Returns the ids that
# are new. The first record of an event has the event's own id.
ADD_EVENTS: Final = text(
    """
    WITH input AS (
        SELECT * FROM unnest(
            CAST(:id AS bigint[]), CAST(:event_id AS uuid[]), CAST(:source_id AS int[]),
            CAST(:idempotency_key AS text[]), CAST(:channel AS smallint[]), CAST(:type AS text[]),
            CAST(:occurred_at AS timestamptz[]), CAST(:received_at AS timestamptz[]), CAST(:content_type AS text[]),
            CAST(:origin AS text[]), CAST(:body AS bytea[]), CAST(:status AS smallint[]), CAST(:result AS text[]),
            CAST(:errors AS text[])
        ) AS columns (id, event_id, source_id, idempotency_key, channel, type, occurred_at, received_at, content_type,
                      origin, body, status, result, errors)
    ), stored AS (
        INSERT INTO raw_events (id, event_id, source_id, idempotency_key, channel, type, occurred_at, received_at,
                                content_type, origin, body)
        SELECT id, event_id, source_id, idempotency_key, channel, type, occurred_at, received_at, content_type, origin,
               body
        FROM input
        ON CONFLICT (event_id) DO NOTHING
        RETURNING id
    )
    INSERT INTO processed_records (id, raw_event_id, source_id, channel, status, result_payload, errors, processed_at)
    SELECT id, id, source_id, channel, status, CAST(result AS jsonb), CAST(errors AS jsonb), :processed_at
    FROM input JOIN stored USING (id)
    RETURNING id
    """
)

FIND_FIRSTS: Final = text(
    """
    SELECT raw.event_id, raw.id AS raw_event_id, raw.received_at, raw.content_type, raw.body, record.id AS record_id,
           record.status, CAST(record.result_payload AS text) AS result, CAST(record.errors AS text) AS errors,
           record.processed_at
    FROM raw_events AS raw JOIN processed_records AS record ON record.raw_event_id = raw.id AND record.attempt = 1
    WHERE raw.event_id = ANY(CAST(:event_ids AS uuid[]))
    """
)

ADD_CONFLICTS: Final = text(
    """
    INSERT INTO conflicts (raw_event_id, channel, received_at, content_type, origin, body, body_sha256)
    SELECT * FROM unnest(
        CAST(:raw_event_id AS bigint[]), CAST(:channel AS smallint[]), CAST(:received_at AS timestamptz[]),
        CAST(:content_type AS text[]), CAST(:origin AS text[]), CAST(:body AS bytea[]), CAST(:body_sha256 AS bytea[]))
    ON CONFLICT (raw_event_id, body_sha256) DO NOTHING
    """
)

# One row for each acceptance: a message that is delivered again settles nothing anew.
ADD_SETTLEMENTS: Final = text(
    """
    INSERT INTO settlements (event_id, received_at, source_id, channel, disposition)
    SELECT * FROM unnest(
        CAST(:event_id AS uuid[]), CAST(:received_at AS timestamptz[]), CAST(:source_id AS int[]),
        CAST(:channel AS smallint[]), CAST(:disposition AS smallint[]))
    ON CONFLICT (event_id, received_at) DO NOTHING
    """
)

ADD_RECEIPT: Final = text(
    """
    INSERT INTO receipts (instance, number, service, source, channel, hour, stored, duplicate, conflict, refused,
                          queued, unknown)
    SELECT :instance, :number, :service, columns.* FROM unnest(
        CAST(:source AS text[]), CAST(:channel AS smallint[]), CAST(:hour AS timestamptz[]), CAST(:stored AS bigint[]),
        CAST(:duplicate AS bigint[]), CAST(:conflict AS bigint[]), CAST(:refused AS bigint[]),
        CAST(:queued AS bigint[]), CAST(:unknown AS bigint[])
    ) AS columns
    ON CONFLICT (instance, number, source, channel, hour) DO NOTHING
    """
)

CHECK_LEDGER: Final = text(
    """
    SELECT current_setting('fsync') = 'on' AS fsync,
           current_setting('synchronous_commit') <> 'off' AS synchronous_commit,
           NOT pg_is_in_recovery() AND current_setting('transaction_read_only') = 'off' AS writable,
           (SELECT version_num FROM alembic_version) AS revision
    """
)
