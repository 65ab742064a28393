"""What the audit needs so as never to net: how far each process told, and which acceptances nobody confirmed."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_COLUMN = """
ALTER TABLE receipts ADD COLUMN unlisted bigint;
COMMENT ON COLUMN receipts.unlisted
    IS 'of unknown: may be stored, and are not listed in unconfirmed; null: nothing was listed, so all of them';
"""

_SERIES = """
CREATE TABLE receipt_series (
    instance uuid PRIMARY KEY,
    service text NOT NULL,
    channel smallint NOT NULL,
    interval_seconds double precision NOT NULL,
    numbers int8multirange NOT NULL,
    number bigint NOT NULL,
    open_since timestamptz NOT NULL,
    taken_at timestamptz NOT NULL,
    closed boolean NOT NULL,
    reported_at timestamptz NOT NULL
);
COMMENT ON TABLE receipt_series IS 'The receipts of one process: how far they have come, and whether they ended.';
COMMENT ON COLUMN receipt_series.numbers IS 'of the receipts that are here';
COMMENT ON COLUMN receipt_series.number IS 'of the newest; the next columns are from it';
COMMENT ON COLUMN receipt_series.open_since IS 'what came in before is counted; by the clock of the process';
COMMENT ON COLUMN receipt_series.taken_at IS 'when it was counted; by the clock of the process';
COMMENT ON COLUMN receipt_series.closed IS 'the process ended in order, and counted everything';

CREATE TABLE receipt_gaps (
    instance uuid NOT NULL,
    numbers int8range NOT NULL,
    since timestamptz NOT NULL,
    until timestamptz NOT NULL,
    PRIMARY KEY (instance, numbers)
);
COMMENT ON TABLE receipt_gaps IS 'Receipts that were not here when a later one came; they may have come since.';
COMMENT ON COLUMN receipt_gaps.since IS 'what they count came in from here on';

CREATE TABLE unconfirmed (
    event_id uuid NOT NULL,
    received_at timestamptz NOT NULL,
    channel smallint NOT NULL,
    PRIMARY KEY (event_id, received_at, channel)
);
COMMENT ON TABLE unconfirmed IS 'Acceptances that were handed over and never confirmed: in the ledger or not.';
CREATE INDEX unconfirmed_by_arrival ON unconfirmed USING brin (received_at) WITH (autosummarize = true);
"""

# A series is the one thing here that changes: a row for each receipt would be more than the receipts.
_GRANTS = """
GRANT SELECT, INSERT ON receipt_series, receipt_gaps, unconfirmed TO etlpay_processor;
GRANT UPDATE ON receipt_series TO etlpay_processor;
GRANT SELECT ON receipt_series, receipt_gaps, unconfirmed TO etlpay_reader;
"""


def upgrade() -> None:
    for statements in (_COLUMN, _SERIES, _GRANTS):
        for statement in statements.split(";\n"):
            if statement.strip():
                op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("a ledger is not taken back; restore a backup instead")
