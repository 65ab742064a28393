"""docs/pipeline.schema.json is the schema that the model makes."""

import sys
from pathlib import Path

from shared.pipelines.document.schema_file import schema_text

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

import generate_pipeline_schema  # noqa: E402 - found on the path that is added above


def test_the_schema_of_pipeline_files_is_current() -> None:
    """Run `python tools/generate_pipeline_schema.py` where this fails."""
    assert generate_pipeline_schema.TARGET.read_bytes() == schema_text()
