"""The door where nobody waits: batches of events on the two lanes of RabbitMQ, and the receipts of the doors."""

import random
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import stamina
import structlog

from processor.database import make_id
from shared.contracts.errors import PermanentError, RetryableError
from shared.contracts.event import Envelope
from shared.contracts.outcome import Outcome
from shared.contracts.receipt import Receipt
from shared.failpoints import failpoint
from shared.messaging.consumer import Delivery
from shared.wire import decode_batch, decode_receipt

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_RETRY_PAUSE_SECONDS_MAX = 5.0


async def settle_together(delivery: Delivery, write: Callable[[Sequence[Envelope]], Awaitable[list[Outcome]]]) -> None:
    """Store a delivery of the fast lane as a whole, then ack it; see `_settle`."""
    await _settle(delivery, lambda events: _persist(partial(write, events)))


async def settle_one_by_one(
    delivery: Delivery, write: Callable[[Sequence[Envelope]], Awaitable[list[Outcome]]]
) -> None:
    """Store a delivery of the slow lane event by event, then ack it.

    One that cannot be stored, or that ends the process, breaks alone. A delivery that comes again is stored in another
    order, so that each innocent has its turn before the culprit some time.
    """

    async def store(events: list[Envelope]) -> None:
        refused: PermanentError | None = None
        for event in random.sample(events, len(events)) if delivery.redelivered else events:
            try:
                await _persist(partial(write, [event]))
            except PermanentError as error:
                refused = error
        if refused is not None:
            raise refused

    await _settle(delivery, store)


async def settle_receipt(delivery: Delivery, keep: Callable[[Receipt], Awaitable[None]]) -> None:
    """Keep a receipt, then ack it."""
    try:
        receipt = decode_receipt(delivery.body)
        await _persist(partial(keep, receipt))
    except PermanentError as error:
        await _set_aside(delivery, error)
        return
    await delivery.ack()


async def _settle(delivery: Delivery, store: Callable[[list[Envelope]], Awaitable[None]]) -> None:
    """Ack after the commit, as the last line. What cannot ever be stored goes on to the next lane, bytes and all."""
    failpoint("processor.received")
    try:
        events = decode_batch(delivery.body, make_id=make_id)
        delivery.forget_body()
        await store(events)
    except PermanentError as error:
        await _set_aside(delivery, error)
        return
    failpoint("processor.after_commit_before_ack")
    await delivery.ack()
    failpoint("processor.acked")


async def _set_aside(delivery: Delivery, error: PermanentError) -> None:
    log.error("message moved to its dead letter queue", reason=str(error), message_id=delivery.message_id)
    await delivery.reject()


async def _persist(write: Callable[[], Awaitable[object]]) -> None:
    """Write until it is done. An outage holds the delivery here and so pauses the intake; it burns no redelivery."""
    async for attempt in stamina.retry_context(
        on=RetryableError, attempts=None, timeout=None, wait_initial=0.1, wait_max=_RETRY_PAUSE_SECONDS_MAX
    ):
        with attempt:
            await write()
