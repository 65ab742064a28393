"""Who sent an event, and whether its key was derived; a view that shows every event, whatever its body holds."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# Columns that may be null are added without reading or writing a row.
_COLUMNS = """
ALTER TABLE raw_events ADD COLUMN derived boolean, ADD COLUMN sender text;
COMMENT ON COLUMN raw_events.idempotency_key IS 'the id its producer gave, or the one that was derived; null: none';
COMMENT ON COLUMN raw_events.derived
    IS 'the key was derived of what came; null: its producer gave it, or there is none';
COMMENT ON COLUMN raw_events.sender IS 'who sent it: an API key''s name, a broker''s user; null: nobody was asked';
ALTER TABLE conflicts ADD COLUMN sender text;
COMMENT ON COLUMN conflicts.sender IS 'who sent it, as in raw_events';
"""

# What was stored under keys that had no name space of their own yet is asked for only where there can be any.
_UPGRADES = """
CREATE TABLE upgrades (
    revision text PRIMARY KEY,
    had_events boolean NOT NULL,
    upgraded_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE upgrades IS 'What the ledger was when a migration came to it.';
COMMENT ON COLUMN upgrades.revision IS 'the migration';
COMMENT ON COLUMN upgrades.had_events IS 'it held events already';
INSERT INTO upgrades (revision, had_events) SELECT '0003', EXISTS (SELECT FROM raw_events);
GRANT SELECT ON upgrades TO etlpay_processor, etlpay_reader;
"""

# One event whose body is no jsonb, such as one with a number that PostgreSQL cannot hold, must not hide the others.
_VIEW = """
CREATE OR REPLACE VIEW events AS
SELECT raw.id AS raw_event_id, raw.event_id, source.name AS source, raw.idempotency_key,
       CASE raw.channel WHEN 1 THEN 'http' WHEN 2 THEN 'grpc' WHEN 3 THEN 'file' WHEN 4 THEN 'queue' END AS channel,
       raw.type, raw.occurred_at, raw.received_at, raw.stored_at, raw.content_type, raw.origin, raw.body,
       record.id AS record_id, record.attempt, record.processed_at,
       CASE record.status WHEN 1 THEN 'SUCCESS' WHEN 2 THEN 'FAILED' END AS status,
       CASE WHEN record.result_payload IS NOT NULL THEN record.result_payload
            WHEN record.status = 1 AND pg_input_is_valid(convert_from(raw.body, 'UTF8'), 'jsonb')
            THEN convert_from(raw.body, 'UTF8')::jsonb END AS payload,
       record.errors, coalesce(raw.derived, false) AS derived, raw.sender
FROM raw_events AS raw
JOIN ingestion_sources AS source ON source.id = raw.source_id
JOIN processed_records AS record ON record.raw_event_id = raw.id;
COMMENT ON VIEW events IS
    'Each event with its record; payload is the result, or the body where they are equal, or null: neither is jsonb.';
"""


def upgrade() -> None:
    for statements in (_COLUMNS, _UPGRADES, _VIEW):
        for statement in statements.split(";\n"):
            if statement.strip():
                op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("a ledger is not taken back; restore a backup instead")
