"""The media types that several services read. Those of CSV rows are in `csv_row`."""

from typing import Final

JSON: Final = "application/json"
JSON_LINES: Final = frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl"})
"""One JSON document a line, by its usual names."""
