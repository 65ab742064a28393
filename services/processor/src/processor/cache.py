"""Feeding the cache: beside the hot path, in bounded portions, and never in its way."""

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
# Sixteen portions of ten records of any size could take all memory, here and in the cache.
_PAYLOAD_BYTES_MAX = 64 * 1024
_BYTES_WAITING_MAX = 1024 * 1024
_NULL = msgspec.Raw(b"null")


class _Portion(msgspec.Struct):
    """What a batch gives to the cache, for the ledger of this epoch; `bytes` is what its payloads take."""

    epoch: str | None
    records: list[Record] = []
    bytes: int = 0


class CacheFeeder:
    """Takes stored batches without waiting and writes their records to the cache; what does not fit is left out."""

    def __init__(self, cache: Cache) -> None:
        """Run `run` beside the pipeline."""
        self._cache = cache
        self._waiting: asyncio.Queue[_Portion | None] = asyncio.Queue()
        self._bytes_waiting = 0

    @property
    def epoch(self) -> str | None:
        """The epoch of the ledger as it is known now: to be asked for before a batch is stored."""
        return self._cache.epoch

    def feed(self, events: Sequence[Envelope], outcomes: Sequence[Recorded], *, epoch: str | None) -> None:
        """Note what a batch stored. A large batch is backfill that nobody waits to read: it is left out.

        So is a large record. Both are read from the ledger.
        """
        stored = [
            (event, outcome)
            for event, outcome in zip(events, outcomes, strict=True)
            if outcome.kind is ResultKind.STORED
        ]
        if self._waiting.qsize() >= _BATCHES_WAITING_MAX or len(stored) > _RECORDS_PER_BATCH_MAX:
            UNCACHED.inc(len(stored))
            return
        portion = _Portion(epoch)
        for event, outcome in stored:
            size = _payload_bytes(event, outcome)
            if size > _PAYLOAD_BYTES_MAX or self._bytes_waiting + size > _BYTES_WAITING_MAX:
                UNCACHED.inc()
                continue
            self._bytes_waiting += size
            portion.bytes += size
            portion.records.append(_record(event, outcome))
        if portion.records:
            self._waiting.put_nowait(portion)

    async def run(self) -> None:
        """Write portions until `close`."""
        while (portion := await self._waiting.get()) is not None:
            await self._cache.put_records(portion.records, epoch=portion.epoch)
            self._bytes_waiting -= portion.bytes

    def close(self) -> None:
        """Let `run` return after what is waiting."""
        self._waiting.put_nowait(None)


def _payload_bytes(event: Envelope, outcome: Recorded) -> int:
    return 0 if outcome.status is RecordStatus.FAILED else len(event.body if outcome.result is None else outcome.result)


def _record(event: Envelope, outcome: Recorded) -> Record:
    body = event.body if outcome.result is None else outcome.result
    return Record(
        id=outcome.record_id,
        raw_event_id=outcome.raw_event_id,
        event_id=event.event_id,
        source=event.source,
        channel=event.channel.label,
        status="SUCCESS" if outcome.status is RecordStatus.SUCCESS else "FAILED",
        attempt=1,
        result_payload=msgspec.Raw(body) if outcome.status is RecordStatus.SUCCESS else _NULL,
        errors=outcome.errors,
        idempotency_key=event.idempotency_key or None,
        type=event.type or None,
        occurred_at=event.occurred_at,
        received_at=event.received_at,
        processed_at=outcome.processed_at,
    )
