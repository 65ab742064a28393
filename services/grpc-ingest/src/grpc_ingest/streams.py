"""One `IngestStream`: its batches at the same time, its answers in their order, and its end in time."""

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
    """The limits of one stream: batches at once, seconds until the next one, seconds to read an answer, and its age."""

    batches_max: int
    pause_seconds_max: float
    send_seconds_max: float
    age_seconds_max: float


class BatchAnswer(NamedTuple):
    """The answer to a batch, and the bytes that both take until it is sent."""

    response: pb.IngestBatchResponse
    size: int


# The answer to a batch, an error that ends the stream after the answers before it, or the end of the requests.
_Coming: TypeAlias = asyncio.Task[BatchAnswer | RpcAbort] | RpcAbort | None


class BatchStream:
    """Reads batches and writes answers. It reads no batch beyond its limit, and none without capacity for it.

    It ends before its connection is too old, which would cut it. Every batch that was read is answered first.
    """

    def __init__(  # noqa: PLR0913 - what a stream needs
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
        """`check` and `ingest` raise RpcAbort. `holding` is the capacity that the stream's batches take."""
        self._context = context
        self._holding = holding
        self._check = check
        self._ingest = ingest
        self._limits = limits
        self._draining = draining
        self._timeouts = timeouts
        self._unanswered = asyncio.Semaphore(limits.batches_max)
        self._coming: asyncio.Queue[_Coming] = asyncio.Queue()
        self.unread = False

    async def run(self) -> RpcAbort | None:
        """Serve the stream; return the error that it ends with, None where the client has ended it."""
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
                await self._unanswered.acquire()
                async with asyncio.timeout(self._limits.pause_seconds_max):
                    request = await self._context.read()
                if not isinstance(request, bytes):  # grpc.aio.EOF
                    return
                admitted = asyncio.Event()
                self._coming.put_nowait(group.create_task(self._answer(request, admitted)))
                # Without this the last batch of each stream stays in memory until the next one comes.
                del request
                # The next one is not read while there is no capacity for this one: no limit would count it.
                await admitted.wait()
        except TimeoutError:
            self._coming.put_nowait(problems.silent(self._limits.pause_seconds_max))
        finally:
            self._coming.put_nowait(None)

    async def _answer(self, request: bytes, admitted: asyncio.Event) -> BatchAnswer | RpcAbort:
        """Return an error instead of raising it: the batches before this one are answered first.

        `admitted` is set once the batch has its capacity, or has failed.
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
        """Write each answer in the order of its batch; return the error that ends the stream early, if one does."""
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
            self._unanswered.release()
        return None

    async def _stop_in_time(self, reading: asyncio.Task[None]) -> None:
        """Read no more when the server drains or the stream is old."""
        try:
            async with asyncio.timeout(self._limits.age_seconds_max):
                await self._draining.wait()
        except TimeoutError:
            pass
        reading.cancel()
