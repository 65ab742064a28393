"""A fake of the publisher: a quorum queue in memory."""

from shared.contracts.errors import PermanentError, RetryableError
from shared.contracts.event import Envelope
from shared.messaging.parking import Parkable
from shared.messaging.publisher import MESSAGE_BYTES_MAX
from shared.messaging.topology import INGEST_QUEUE, PARKED_QUEUE, RECEIPTS_QUEUE
from shared.wire import decode_batch


class FakePublisher:
    """Implements `shared.messaging.publisher.BatchPublisher`; keeps what was confirmed."""

    def __init__(self) -> None:
        """An empty queue."""
        self.messages: list[bytes] = []
        self.parked: list[bytes] = []
        self.reasons: list[str] = []
        """Why each message was parked."""
        self.receipts: list[bytes] = []
        self.fault: RetryableError | None = None
        """Raised by every publish, which then took nothing, while it is set: away, overloaded or unknown."""

    @property
    def events(self) -> list[Envelope]:
        """The events of every confirmed message, in order."""
        return [event for message in self.messages for event in decode_batch(message)]

    async def publish_batch(self, body: bytes) -> None:
        """See `BatchPublisher`."""
        if len(body) > MESSAGE_BYTES_MAX:
            raise PermanentError("too large")
        self._raise_fault()
        self.messages.append(body)

    async def park(self, parkable: Parkable, *, reason: str, queue: str) -> None:  # noqa: ARG002 - the real one keeps it
        """See `Publisher.park`."""
        self._raise_fault()
        self.parked.append(parkable.body)
        self.reasons.append(reason)

    async def publish_receipt(self, body: bytes) -> None:
        """See `Publisher.publish_receipt`."""
        self._raise_fault()
        self.receipts.append(body)

    async def depths(self) -> dict[str, int]:
        """See `Publisher.depths`."""
        self._raise_fault()
        return {INGEST_QUEUE: len(self.messages), PARKED_QUEUE: len(self.parked), RECEIPTS_QUEUE: len(self.receipts)}

    def _raise_fault(self) -> None:
        if self.fault is not None:
            raise self.fault
