"""The ledger: sources, raw events, records, conflicts, the audit's books, the view `events`, and who may do what."""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_TABLES = """
CREATE TABLE ingestion_sources (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE,
    created_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE ingestion_sources IS 'Who produced events; a row appears with the first event of a source.';

-- Ids are taken in blocks of a thousand: number n stands for the ids from 1000 (n - 1) + 1 to 1000 n.
CREATE SEQUENCE ledger_id_blocks;

CREATE TABLE raw_events (
    id bigint PRIMARY KEY,
    event_id uuid NOT NULL UNIQUE,
    source_id integer NOT NULL REFERENCES ingestion_sources (id),
    idempotency_key text,
    channel smallint NOT NULL,
    type text,
    occurred_at timestamptz,
    received_at timestamptz NOT NULL,
    stored_at timestamptz NOT NULL DEFAULT now(),
    content_type text NOT NULL,
    origin text,
    body bytea NOT NULL
);
COMMENT ON TABLE raw_events IS 'Every accepted event, once, byte for byte.';
COMMENT ON COLUMN raw_events.event_id IS 'derived from (source, idempotency key), or UUIDv7';
COMMENT ON COLUMN raw_events.idempotency_key IS 'the id its producer gave; null: none';
COMMENT ON COLUMN raw_events.channel IS '1 http, 2 grpc, 3 file, 4 queue';
COMMENT ON COLUMN raw_events.origin IS 'where it came from within the channel, such as a file and a row';
COMMENT ON COLUMN raw_events.body IS 'the received bytes';

CREATE TABLE processed_records (
    id bigint PRIMARY KEY,
    raw_event_id bigint NOT NULL REFERENCES raw_events (id),
    source_id integer NOT NULL,
    channel smallint NOT NULL,
    status smallint NOT NULL,
    attempt smallint NOT NULL DEFAULT 1,
    result_payload jsonb,
    errors jsonb,
    processed_at timestamptz NOT NULL
);
COMMENT ON TABLE processed_records IS 'What processing made of each raw event.';
COMMENT ON COLUMN processed_records.id IS 'one series with the ids of raw events; a first record has its event''s';
COMMENT ON COLUMN processed_records.source_id IS 'of the raw event, for the queries below';
COMMENT ON COLUMN processed_records.channel IS 'of the raw event';
COMMENT ON COLUMN processed_records.status IS '1 SUCCESS, 2 FAILED';
COMMENT ON COLUMN processed_records.result_payload IS 'null: SUCCESS equal to the body, or FAILED';
COMMENT ON COLUMN processed_records.errors IS '[{pointer, detail}] of a FAILED record';

CREATE TABLE conflicts (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    raw_event_id bigint NOT NULL REFERENCES raw_events (id),
    channel smallint NOT NULL,
    received_at timestamptz NOT NULL,
    content_type text NOT NULL,
    origin text,
    body bytea NOT NULL,
    body_sha256 bytea NOT NULL,
    UNIQUE (raw_event_id, body_sha256)
);
COMMENT ON TABLE conflicts IS 'Same (source, id), other content: kept for inspection, never stored over the first.';
COMMENT ON COLUMN conflicts.raw_event_id IS 'the event stored first';
COMMENT ON COLUMN conflicts.body IS 'the received bytes';
"""

_BOOKS = """
CREATE TABLE settlements (
    event_id uuid NOT NULL,
    received_at timestamptz NOT NULL,
    source_id integer NOT NULL,
    channel smallint NOT NULL,
    disposition smallint NOT NULL,
    PRIMARY KEY (event_id, received_at)
);
COMMENT ON TABLE settlements IS 'What was acknowledged before it turned out to be stored already.';
COMMENT ON COLUMN settlements.event_id IS 'of the event that was stored first';
COMMENT ON COLUMN settlements.received_at IS 'tells this acceptance from any other';
COMMENT ON COLUMN settlements.disposition IS '2 duplicate, 3 conflict';

CREATE TABLE receipts (
    instance uuid NOT NULL,
    number bigint NOT NULL,
    source text NOT NULL,
    channel smallint NOT NULL,
    hour timestamptz NOT NULL,
    service text NOT NULL,
    reported_at timestamptz NOT NULL DEFAULT now(),
    stored bigint NOT NULL,
    duplicate bigint NOT NULL,
    conflict bigint NOT NULL,
    refused bigint NOT NULL,
    queued bigint NOT NULL,
    unknown bigint NOT NULL,
    PRIMARY KEY (instance, number, source, channel, hour)
);
COMMENT ON TABLE receipts IS 'How edge services answered, in portions; etlpay audit compares it with what is stored.';
COMMENT ON COLUMN receipts.instance IS 'the process that counted';
COMMENT ON COLUMN receipts.number IS 'of its receipts, from 1';
COMMENT ON COLUMN receipts.source IS 'empty: unreadable; *: sources beyond the limit, together';
COMMENT ON COLUMN receipts.hour IS 'the hour of received_at';
"""

_INDEXES = """
-- GET /api/events/{event_id}: the record of a raw event
CREATE UNIQUE INDEX processed_records_of_event ON processed_records (raw_event_id, attempt);
-- GET /api/processed-records: newest first, with a time range
CREATE INDEX processed_records_by_time ON processed_records (processed_at, id);
-- GET /api/processed-records?source=: newest first of one source
CREATE INDEX processed_records_by_source ON processed_records (source_id, processed_at, id);
-- GET /api/processed-records?status=FAILED: the few among the many
CREATE INDEX processed_records_failed ON processed_records (processed_at, id) WHERE status = 2;
-- GET /api/audit: what arrived, and was answered, in one hour
CREATE INDEX raw_events_by_arrival ON raw_events USING brin (received_at) WITH (autosummarize = true);
CREATE INDEX settlements_by_arrival ON settlements USING brin (received_at) WITH (autosummarize = true);
CREATE INDEX receipts_by_hour ON receipts (hour);
"""

_VIEW = """
CREATE VIEW events AS
SELECT raw.id AS raw_event_id, raw.event_id, source.name AS source, raw.idempotency_key,
       CASE raw.channel WHEN 1 THEN 'http' WHEN 2 THEN 'grpc' WHEN 3 THEN 'file' WHEN 4 THEN 'queue' END AS channel,
       raw.type, raw.occurred_at, raw.received_at, raw.stored_at, raw.content_type, raw.origin, raw.body,
       record.id AS record_id, record.attempt, record.processed_at,
       CASE record.status WHEN 1 THEN 'SUCCESS' WHEN 2 THEN 'FAILED' END AS status,
       CASE WHEN record.result_payload IS NOT NULL THEN record.result_payload
            WHEN record.status = 1 THEN convert_from(raw.body, 'UTF8')::jsonb END AS payload,
       record.errors
FROM raw_events AS raw
JOIN ingestion_sources AS source ON source.id = raw.source_id
JOIN processed_records AS record ON record.raw_event_id = raw.id;
COMMENT ON VIEW events IS 'Each event with its record; payload is the result, or the body where they are equal.';
"""

# The ledger is appended to and read; nobody but its owner changes or deletes.
_GRANTS = """
GRANT USAGE ON SCHEMA public TO etlpay_processor, etlpay_reader;
GRANT SELECT, INSERT ON ingestion_sources, raw_events, processed_records, conflicts, settlements, receipts
    TO etlpay_processor;
GRANT USAGE ON SEQUENCE ledger_id_blocks TO etlpay_processor;
GRANT SELECT ON alembic_version TO etlpay_processor;
GRANT SELECT ON ingestion_sources, raw_events, processed_records, conflicts, settlements, receipts, events,
    alembic_version TO etlpay_reader;
ALTER ROLE etlpay_reader SET default_transaction_read_only = on;
"""


def upgrade() -> None:
    for statements in (_TABLES, _BOOKS, _INDEXES, _VIEW, _GRANTS):
        for statement in statements.split(";\n"):
            if statement.strip():
                op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("a ledger is not taken back; restore a backup instead")
