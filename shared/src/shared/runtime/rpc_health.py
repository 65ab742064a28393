"""Health checking (`grpc.health.v1`) with limits of its own, so that it takes no capacity from other calls."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import Any, Final, TypeAlias
from urllib.parse import unquote

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2 as pb

from shared.contracts.errors import EtlPayError, OverloadedError
from shared.runtime.limits import CapacityLimit, network_of

SERVICE_NAME: Final = pb.DESCRIPTOR.services_by_name["Health"].full_name

# Enough for the longest name of a service: the library would read megabytes.
_REQUEST_BYTES_MAX: Final = 4 * 1024
_READ_AT_ONCE: Final = 2

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]


class RpcAbort(EtlPayError):  # noqa: N818 - an answer, not an error
    """The call ends with a code instead of a response."""

    def __init__(self, code: grpc.StatusCode, details: str, metadata: Sequence[tuple[str, bytes]] = ()) -> None:
        """`details` are for a reader, `metadata` for programs."""
        super().__init__(details)
        self.code = code
        self.details = details
        self.metadata = metadata


class SideCalls:
    """Limits the number, the duration and the request size of calls that store nothing: health and reflection."""

    def __init__(
        self,
        *,
        calls_max: int,
        call_seconds_max: float,
        stream_seconds_max: float,
        share: float,
        may_stream: Callable[[Context], bool] = lambda _: True,
    ) -> None:
        """One address may have `share` of `calls_max`. Callers need `may_stream` to open a stream."""
        self._calls = CapacityLimit(calls_max, share=share)
        self._reading = asyncio.Semaphore(_READ_AT_ONCE)
        self._call_seconds_max = call_seconds_max
        self._stream_seconds_max = stream_seconds_max
        self._may_stream = may_stream

    async def answer_one(self, context: Context, answer: Callable[[bytes], Any]) -> Any:  # noqa: ANN401 - a message
        """Return the response to a call with one request."""
        async with self._counted(context, seconds_max=self._call_seconds_max):
            return answer(await self.read(context) or b"")

    async def serve_stream(self, context: Context, serve: Callable[[], Awaitable[None]]) -> None:
        """Serve a stream until it ends. After its time limit it ends with OK, and may be opened again."""
        async with self._counted(context, seconds_max=self._stream_seconds_max, stream=True):
            await serve()

    async def read(self, context: Context) -> bytes | None:
        """Return the next request, None after the last. Raises RpcAbort if it is late or too large."""
        try:
            async with asyncio.timeout(self._call_seconds_max), self._reading:
                request = await context.read()
        except TimeoutError as error:
            raise RpcAbort(grpc.StatusCode.UNAVAILABLE, "the request did not come in time") from error
        if not isinstance(request, bytes):  # grpc.aio.EOF
            return None
        if len(request) > _REQUEST_BYTES_MAX:
            raise RpcAbort(grpc.StatusCode.INVALID_ARGUMENT, "the request is too large")
        return request

    @asynccontextmanager
    async def _counted(self, context: Context, *, seconds_max: float, stream: bool = False) -> AsyncIterator[None]:
        peer = peer_of(context)
        if stream and not self._may_stream(context):
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "a valid API key is needed")
        try:
            self._calls.acquire(peer)
        except OverloadedError:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many calls of this kind; call again later")
        try:
            async with asyncio.timeout(seconds_max):
                yield
        except RpcAbort as error:
            await context.abort(error.code, error.details)
        except TimeoutError:
            if not stream:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "the request did not come in time")
        finally:
            self._calls.release(peer)


class Health:
    """The health service: `Check` returns whether calls are served, `Watch` sends it at every change."""

    def __init__(self, services: Sequence[str], calls: SideCalls) -> None:
        """`services` and the whole server report SERVING at first."""
        self._calls = calls
        self._services = frozenset(("", *services))
        self._status = pb.HealthCheckResponse.SERVING
        self._changed = asyncio.Event()
        self._closed = False

    def set(self, *, serving: bool) -> None:
        """Set whether calls are served; after `close` it has no effect."""
        status = pb.HealthCheckResponse.SERVING if serving else pb.HealthCheckResponse.NOT_SERVING
        if not self._closed and status != self._status:
            self._status = status
            changed, self._changed = self._changed, asyncio.Event()
            changed.set()

    def close(self) -> None:
        """Report NOT_SERVING from now on."""
        self.set(serving=False)
        self._closed = True

    def handler(self) -> grpc.GenericRpcHandler:
        """Return the handlers to add to a server.

        Both are streams to the library: for a unary call it reads the request itself, without a time limit.
        """
        return grpc.method_handlers_generic_handler(
            SERVICE_NAME,
            {
                "Check": grpc.stream_unary_rpc_method_handler(
                    self.check, response_serializer=pb.HealthCheckResponse.SerializeToString
                ),
                "Watch": grpc.stream_stream_rpc_method_handler(
                    self.watch, response_serializer=pb.HealthCheckResponse.SerializeToString
                ),
            },
        )

    async def check(self, _requests: object, context: Context) -> pb.HealthCheckResponse:
        """Return whether a service is served."""

        def answer(request: bytes) -> pb.HealthCheckResponse:
            service = _service_of(request)
            if service not in self._services:
                raise RpcAbort(grpc.StatusCode.NOT_FOUND, "there is no such service")
            return pb.HealthCheckResponse(status=self._status)

        response: pb.HealthCheckResponse = await self._calls.answer_one(context, answer)
        return response

    async def watch(self, _requests: object, context: Context) -> None:
        """Send whether a service is served, now and at every change."""

        async def send() -> None:
            known = _service_of(await self._calls.read(context) or b"") in self._services
            while True:
                changed = self._changed
                status = self._status if known else pb.HealthCheckResponse.SERVICE_UNKNOWN
                await context.write(pb.HealthCheckResponse(status=status))
                await changed.wait()

        await self._calls.serve_stream(context, send)


@lru_cache(maxsize=1_024)
def _network_of_peer(peer: str) -> str:
    """Return what counts as one caller, of `ipv4:192.0.2.1:50000`, `ipv6:%5B2001:db8::1%5D:50000` or `unix:`."""
    kind, _, address = unquote(peer).partition(":")
    if kind not in {"ipv4", "ipv6"}:
        return kind
    return network_of(address.rpartition(":")[0].strip("[]"))


def peer_of(context: Context) -> str:
    """Return the caller of a call: its address or network."""
    peer: str = context.peer()
    return _network_of_peer(peer)


def _service_of(request: bytes) -> str:
    try:
        service: str = pb.HealthCheckRequest.FromString(request).service
    except DecodeError:
        raise RpcAbort(grpc.StatusCode.INVALID_ARGUMENT, "must be a HealthCheckRequest") from None
    return service
