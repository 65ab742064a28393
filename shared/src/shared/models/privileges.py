"""What the migrations grant, by role, then by table or view."""

from typing import Final

from shared.contracts.roles import PIPELINES_ROLE, PROCESSOR_ROLE, READER_ROLE
from shared.models import ledger, pipelines
from shared.models.tables import metadata

_READ: Final = {"SELECT"}
_APPEND: Final = {"SELECT", "INSERT"}

# Nobody but the owner changes or deletes what the ledger holds.
PRIVILEGES: Final = {
    PROCESSOR_ROLE: {
        **{table.name: _APPEND for table in metadata.sorted_tables},
        # Of a series the newest receipt replaces the one before: a row for each would be more than the receipts.
        ledger.receipt_series.name: {"SELECT", "INSERT", "UPDATE"},
        # Counts are added to the row of a process, for the same reason.
        pipelines.drifts.name: {"SELECT", "INSERT", "UPDATE"},
        ledger.upgrades.name: _READ,
        pipelines.pipelines.name: _READ,
        pipelines.pipeline_states.name: _READ,
        "alembic_version": _READ,
    },
    READER_ROLE: dict.fromkeys((*metadata.tables, "events", "alembic_version"), _READ),
    PIPELINES_ROLE: {
        **dict.fromkeys(("ingestion_sources", "raw_events", "processed_records", "feed", "events", "causes"), _READ),
        **{table.name: _APPEND for table in (pipelines.pipelines, pipelines.pipeline_states, pipelines.pipeline_holds)},
        "alembic_version": _READ,
    },
}
"""The privileges on the ledger. Those on typed tables come by default privileges of the schemas `rows` and `data`."""
