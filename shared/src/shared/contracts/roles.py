"""The names of the PostgreSQL roles."""

from typing import Final

OWNER_ROLE: Final = "etlpay_owner"
"""Owns the schema and migrates it."""
PROCESSOR_ROLE: Final = "etlpay_processor"
"""Appends to the ledger and reads it."""
READER_ROLE: Final = "etlpay_reader"
"""Reads the ledger."""
