"""Sends receipts: the counts of this process go to the ledger every few seconds, and at its end."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from typing import Final, Protocol, TypeAlias

import structlog

from shared.contracts.errors import RetryableError
from shared.contracts.event import Channel, now
from shared.contracts.receipt import Progress, Receipt
from shared.counters import Tally
from shared.runtime.waiting import wait_any
from shared.wire import encode_receipt

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

# Between attempts to send the first receipt, and the last.
_RETRY_SECONDS: Final = 0.5
# A service starts without a receipt rather than not at all.
_OPENING_SECONDS_MAX: Final = 10.0
# It must fit into the deadline of the drain, with the other parts.
_CLOSING_SECONDS_MAX: Final = 4.0

Report: TypeAlias = Callable[[bytes], Awaitable[None]]


class ReceiptPublisher(Protocol):
    """Sends receipts to the processor; `shared.messaging.publisher.Publisher` is the real one."""

    async def publish_receipt(self, body: bytes) -> None:
        """Return when the broker has stored the receipt. Raises RetryableError."""


class ReceiptSender:
    """Takes the tally at the start, every `interval_seconds` and at the end, and publishes it. A part of a service.

    A receipt is sent even if nothing was counted: a series without its closing receipt shows that the process was
    killed, and a missing number that a receipt was lost. An unconfirmed receipt is sent again under its number before
    the next one begins. Meanwhile only the tally grows, and it is limited.
    """

    def __init__(  # noqa: PLR0913 - a receipt names its process
        self,
        publisher: ReceiptPublisher,
        tally: Tally,
        *,
        service: str,
        channel: Channel,
        interval_seconds: float,
        report: Report | None = None,
    ) -> None:
        """List it after the publisher and before the parts that count.

        `report` sends directly to the processor, and is tried first. A process that submits events on both paths needs
        both here too: it must not acknowledge events for long that it cannot report.
        """
        self._paths: tuple[Report, ...] = (*([report] if report else []), publisher.publish_receipt)
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
        """Send receipts until `close`, then the closing one."""
        while not self._closing.is_set():
            await self._send()
            pause = self._interval_seconds if self._opened.is_set() else _RETRY_SECONDS
            await wait_any(self._closing, seconds_max=pause)
        if not await self._send_last():
            log.warning("the last receipt was not sent; `etlpay audit` cannot vouch for the hours that it was to count")

    async def opened(self, stopping: asyncio.Event) -> None:
        """Return when the first receipt is confirmed, or at `stopping`, or after some seconds.

        Acknowledge nothing before: the ledger would not know of a process that is killed in its first seconds.
        """
        await wait_any(self._opened, stopping, seconds_max=_OPENING_SECONDS_MAX)

    def close(self) -> None:
        """Let `run` send the closing receipt, and return."""
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
        """Send the unconfirmed receipt, if there is one, and one more; return whether both were confirmed.

        Only one: while events keep coming there is always something to report, and one receipt counts many events.
        """
        if self._unconfirmed is not None and not await self._deliver(self._unconfirmed):
            return False
        if self._closed:
            return True
        self._closed = closing
        self._unconfirmed = self._begin(closing=closing)
        return await self._deliver(self._unconfirmed)

    async def _deliver(self, receipt: bytes) -> bool:
        for send in self._paths:
            try:
                await send(receipt)
            except RetryableError as error:
                log.debug("receipt not confirmed; sending it again", error=type(error).__name__)
            else:
                self._unconfirmed = None
                self._opened.set()
                return True
        return False

    def _begin(self, *, closing: bool) -> bytes:
        """Take the tally; return the next receipt."""
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
