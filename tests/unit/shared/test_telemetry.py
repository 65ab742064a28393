"""A line of the log is JSON, whatever a field holds."""

import msgspec
import structlog

from shared.telemetry import escape_surrogates


def test_a_name_that_is_no_text_is_written_out() -> None:
    fields = escape_surrogates(None, "info", {"file": "\udcff\udcfe é.json", "rows": 1})

    line = structlog.processors.JSONRenderer()(None, "info", fields)

    assert msgspec.json.decode(line) == {"file": "\\udcff\\udcfe é.json", "rows": 1}
