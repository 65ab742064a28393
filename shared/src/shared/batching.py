"""Group commit: the items that arrive while a batch is being written become the next batch."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Generic, TypeVar

from pydantic import BaseModel, Field, PositiveFloat, PositiveInt

from shared.contracts.errors import OverloadedError, UnavailableError
from shared.linger import linger

T = TypeVar("T")
R = TypeVar("R")

_MIB: Final = 1024 * 1024
_LOOK_SECONDS_MAX: Final = 1.0
_LOOKS_PER_LIMIT: Final = 8
# About how long a batch that is not full waits for the batches in flight, which may take seconds.
_PARTIAL_SECONDS_MAX: Final = 0.5


class BatchLimits(BaseModel):
    """The limits of what is sent or stored in batches."""

    events_max: PositiveInt = Field(1_000, description="events in one batch")
    bytes_max: PositiveInt = Field(2 * _MIB, description="bytes of events in one batch, about")
    in_flight_max: PositiveInt = Field(2, description="batches that are written at the same time")


class BatcherLimits(BatchLimits):
    """The limits of a batcher: also of its backlog, the events that wait for a batch.

    A batch that is not full is written only while few batches are in flight: each batch has a fixed cost.
    """

    partial_in_flight_max: PositiveInt = Field(
        2, description="batches that may be in flight when one is written that is not full"
    )
    backlog_events_max: PositiveInt = Field(20_000, description="events that wait for a batch; more are refused")
    backlog_bytes_max: PositiveInt = Field(16 * _MIB, description="bytes of events that wait for a batch, about")
    backlog_seconds_max: PositiveFloat = Field(
        8.0, description="how long events may wait for a batch; then they are refused, and nothing of them was taken"
    )


class _Group(Generic[T, R]):
    __slots__ = ("at_once", "bytes", "came", "items", "settled")

    def __init__(self, items: Sequence[T], weight: int, *, at_once: bool) -> None:
        loop = asyncio.get_running_loop()
        self.items = items
        self.at_once = at_once
        self.bytes = weight
        self.came = loop.time()
        self.settled: asyncio.Future[list[R]] = loop.create_future()


class Batcher(Generic[T, R]):
    """Gathers groups of items into batches and writes each batch with one call. A part of a service.

    Nothing waits on a timer: an idle writer takes at once what has arrived, so a small load makes small batches and a
    large load makes large ones. A group is never split, and its items keep their order.
    """

    def __init__(
        self,
        write: Callable[[list[T]], Awaitable[Sequence[R]]],
        *,
        limits: BatcherLimits,
        weigh: Callable[[T], int],
    ) -> None:
        """`write` returns one result per item, in order. An error of it is raised to every group of the batch."""
        self._write = write
        self._limits = limits
        self._weigh = weigh
        self._backlog: deque[_Group[T, R]] = deque()
        self._backlog_events = 0
        self._backlog_bytes = 0
        self._in_flight = 0
        self._changed = asyncio.Event()
        self._closed = False

    async def submit(self, items: Sequence[T], *, at_once: bool = False) -> list[R]:
        """Wait until the items are written; return their results, in order. See `offer`.

        If the caller is cancelled its items are still written, unless they wait too long.
        """
        return await self.offer(items, at_once=at_once) if items or self._closed else []

    def offer(self, items: Sequence[T], *, at_once: bool = False) -> "asyncio.Future[list[R]]":
        """Take items, at least one; return the future of their results, in order.

        With `at_once` a batch that begins with this group does not linger for more items.

        Raises:
            OverloadedError: the backlog is full; nothing was taken.
            UnavailableError: the batcher is closed, or the items waited too long for a batch; nothing was taken.
        """
        if self._closed:
            raise UnavailableError("draining")
        weight = sum(map(self._weigh, items))
        if self._backlog and (
            self._backlog_events + len(items) > self._limits.backlog_events_max
            or self._backlog_bytes + weight > self._limits.backlog_bytes_max
        ):
            raise OverloadedError("the backlog is full")
        group: _Group[T, R] = _Group(items, weight, at_once=at_once)
        self._backlog.append(group)
        self._backlog_events += len(items)
        self._backlog_bytes += weight
        self._changed.set()
        return group.settled

    async def run(self) -> None:
        """Write batches until `close`, then write the backlog and return."""
        async with asyncio.TaskGroup() as group:
            expiring = group.create_task(self._expire_backlog())
            async with asyncio.TaskGroup() as writers:
                while self._backlog or not self._closed:
                    if self._may_write():
                        if not self._backlog[0].at_once:
                            await linger(lambda: self._backlog_events, enough=lambda: self._closed or self._is_full())
                        self._in_flight += 1
                        writers.create_task(self._settle_batch(self._take()))
                    else:
                        self._changed.clear()
                        await self._changed.wait()
            expiring.cancel()

    def close(self) -> None:
        """Refuse new items; `run` returns once the backlog is written."""
        self._closed = True
        self._changed.set()

    def _may_write(self) -> bool:
        """Return whether to write a batch: the limit allows one more, and it is full or old, or few are in flight."""
        limits = self._limits
        if not self._backlog or self._in_flight >= limits.in_flight_max:
            return False
        return (
            self._in_flight < limits.partial_in_flight_max
            or self._is_full()
            or asyncio.get_running_loop().time() - self._backlog[0].came > _PARTIAL_SECONDS_MAX
        )

    def _is_full(self) -> bool:
        return self._backlog_events >= self._limits.events_max or self._backlog_bytes >= self._limits.bytes_max

    async def _expire_backlog(self) -> None:
        """Fail the groups that wait longer than the limit: the batches in flight may take seconds.

        One periodic check, so that no group needs a timer of its own.
        """
        limit = self._limits.backlog_seconds_max
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(min(_LOOK_SECONDS_MAX, limit / _LOOKS_PER_LIMIT))
            oldest = loop.time() - limit
            while self._backlog and self._backlog[0].came < oldest:
                group = self._backlog.popleft()
                self._backlog_events -= len(group.items)
                self._backlog_bytes -= group.bytes
                if not group.settled.done():
                    group.settled.set_exception(UnavailableError("the backlog was not written in time"))
            # The rest may be old enough to be written as a batch that is not full.
            if self._backlog:
                self._changed.set()

    def _take(self) -> list[_Group[T, R]]:
        """Take the oldest groups that fit into one batch; a group larger than a batch is taken alone."""
        groups: list[_Group[T, R]] = []
        events = weight = 0
        while self._backlog:
            group = self._backlog[0]
            if groups and (
                events + len(group.items) > self._limits.events_max or weight + group.bytes > self._limits.bytes_max
            ):
                break
            self._backlog.popleft()
            groups.append(group)
            events += len(group.items)
            weight += group.bytes
        self._backlog_events -= events
        self._backlog_bytes -= weight
        return groups

    async def _settle_batch(self, groups: list[_Group[T, R]]) -> None:
        try:
            # There is none if all have expired meanwhile.
            if groups:
                await self._settle(groups)
        finally:
            self._in_flight -= 1
            self._changed.set()

    async def _settle(self, groups: list[_Group[T, R]]) -> None:
        try:
            results = await self._write([item for group in groups for item in group.items])
        # The callers that wait for this batch get the error, and the next batches are written.
        except Exception as error:  # noqa: BLE001 - the loop boundary
            for group in groups:
                if not group.settled.done():
                    group.settled.set_exception(error)
            return
        position = 0
        for group in groups:
            end = position + len(group.items)
            if not group.settled.done():
                group.settled.set_result(list(results[position:end]))
            position = end
