"""What events hold that no pipeline reads, counted by version, hour and place."""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_TABLE = """
CREATE TABLE drifts (
    pipeline_id integer NOT NULL,
    hour timestamptz NOT NULL,
    kind smallint NOT NULL,
    place text NOT NULL,
    instance uuid NOT NULL,
    number bigint NOT NULL,
    events bigint NOT NULL,
    example bigint NOT NULL,
    PRIMARY KEY (pipeline_id, hour, kind, place, instance)
);
COMMENT ON TABLE drifts
    IS 'What events held that the version of their pipeline does not read; a report, without values.';
COMMENT ON COLUMN drifts.hour IS 'of arrival';
COMMENT ON COLUMN drifts.kind IS '1 unknown type, 2 unknown member';
COMMENT ON COLUMN drifts.place
    IS 'a JSON Pointer, cut; empty: the event; *: those beyond what a process counts apart';
COMMENT ON COLUMN drifts.instance IS 'the process that counted';
COMMENT ON COLUMN drifts.number IS 'of the newest portion of that process which is in events';
COMMENT ON COLUMN drifts.example IS 'the id of a raw event';
"""

# A portion is added to the row of its process: a row for each portion would be 360 an hour and place.
_GRANTS = """
GRANT SELECT, INSERT, UPDATE ON drifts TO etlpay_processor;
GRANT SELECT ON drifts TO etlpay_reader;
"""


def upgrade() -> None:
    for statements in (_TABLE, _GRANTS):
        for statement in statements.split(";\n"):
            if statement.strip():
                op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("a ledger is not taken back; restore a backup instead")
