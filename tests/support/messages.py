"""Foreign messages, mapped as queue-consumer does."""

from datetime import UTC, datetime
from typing import Any

from queue_consumer.mapping import MappingOptions, to_envelopes
from queue_consumer.message import Message
from shared.contracts.event import Envelope

NOW = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)
OPTIONS = MappingOptions(queue="etl-queue", default_source="queue", message_events_max=100)


def events(body: bytes, headers: dict[str, Any] | None = None, **message: Any) -> list[Envelope]:  # noqa: ANN401 - any field
    """Return the events of a message with these headers and properties."""
    return to_envelopes(Message(body=body, headers=headers or {}, **message), options=OPTIONS, received_at=NOW)
