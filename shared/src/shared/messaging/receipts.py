"""Sends receipts: what this process has counted goes to the ledger every few seconds, and at its end."""

import asyncio
import uuid
from typing import Protocol

import structlog

from shared.contracts.errors import RetryableError
from shared.contracts.receipt import Receipt, Tally
from shared.messaging.session import first_of
from shared.wire import encode_receipt

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class ReceiptPublisher(Protocol):
    """Takes receipts to the processor; `shared.messaging.publisher.Publisher` is the real one."""

    async def publish_receipt(self, body: bytes) -> None:
        """Return when the broker holds the receipt durably. Raises RetryableError."""


class ReceiptSender:
    """Takes the tally every `interval_seconds` and publishes it.

    A receipt that is not confirmed is sent again under the same number, and only then a new one begins: while the
    broker is away the tally alone grows, and that is bounded.
    """

    def __init__(self, publisher: ReceiptPublisher, tally: Tally, *, service: str, interval_seconds: float) -> None:
        """Run `run` beside those who count; `close` it when they are done, and before the publisher."""
        self._publisher = publisher
        self._tally = tally
        self._service = service
        self._interval_seconds = interval_seconds
        self._instance = uuid.uuid4()
        self._number = 0
        self._unconfirmed: bytes | None = None
        self._closing = asyncio.Event()

    async def run(self) -> None:
        """Send until `close`, then once more."""
        closing = False
        while not closing:
            await first_of(self._closing, seconds_max=self._interval_seconds)
            # Asked before sending: what is counted while that lasts gets a turn of its own.
            closing = self._closing.is_set()
            sent = await self._send()
        if not sent:
            log.warning("the last receipt was not sent; `etlpay audit` will show its events as never acknowledged")

    def close(self) -> None:
        """Let `run` send what is left, and return."""
        self._closing.set()

    async def _send(self) -> bool:
        """Return True when everything counted before is with the broker: what was not confirmed, and one receipt more.

        One: while events keep coming there is always something to tell, and a receipt is worth many of them.
        """
        if self._unconfirmed is not None and not await self._publish(self._unconfirmed):
            return False
        self._unconfirmed = self._begin()
        return self._unconfirmed is None or await self._publish(self._unconfirmed)

    async def _publish(self, receipt: bytes) -> bool:
        try:
            await self._publisher.publish_receipt(receipt)
        except RetryableError as error:
            log.debug("receipt not confirmed; sending it again later", error=type(error).__name__)
            return False
        self._unconfirmed = None
        return True

    def _begin(self) -> bytes | None:
        """Return the next receipt, where something was counted."""
        counts = self._tally.take()
        if not counts:
            return None
        self._number += 1
        return encode_receipt(
            Receipt(service=self._service, instance=self._instance, number=self._number, counts=counts)
        )
