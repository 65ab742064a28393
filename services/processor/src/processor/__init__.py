"""The processor: the only service that writes to PostgreSQL."""
