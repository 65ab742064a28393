"""The feed: which records each transaction stored, so that a reader who follows the commits misses none."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_TABLE = """
CREATE TABLE feed (
    xid bigint NOT NULL,
    first_id bigint NOT NULL,
    last_id bigint NOT NULL,
    stored_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (xid, first_id)
);
COMMENT ON TABLE feed IS 'Which records each transaction stored; a trigger of processed_records writes it.';
COMMENT ON COLUMN feed.xid IS 'the transaction, as pg_current_xact_id counts them';
COMMENT ON COLUMN feed.first_id IS 'of its records; those from here to last_id, which may be more than its own';
COMMENT ON COLUMN feed.stored_at IS 'tells the transaction from one that had its number before a restore'
"""

# Ids are taken in blocks of a thousand, each by one process. So a row for each block names no records of others.
_FUNCTION = """
CREATE FUNCTION add_to_feed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO public.feed (xid, first_id, last_id)
    SELECT pg_current_xact_id()::text::bigint, min(id), max(id) FROM new_records GROUP BY (id - 1) / 1000;
    RETURN NULL;
END $$
"""

# The lock of the trigger waits for whoever writes and holds up who comes then, so what was stored without a row of the
# feed is all there, and gets its row before the next.
_TRIGGER = """
CREATE TRIGGER processed_records_to_feed AFTER INSERT ON processed_records
REFERENCING NEW TABLE AS new_records FOR EACH STATEMENT EXECUTE FUNCTION add_to_feed()
"""
_FIRST_ROW = """
INSERT INTO feed (xid, first_id, last_id)
SELECT pg_current_xact_id()::text::bigint, min(id), max(id) FROM processed_records HAVING min(id) IS NOT NULL
"""

_GRANTS = """
GRANT SELECT, INSERT ON feed TO etlpay_processor;
GRANT SELECT ON feed TO etlpay_reader, etlpay_pipelines
"""


def upgrade() -> None:
    for statements in (_TABLE, _GRANTS):
        for statement in statements.split(";\n"):
            op.execute(statement)
    for statement in (_FUNCTION, _TRIGGER, _FIRST_ROW):
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("a ledger is not taken back; restore a backup instead")
