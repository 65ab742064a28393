"""The names of the PostgreSQL roles."""

from typing import Final

OWNER_ROLE: Final = "etlpay_owner"
"""Owns the schema and migrates it."""
PROCESSOR_ROLE: Final = "etlpay_processor"
"""Appends to the ledger and reads it; writes the rows of typed tables."""
PIPELINES_ROLE: Final = "etlpay_pipelines"
"""Owns the schemas `rows` and `data`, and registers versions of pipelines."""
READER_ROLE: Final = "etlpay_reader"
"""Reads the ledger and the typed tables."""
ANALYST_ROLE: Final = "etlpay_analyst"
"""Reads the views of schema `data`, and never a raw body. Nobody logs in as it: it is granted to people's roles."""
