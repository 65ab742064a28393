"""What the gateway reads, for tests."""

from datetime import UTC, datetime, timedelta

import msgspec

from shared.contracts.audit import AuditLine
from shared.contracts.event import identify
from shared.contracts.record import Record

MOMENT = datetime(2026, 11, 23, 8, tzinfo=UTC)


def record(number: int, payload: bytes = b"{}", source: str = "s") -> Record:
    """Return the record of event `number` of a source; two share each second."""
    return Record(
        id=number,
        raw_event_id=number,
        event_id=identify(source, str(number)),
        source=source,
        channel="http",
        status="SUCCESS",
        attempt=1,
        result_payload=msgspec.Raw(payload),
        errors=(),
        idempotency_key=str(number),
        type=None,
        occurred_at=None,
        received_at=MOMENT,
        processed_at=MOMENT + timedelta(seconds=number // 2),
    )


def audit_line(source: str) -> AuditLine:
    """Return the audit line of a source, all zeros."""
    numbers = dict.fromkeys(
        ("received", "stored", "duplicate", "conflict", "refused", "queued", "unknown", "events", "success", "failed",
         "settled_duplicate", "settled_conflict", "unlisted", "unconfirmed"),
        0,
    )  # fmt: skip
    return AuditLine(source=source, channel="http", moved_at=MOMENT, **numbers)
