"""Events for tests."""

from shared.contracts.event import Channel, Envelope, identify, now


def event(
    body: bytes = b'{"value": 1}', *, key: str = "", source: str = "test", content_type: str = "application/json"
) -> Envelope:
    """Return an envelope as an edge service would make it."""
    return Envelope(
        event_id=identify(source, key),
        source=source,
        channel=Channel.HTTP,
        received_at=now(),
        body=body,
        idempotency_key=key,
        content_type=content_type,
    )
