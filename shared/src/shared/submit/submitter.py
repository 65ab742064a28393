"""Submits events: by gRPC while the processor answers, over RabbitMQ while it does not."""

import asyncio
from collections.abc import Sequence

import structlog

from shared.batching import Batcher, BatcherLimits
from shared.contracts.errors import OutcomeUnknownError, OverloadedError, RetryableError, UnavailableError
from shared.contracts.event import Envelope
from shared.contracts.result import QUEUED, Result
from shared.failpoints import failpoint
from shared.messaging.publisher import BatchPublisher
from shared.submit.processing import Processing
from shared.wire import encode_batch, envelope_bytes

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class Submitter:
    """Makes batches of what callers submit at the same time, and hands each batch over at once.

    Event ids are given before, so an event that goes over both transports is stored once.
    """

    def __init__(
        self,
        processing: Processing,
        publisher: BatchPublisher,
        *,
        limits: BatcherLimits,
        fallback_to_queue: bool,
    ) -> None:
        """Run `run` beside the callers; `close` when they are done."""
        self._processing = processing
        self._publisher = publisher
        self._fallback_to_queue = fallback_to_queue
        self._waiting: Batcher[Envelope, Result] = Batcher(self._process, limits=limits, weigh=envelope_bytes)
        self._queueing: Batcher[Envelope, Result] = Batcher(self._publish, limits=limits, weigh=envelope_bytes)

    async def submit(self, events: Sequence[Envelope]) -> list[Result]:
        """Return one result per event, in order; `QUEUED` where the processor is away and the queue holds the event.

        Raises:
            OverloadedError, UnavailableError: nothing was taken.
            OutcomeUnknownError: no confirmation in time; repeat with the same ids.
        """
        return await self._waiting.submit(events)

    def offer(self, events: Sequence[Envelope]) -> "asyncio.Future[list[Result]]":
        """Take events, at least one, as `submit` does, and return the future of its results. Both raise as it does."""
        return self._waiting.offer(events)

    async def enqueue(self, events: Sequence[Envelope]) -> list[Result]:
        """Return once the events are durable in the queue. Raises as `submit` does."""
        return await self._queueing.submit(events)

    async def run(self) -> None:
        """Hand batches over; return after `close`, when all that was taken is answered."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._waiting.run())
            group.create_task(self._queueing.run())

    def close(self) -> None:
        """Take no more events."""
        self._waiting.close()
        self._queueing.close()

    async def _process(self, events: list[Envelope]) -> Sequence[Result]:
        failpoint("submission.before_call")
        try:
            return await self._processing.process(events)
        except RetryableError as error:
            if not self._fallback_to_queue:
                raise
            return await self._fall_back(events, error)

    async def _fall_back(self, events: list[Envelope], reason: RetryableError) -> Sequence[Result]:
        try:
            return await self._publish(events)
        except (UnavailableError, OverloadedError):
            if isinstance(reason, OutcomeUnknownError):
                # The processor may have stored it: "nothing was taken" would be a guess.
                raise reason from None
            raise

    async def _publish(self, events: list[Envelope]) -> Sequence[Result]:
        failpoint("submission.before_publish")
        await self._publisher.publish_batch(encode_batch(events))
        failpoint("submission.published")
        return [QUEUED] * len(events)
