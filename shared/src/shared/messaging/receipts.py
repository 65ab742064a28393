"""Sends receipts: what this process has counted goes to the ledger every few seconds, and at its end."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from typing import Final, Protocol, TypeAlias

import structlog

from shared.contracts.errors import RetryableError
from shared.contracts.event import Channel, now
from shared.contracts.receipt import Progress, Receipt, Tally
from shared.runtime.waiting import wait_any
from shared.wire import encode_receipt

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

# While nobody knows of this process, and at its end.
_RETRY_SECONDS: Final = 0.5
# Counting must not keep a channel shut.
_OPENING_SECONDS_MAX: Final = 10.0
# With the rest of a drain it must fit into the time that a service has to stop.
_CLOSING_SECONDS_MAX: Final = 4.0

Report: TypeAlias = Callable[[bytes], Awaitable[None]]


class ReceiptPublisher(Protocol):
    """Takes receipts to the processor; `shared.messaging.publisher.Publisher` is the real one."""

    async def publish_receipt(self, body: bytes) -> None:
        """Return when the broker holds the receipt durably. Raises RetryableError."""


class ReceiptSender:
    """Takes the tally at its start, every `interval_seconds`, and at its end, and publishes it.

    There is a receipt also where nothing was counted: a series that ends without its closing receipt tells that the
    process was killed, and a number that is not there that a receipt was lost. A receipt that is not confirmed is sent
    again under the same number, and only then a new one begins: while nobody takes it the tally alone grows, and that
    is bounded.
    """

    def __init__(  # noqa: PLR0913 - what a receipt says of its process
        self,
        publisher: ReceiptPublisher,
        tally: Tally,
        *,
        service: str,
        channel: Channel,
        interval_seconds: float,
        report: Report | None = None,
    ) -> None:
        """Run `run` beside those who count; `close` it when they are done, and before the publisher.

        `report` is the direct way to the processor, tried first: a process that hands events over both ways needs both
        here, so that it can acknowledge nothing for long that it cannot tell.
        """
        self._ways: tuple[Report, ...] = (*([report] if report else []), publisher.publish_receipt)
        self._tally = tally
        self._service = service
        self._channel = channel
        self._interval_seconds = interval_seconds
        self._instance = uuid.uuid4()
        self._began_at = now()
        self._number = 0
        self._unconfirmed: bytes | None = None
        self._closing = asyncio.Event()
        self._closed = False
        self._opened = asyncio.Event()

    async def run(self) -> None:
        """Send until `close`, then the last one."""
        while not self._closing.is_set():
            await self._send()
            pause = self._interval_seconds if self._opened.is_set() else _RETRY_SECONDS
            await wait_any(self._closing, seconds_max=pause)
        if not await self._send_last():
            log.warning("the last receipt was not sent; `etlpay audit` cannot vouch for the hours that it was to count")

    async def opened(self, stopping: asyncio.Event) -> None:
        """Return once the first receipt is taken, or at `stopping`, or after some seconds.

        Acknowledge nothing before: nobody would know of a process that is killed in its first seconds.
        """
        await wait_any(self._opened, stopping, seconds_max=_OPENING_SECONDS_MAX)

    def close(self) -> None:
        """Let `run` send what is left, and return."""
        self._closing.set()

    async def _send_last(self) -> bool:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _CLOSING_SECONDS_MAX
        while not await self._send(closing=True):
            if loop.time() > deadline:
                return False
            await asyncio.sleep(_RETRY_SECONDS)
        return True

    async def _send(self, *, closing: bool = False) -> bool:
        """Return True when everything counted before was taken: what was not confirmed, and one receipt more.

        One: while events keep coming there is always something to tell, and a receipt is worth many of them.
        """
        if self._unconfirmed is not None and not await self._hand_over(self._unconfirmed):
            return False
        if self._closed:
            return True
        self._closed = closing
        self._unconfirmed = self._begin(closing=closing)
        return await self._hand_over(self._unconfirmed)

    async def _hand_over(self, receipt: bytes) -> bool:
        for take in self._ways:
            try:
                await take(receipt)
            except RetryableError as error:
                log.debug("receipt not confirmed; sending it again", error=type(error).__name__)
            else:
                self._unconfirmed = None
                self._opened.set()
                return True
        return False

    def _begin(self, *, closing: bool) -> bytes:
        """Return the next receipt."""
        taken_at = now()
        taken = self._tally.take(taken_at)
        self._number += 1
        progress = Progress(
            channel=self._channel,
            began_at=self._began_at,
            open_since=taken.open_since,
            taken_at=taken_at,
            interval_seconds=self._interval_seconds,
            closing=closing,
        )
        return encode_receipt(
            Receipt(
                service=self._service,
                instance=self._instance,
                number=self._number,
                counts=taken.counts,
                unconfirmed=taken.unconfirmed,
                progress=progress,
            )
        )
