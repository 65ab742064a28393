"""Feeds the cache with new records, beside the hot path and in bounded portions."""

import asyncio
from collections.abc import Sequence

import msgspec

from processor.metrics import UNCACHED
from shared.cache import Cache
from shared.contracts.event import Envelope
from shared.contracts.record import Record
from shared.contracts.result import Recorded, RecordStatus, ResultKind

_BATCHES_WAITING_MAX = 16
# Batches grow with the load. A record in the cache costs the processor as much CPU as its row in the ledger (measured:
# 40 of 100 microseconds), so while it is busy it leaves the cache to the readers, who fill it with what they read.
_RECORDS_PER_BATCH_MAX = 10
# Sixteen portions of ten records without a limit of size could take all memory, here and in the cache.
_PAYLOAD_BYTES_MAX = 64 * 1024
_BYTES_WAITING_MAX = 1024 * 1024
_NULL = msgspec.Raw(b"null")


class _Portion(msgspec.Struct):
    """The records of a batch, for the ledger of this epoch; `bytes` is the size of their payloads."""

    epoch: str | None
    records: list[Record] = []
    bytes: int = 0


class CacheFeeder:
    """Takes stored batches without waiting and writes their records to the cache; what exceeds a limit is left out."""

    def __init__(self, cache: Cache) -> None:
        """`run` must run for as long as batches are fed."""
        self.cache = cache
        self._waiting: asyncio.Queue[_Portion | None] = asyncio.Queue()
        self._bytes_waiting = 0

    def feed(self, events: Sequence[Envelope], outcomes: Sequence[Recorded], *, epoch: str | None) -> None:
        """Take the records of a stored batch. Large batches and large records stay in the ledger alone.

        `epoch` is that of `cache` before the batch was stored.
        """
        if self._waiting.qsize() >= _BATCHES_WAITING_MAX or len(events) > _RECORDS_PER_BATCH_MAX:
            UNCACHED.inc(sum(outcome.kind is ResultKind.STORED for outcome in outcomes))
            return
        portion = _Portion(epoch)
        for event, outcome in zip(events, outcomes, strict=True):
            # What is HELD is soon something else.
            if outcome.kind is not ResultKind.STORED or outcome.status is RecordStatus.HELD:
                continue
            payload = outcome.payload(event.body, event.content_type)
            size = len(payload or b"")
            if size > _PAYLOAD_BYTES_MAX or self._bytes_waiting + size > _BYTES_WAITING_MAX:
                UNCACHED.inc()
                continue
            self._bytes_waiting += size
            portion.bytes += size
            portion.records.append(_record(event, outcome, payload))
        if portion.records:
            self._waiting.put_nowait(portion)

    async def run(self) -> None:
        """Write portions until `close`."""
        while (portion := await self._waiting.get()) is not None:
            await self.cache.put_records(portion.records, epoch=portion.epoch)
            self._bytes_waiting -= portion.bytes

    def close(self) -> None:
        """Let `run` return after what is waiting."""
        self._waiting.put_nowait(None)


def _record(event: Envelope, outcome: Recorded, payload: bytes | None) -> Record:
    return Record(
        id=outcome.record_id,
        raw_event_id=outcome.raw_event_id,
        event_id=event.event_id,
        source=event.source,
        channel=event.channel.label,
        status="FAILED" if outcome.status is RecordStatus.FAILED else "SUCCESS",
        attempt=1,
        result_payload=_NULL if payload is None else msgspec.Raw(payload),
        errors=outcome.errors,
        idempotency_key=event.idempotency_key or None,
        type=event.type or None,
        occurred_at=event.occurred_at,
        received_at=event.received_at,
        file_at=event.file_at,
        processed_at=outcome.processed_at,
    )
