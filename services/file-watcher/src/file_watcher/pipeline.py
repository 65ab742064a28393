"""The pipeline of rows: read, map, encode, publish. A row passes each stage once."""

import asyncio
from typing import Protocol

from file_watcher.batches import Batch, encode
from file_watcher.mapping import RowFilter, RowMapper
from file_watcher.metrics import EMPTY_ROWS, count_refused
from file_watcher.publish import ConfirmedPublisher
from shared.batching import BatchLimits
from shared.contracts.event import reserve_moments
from shared.counters import InHand, in_hand
from shared.failpoints import failpoint
from shared.files.rows import Chunk, Reject, Row


class Reading(Protocol):
    """One reading of a file; its methods are called in a thread."""

    @property
    def source(self) -> str:
        """The source of the events."""

    @property
    def mapper(self) -> RowMapper:
        """Maps the rows."""

    @property
    def row_filter(self) -> RowFilter | None:
        """Finds the new rows; None: all rows are new."""

    def next_chunk(self, pieces_max: int, bytes_max: int) -> Chunk:
        """See `ChunkReader.next_chunk`."""

    def reject(self, rejects: list[Reject]) -> None:
        """Keep rejected rows; called in the order of the rows."""


class PipelineRun:
    """The state of one run. `events`, `skipped`, `unreadable` and `last` are those of confirmed batches."""

    def __init__(self) -> None:
        """Begin with none."""
        self.ended = False
        self.unconfirmed = False
        self.fault: Exception | None = None
        self.events = 0
        self.skipped = 0
        self.unreadable = False
        self.last: Row | Reject | None = None

    def confirm(self, batch: Batch) -> None:
        """Count a confirmed batch; they come in any order."""
        self.events += batch.events
        self.skipped += batch.skipped
        self.unreadable = self.unreadable or batch.unreadable
        if batch.last and (self.last is None or batch.last.number > self.last.number):
            self.last = batch.last


class RowPipeline:
    """Reads, maps and publishes the rows of files. The batches in memory are bounded over all files together."""

    def __init__(
        self,
        publisher: ConfirmedPublisher,
        limits: BatchLimits,
        *,
        stopping: asyncio.Event,
    ) -> None:
        """One for all files; once `stopping` is set nothing more is read."""
        self._publisher = publisher
        self._limits = limits
        self._in_flight = asyncio.Semaphore(limits.in_flight_max)
        self._stopping = stopping

    async def run(self, reading: Reading) -> PipelineRun | None:
        """Return the state when every row is confirmed or rejected; None: `stopping` was set before.

        Raises:
            Exception: what reading raised; the batches in flight are finished before.
        """
        run = PipelineRun()
        async with asyncio.TaskGroup() as publishing:
            while not (self._stopping.is_set() or run.ended or run.fault):
                await self._in_flight.acquire()
                batch = None
                held = in_hand()
                held.begin()
                try:
                    batch = await asyncio.to_thread(self._read_batch, reading, run)
                finally:
                    if batch is None:
                        self._release(held)
                if batch:
                    publishing.create_task(self._publish(batch, held, reading, run))
        if run.fault:
            raise run.fault
        return run if run.ended and not run.unconfirmed else None

    def _read_batch(self, reading: Reading, run: PipelineRun) -> Batch | None:
        """Return the next batch, or None at the end. A fault is kept, so that publishes in flight are not cancelled."""
        limits = self._limits
        try:
            while not run.ended:
                chunk = reading.next_chunk(limits.events_max, limits.bytes_max)
                received_at = reserve_moments(limits.events_max)
                mapped = reading.mapper.map_chunk(chunk, received_at, reading.row_filter)
                run.ended = chunk.ended or mapped.unreadable
                if mapped.rejects:
                    reading.reject(mapped.rejects)
                if mapped.events or mapped.rejects or mapped.skipped:
                    return encode(mapped, received_at)
        except Exception as error:  # noqa: BLE001 - `run` raises it when the batches in flight are finished
            run.fault = error
        return None

    async def _publish(self, batch: Batch, held: InHand, reading: Reading, run: PipelineRun) -> None:
        try:
            if batch.rejected:
                count_refused(batch.rejected, source=reading.source, received_at=batch.received_at)
            if batch.skipped:
                EMPTY_ROWS.inc(batch.skipped)
            if not await self._publisher.publish(batch, source=reading.source):
                run.unconfirmed = True
                return
        finally:
            self._release(held)
        failpoint("file-watcher.mid_file")
        run.confirm(batch)

    def _release(self, held: InHand) -> None:
        held.end()
        self._in_flight.release()
