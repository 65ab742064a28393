"""A settlement is named by its channel too: two services may accept one event in the same microsecond."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE settlements DROP CONSTRAINT settlements_pkey")
    op.execute("ALTER TABLE settlements ADD PRIMARY KEY (event_id, received_at, channel)")
    op.execute("COMMENT ON COLUMN settlements.received_at IS 'with the channel: tells this acceptance from any other'")


def downgrade() -> None:
    raise NotImplementedError("a ledger is not taken back; restore a backup instead")
