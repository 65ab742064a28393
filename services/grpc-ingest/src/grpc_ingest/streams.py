"""One `IngestStream`: its batches side by side, its answers in their order, and its end in time."""

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import NamedTuple, TypeAlias

import grpc.aio

from etlpay_client import etlpay_pb2 as pb
from grpc_ingest import problems
from grpc_ingest.context import CallContext
from shared.failpoints import failpoint
from shared.runtime.limits import Holding
from shared.runtime.rpc_health import RpcAbort
from shared.runtime.timeouts import Timeouts

Context: TypeAlias = grpc.aio.ServicerContext[bytes, pb.IngestBatchResponse]


class StreamLimits(NamedTuple):
    """What one stream may take: batches in hand, time until its next one and until an answer is read, and its age."""

    batches_max: int
    pause_seconds_max: float
    send_seconds_max: float
    age_seconds_max: float


class BatchAnswer(NamedTuple):
    """The answer to a batch, and what both take of memory until it is sent."""

    response: pb.IngestBatchResponse
    size: int


# A batch's answer to come, what ends the stream after those before it, or its end.
_Coming: TypeAlias = asyncio.Task[BatchAnswer | RpcAbort] | RpcAbort | None


class BatchStream:
    """Reads batches and writes answers. While too many are in hand, or there is no room for one, none is read.

    It ends before its connection is too old, which would cut it: every batch that was read is answered first.
    """

    def __init__(  # noqa: PLR0913 - what a stream stands on
        self,
        context: Context,
        holding: Holding,
        *,
        check: Callable[[bytes], CallContext],
        ingest: Callable[[bytes, CallContext], Awaitable[BatchAnswer]],
        limits: StreamLimits,
        draining: asyncio.Event,
        timeouts: Timeouts,
    ) -> None:
        """`check` and `ingest` raise RpcAbort. `holding` is what the stream's batches take of memory."""
        self._context = context
        self._holding = holding
        self._check = check
        self._ingest = ingest
        self._limits = limits
        self._draining = draining
        self._timeouts = timeouts
        self._places = asyncio.Semaphore(limits.batches_max)
        self._coming: asyncio.Queue[_Coming] = asyncio.Queue()
        self.unread = False

    async def run(self) -> RpcAbort | None:
        """Serve the stream; return the status that it ends with, None where the client has ended it."""
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(self._read(group))
            stopping = group.create_task(self._stop_in_time(reading))
            ended = await self._write()
            reading.cancel()
            stopping.cancel()
        if ended is not None or not reading.cancelled():
            return ended
        return problems.draining() if self._draining.is_set() else problems.old(self._limits.age_seconds_max)

    async def _read(self, group: asyncio.TaskGroup) -> None:
        try:
            while True:
                await self._places.acquire()
                async with asyncio.timeout(self._limits.pause_seconds_max):
                    request = await self._context.read()
                if not isinstance(request, bytes):  # grpc.aio.EOF
                    return
                admitted = asyncio.Event()
                self._coming.put_nowait(group.create_task(self._answer(request, admitted)))
                # Else the last batch of each stream stays in memory for as long as the next one takes to come.
                del request
                # Not one more is read while there is no room for this one: what waits would be in nobody's count.
                await admitted.wait()
        except TimeoutError:
            self._coming.put_nowait(problems.silent(self._limits.pause_seconds_max))
        finally:
            self._coming.put_nowait(None)

    async def _answer(self, request: bytes, admitted: asyncio.Event) -> BatchAnswer | RpcAbort:
        """Return the status instead of raising it: what came before this batch is answered first.

        `admitted` is set once there was room for it, or never will be.
        """
        try:
            call = self._check(request)
            await self._holding.wait(len(request))
            admitted.set()
            answered = await self._ingest(request, call)
        except RpcAbort as error:
            return error
        else:
            self._holding.correct(answered.size - len(request))
            return answered
        finally:
            admitted.set()

    async def _write(self) -> RpcAbort | None:
        """Write each answer in the order of its batch; return the status that ends the stream early, if one does."""
        while (coming := await self._coming.get()) is not None:
            answer = coming if isinstance(coming, RpcAbort) else await coming
            if isinstance(answer, RpcAbort):
                return answer
            try:
                with self._timeouts.until(monotonic() + self._limits.send_seconds_max):
                    await self._context.write(answer.response)
            except TimeoutError:
                self.unread = True
                return problems.unread(self._limits.send_seconds_max)
            self._holding.correct(-answer.size)
            failpoint("grpc-ingest.mid_stream")
            self._places.release()
        return None

    async def _stop_in_time(self, reading: asyncio.Task[None]) -> None:
        """Read no more when the server drains or the stream is old."""
        try:
            async with asyncio.timeout(self._limits.age_seconds_max):
                await self._draining.wait()
        except TimeoutError:
            pass
        reading.cancel()
