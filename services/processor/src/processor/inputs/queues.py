"""The queue input: batches of events on the two ingest queues of RabbitMQ, and receipts. Nobody waits for these."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import structlog

from processor.ledger.ids import uuid_type
from processor.ledger.sqlstates import LedgerRefusesError
from processor.stages.processing import WriteEvents
from shared.contracts.errors import PermanentError, RetryableError
from shared.contracts.event import Envelope
from shared.contracts.receipt import Receipt
from shared.failpoints import failpoint
from shared.messaging.consumer import Delivery
from shared.runtime.retry import retry
from shared.wire import decode_batch, decode_receipt

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_RETRY_PAUSE_SECONDS_MAX = 5.0


async def settle_together(delivery: Delivery, write: WriteEvents, *, until: Sequence[asyncio.Event]) -> None:
    """Store a delivery of the fast queue as a whole, then ack it; see `_settle`.

    While the ledger cannot be written, it is tried again until one of `until` is set. Then the delivery stays unacked,
    and the broker delivers it again.
    """
    await _settle(delivery, lambda events: _persist(partial(write, events), until))


async def settle_one_by_one(delivery: Delivery, write: WriteEvents, *, until: Sequence[asyncio.Event]) -> None:
    """Store a delivery of the slow queue event by event, then ack it. `until`: see `settle_together`.

    An event that cannot be stored, that the ledger refuses or that ends the process affects no other event. A delivery
    that comes again is stored in random order, so that each healthy event is stored before the poison event some time.
    """

    async def store(events: list[Envelope]) -> None:
        slow = _OneByOne(random.sample(events, len(events)) if delivery.redelivered else events, write)
        await _persist(slow.store, until)
        if slow.unstorable is not None:
            raise slow.unstorable

    await _settle(delivery, store)


async def settle_receipt(
    delivery: Delivery, keep: Callable[[Receipt], Awaitable[None]], *, until: Sequence[asyncio.Event]
) -> None:
    """Store a receipt, then ack it. `until`: see `settle_together`."""
    try:
        receipt = decode_receipt(delivery.body)
        await _persist(partial(keep, receipt), until)
    except PermanentError as error:
        await _set_aside(delivery, error)
    except RetryableError:
        return
    else:
        await delivery.ack()


class _OneByOne:
    """The events of a delivery, some of which may be stored already."""

    def __init__(self, events: Sequence[Envelope], write: WriteEvents) -> None:
        self.unstorable: PermanentError | None = None
        """The error of the last event that can never be stored; None: there is none."""
        self._left = list(events)
        self._write = write

    async def store(self) -> None:
        """Store the remaining events. An event that the ledger refuses stays for the next call.

        Raises:
            LedgerRefusesError: some events were refused. RetryableError: the ledger cannot be written now.
        """
        refused: list[Envelope] = []
        why: LedgerRefusesError | None = None
        try:
            while self._left:
                event = self._left[0]
                try:
                    await self._write([event])
                except PermanentError as error:
                    self.unstorable = error
                except LedgerRefusesError as error:
                    refused.append(event)
                    why = error
                del self._left[0]
        finally:
            self._left = refused + self._left
        if why is not None:
            raise why


async def _settle(delivery: Delivery, store: Callable[[list[Envelope]], Awaitable[None]]) -> None:
    """Ack after the commit, as the last line. A delivery that can never be stored goes to the next queue unchanged."""
    failpoint("processor.received")
    try:
        events = decode_batch(delivery.body, uuid_type=uuid_type)
        delivery.forget_body()
        await store(events)
    except PermanentError as error:
        await _set_aside(delivery, error)
        return
    except RetryableError:
        # When the session ends, the broker gives the delivery to another consumer.
        return
    failpoint("processor.after_commit_before_ack")
    await delivery.ack()
    failpoint("processor.acked")


async def _set_aside(delivery: Delivery, error: PermanentError) -> None:
    log.error("message moved to its dead letter queue", reason=str(error), message_id=delivery.message_id)
    await delivery.reject()


async def _persist(write: Callable[[], Awaitable[object]], until: Sequence[asyncio.Event]) -> None:
    """Write, and try again until one of `until` is set. So an outage pauses the intake without using up redeliveries.

    Raises:
        RetryableError: one of `until` is set, and it could not be written.
    """
    await retry(write, *until, pause_seconds_max=_RETRY_PAUSE_SECONDS_MAX)
