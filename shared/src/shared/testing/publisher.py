"""The publisher's twin: a quorum queue in memory."""

from shared.contracts.errors import RetryableError
from shared.contracts.event import Envelope
from shared.wire import decode_batch


class FakePublisher:
    """Implements `shared.messaging.publisher.BatchPublisher`; keeps what was confirmed."""

    def __init__(self) -> None:
        """An empty queue."""
        self.messages: list[bytes] = []
        self.fault: RetryableError | None = None
        """Raised by every publish, which then took nothing, while it is set: away, overloaded or unknown."""

    @property
    def events(self) -> list[Envelope]:
        """The events of every confirmed message, in order."""
        return [event for message in self.messages for event in decode_batch(message)]

    async def publish_batch(self, body: bytes) -> None:
        """See `BatchPublisher`."""
        if self.fault is not None:
            raise self.fault
        self.messages.append(body)
