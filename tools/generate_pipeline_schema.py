"""Writes docs/pipeline.schema.json: the JSON Schema of pipeline files, for editors."""

from pathlib import Path
from typing import Final

from shared.pipelines.document.schema_file import schema_text

TARGET: Final = Path(__file__).resolve().parents[1] / "docs" / "pipeline.schema.json"


if __name__ == "__main__":
    TARGET.write_bytes(schema_text())
