"""Alembic's entry: runs the migrations on the connection that `processor.migrate` opened."""

from alembic import context

from shared.models import ledger, pipelines  # noqa: F401 - they describe the tables
from shared.models.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
