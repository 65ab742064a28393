"""The moment of the file that an event came in: of two editions of a file it says which is the later one."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

# A column that may be null is added without reading or writing a row.
_COLUMN = """
ALTER TABLE raw_events ADD COLUMN file_at timestamptz;
COMMENT ON COLUMN raw_events.file_at
    IS 'when its file was claimed, one moment for all its rows; null: it is of no file, or stored by the code before';
"""

_VIEW = """
CREATE OR REPLACE VIEW events AS
SELECT raw.id AS raw_event_id, raw.event_id, source.name AS source, raw.idempotency_key,
       CASE raw.channel WHEN 1 THEN 'http' WHEN 2 THEN 'grpc' WHEN 3 THEN 'file' WHEN 4 THEN 'queue' END AS channel,
       raw.type, raw.occurred_at, raw.received_at, raw.stored_at, raw.content_type, raw.origin, raw.body,
       record.id AS record_id, record.attempt, record.processed_at,
       CASE record.status WHEN 1 THEN 'SUCCESS' WHEN 2 THEN 'FAILED' WHEN 3 THEN 'HELD' END AS status,
       CASE WHEN record.result_payload IS NOT NULL THEN record.result_payload
            WHEN record.status <> 1 OR raw.content_type LIKE 'text/csv%' THEN NULL
            WHEN pg_input_is_valid(convert_from(raw.body, 'UTF8'), 'jsonb')
            THEN convert_from(raw.body, 'UTF8')::jsonb END AS payload,
       record.errors, coalesce(raw.derived, false) AS derived, raw.sender,
       pipeline.name AS pipeline, pipeline.version AS pipeline_version, record.row_count,
       cause.name AS cause, raw.subject, raw.file_at
FROM raw_events AS raw
JOIN ingestion_sources AS source ON source.id = raw.source_id
JOIN processed_records AS record ON record.raw_event_id = raw.id
LEFT JOIN pipelines AS pipeline ON pipeline.id = record.pipeline_id
LEFT JOIN causes AS cause ON cause.id = record.cause_id
WHERE NOT EXISTS (
    SELECT FROM processed_records AS better
    WHERE better.raw_event_id = record.raw_event_id
      AND (better.status = 1, better.attempt) > (record.status = 1, record.attempt));
"""


def upgrade() -> None:
    for statements in (_COLUMN, _VIEW):
        for statement in statements.split(";\n"):
            if statement.strip():
                op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("a ledger is not taken back; restore a backup instead")
