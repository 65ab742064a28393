"""Pipelines: their versions, which are active or held, the causes of failures, and the schemas of typed tables."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

# Columns that may be null are added without reading or writing a row.
_COLUMNS = """
ALTER TABLE raw_events ADD COLUMN subject text;
COMMENT ON COLUMN raw_events.subject IS 'keyed hash of the person whom it is about, where its pipeline names one';
ALTER TABLE processed_records ADD COLUMN pipeline_id integer, ADD COLUMN row_count integer, ADD COLUMN cause_id integer;
COMMENT ON COLUMN processed_records.status IS '1 SUCCESS, 2 FAILED, 3 HELD';
COMMENT ON COLUMN processed_records.result_payload
    IS 'null: SUCCESS equal to the body or kept as rows, or FAILED, or HELD';
COMMENT ON COLUMN processed_records.errors
    IS '[{pointer, detail, code}] of a FAILED record; of a SUCCESS: what was odd';
COMMENT ON COLUMN processed_records.pipeline_id IS 'the version that made it; null: none';
COMMENT ON COLUMN processed_records.row_count IS 'rows of typed tables that it made; null: no pipeline';
COMMENT ON COLUMN processed_records.cause_id IS 'why it is FAILED or HELD; null: SUCCESS, or stored by the code before';
"""

_TABLES = """
CREATE TABLE causes (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE,
    created_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE causes IS 'Why records failed, such as stripe.payments.amount:type; without versions and indexes.';

CREATE TABLE pipelines (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL,
    version integer NOT NULL,
    sha256 bytea NOT NULL,
    content bytea NOT NULL,
    generations jsonb NOT NULL,
    label text,
    registered_at timestamptz NOT NULL DEFAULT now(),
    registered_by text NOT NULL,
    UNIQUE (name, version),
    UNIQUE (name, sha256)
);
COMMENT ON TABLE pipelines IS 'Every version of every pipeline, for ever.';
COMMENT ON COLUMN pipelines.sha256 IS 'of content; the same content is the same version';
COMMENT ON COLUMN pipelines.content IS 'its files and what else decides a result, as canonical JSON';
COMMENT ON COLUMN pipelines.generations IS 'the number of the table in schema rows, by table: {"payments": 1}';
COMMENT ON COLUMN pipelines.label IS 'what its author calls it, such as a commit';

CREATE TABLE pipeline_states (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL,
    pipeline_id integer REFERENCES pipelines (id),
    state smallint NOT NULL,
    pinned boolean NOT NULL DEFAULT false,
    set_at timestamptz NOT NULL DEFAULT now(),
    set_by text NOT NULL,
    reason text NOT NULL
);
COMMENT ON TABLE pipeline_states IS 'Which version of a pipeline is active; the last row of a name counts.';
COMMENT ON COLUMN pipeline_states.state IS '1 active, 2 candidate, 3 off';
COMMENT ON COLUMN pipeline_states.pinned
    IS 'somebody chose this version: applying what is registered already changes nothing';

CREATE TABLE pipeline_holds (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL,
    held boolean NOT NULL,
    set_at timestamptz NOT NULL DEFAULT now(),
    set_by text NOT NULL,
    reason text NOT NULL
);
COMMENT ON TABLE pipeline_holds
    IS 'Whether the events of a pipeline are kept and not processed; the last row of a name counts.';
COMMENT ON COLUMN pipeline_holds.set_by IS 'processor: by itself, and ended by itself';
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
       cause.name AS cause, raw.subject
FROM raw_events AS raw
JOIN ingestion_sources AS source ON source.id = raw.source_id
JOIN processed_records AS record ON record.raw_event_id = raw.id
LEFT JOIN pipelines AS pipeline ON pipeline.id = record.pipeline_id
LEFT JOIN causes AS cause ON cause.id = record.cause_id
WHERE NOT EXISTS (
    SELECT FROM processed_records AS better
    WHERE better.raw_event_id = record.raw_event_id
      AND (better.status = 1, better.attempt) > (record.status = 1, record.attempt));
COMMENT ON VIEW events IS
    'Each event with its current record: its latest SUCCESS, else its latest. payload: result, or body, or null.';
"""

# Typed rows are made of the ledger, so the processor may change and delete them. It cannot create a table.
_SCHEMAS = """
CREATE SCHEMA rows AUTHORIZATION etlpay_pipelines;
CREATE SCHEMA data AUTHORIZATION etlpay_pipelines;
COMMENT ON SCHEMA rows IS 'The rows of typed tables, by generation; the processor writes them.';
COMMENT ON SCHEMA data IS 'Views of the typed tables, for people.';
GRANT USAGE ON SCHEMA rows TO etlpay_processor, etlpay_reader;
GRANT USAGE ON SCHEMA data TO etlpay_reader, etlpay_analyst;
ALTER DEFAULT PRIVILEGES FOR ROLE etlpay_pipelines IN SCHEMA rows
    GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO etlpay_processor;
ALTER DEFAULT PRIVILEGES FOR ROLE etlpay_pipelines IN SCHEMA rows GRANT SELECT ON TABLES TO etlpay_reader;
ALTER DEFAULT PRIVILEGES FOR ROLE etlpay_pipelines IN SCHEMA data
    GRANT SELECT ON TABLES TO etlpay_reader, etlpay_analyst;
"""

_GRANTS = """
GRANT SELECT, INSERT ON causes, pipeline_holds TO etlpay_processor;
GRANT SELECT ON pipelines, pipeline_states TO etlpay_processor;
GRANT SELECT ON causes, pipelines, pipeline_states, pipeline_holds TO etlpay_reader;
GRANT USAGE ON SCHEMA public TO etlpay_pipelines;
GRANT SELECT ON ingestion_sources, raw_events, processed_records, events, causes, alembic_version TO etlpay_pipelines;
GRANT SELECT, INSERT ON pipelines, pipeline_states, pipeline_holds TO etlpay_pipelines;
"""


def upgrade() -> None:
    for statements in (_COLUMNS, _TABLES, _VIEW, _SCHEMAS, _GRANTS):
        for statement in statements.split(";\n"):
            if statement.strip():
                op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("a ledger is not taken back; restore a backup instead")
