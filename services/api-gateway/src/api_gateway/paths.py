"""The paths that several rooms name."""

from typing import Final

API_PREFIX: Final = "/api/"
INGEST_PATH: Final = "/api/ingest"
BATCH_PATH: Final = "/api/ingest/batch"
