"""The schema of the ledger as SQLAlchemy tables. Only migrations and tests import it: running services do not."""
