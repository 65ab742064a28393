"""The ledger in PostgreSQL: connections, statements, and the store that writes each event once."""
