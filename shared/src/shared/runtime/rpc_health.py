"""Health checking (`grpc.health.v1`) with limits of its own: probes and watchers take no other call's place."""

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

# The longest name of a service, with room: the library would read megabytes.
_REQUEST_BYTES_MAX: Final = 4 * 1024
_READ_AT_ONCE: Final = 2

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]


class RpcAbort(EtlPayError):  # noqa: N818 - an answer, not an error
    """The call ends with a code instead of a response."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        """`details` are for a reader."""
        super().__init__(details)
        self.code = code
        self.details = details


class SideCalls:
    """The bounds of calls that store nothing: health checking and reflection. Each ends in time, and reads little."""

    def __init__(
        self,
        *,
        calls_max: int,
        call_seconds_max: float,
        stream_seconds_max: float,
        share: float,
        may_stream: Callable[[Context], bool] = lambda _: True,
    ) -> None:
        """Those from one address may be `share` of `calls_max`; a stream is for callers that `may_stream`."""
        self._calls = CapacityLimit(calls_max, share=share)
        self._reading = asyncio.Semaphore(_READ_AT_ONCE)
        self._call_seconds_max = call_seconds_max
        self._stream_seconds_max = stream_seconds_max
        self._may_stream = may_stream

    async def answer_one(self, context: Context, answer: Callable[[bytes], Any]) -> Any:  # noqa: ANN401 - a message
        """Return the response to the request of a call that has one."""
        async with self._counted(context, seconds_max=self._call_seconds_max):
            return answer(await self.read(context) or b"")

    async def serve_stream(self, context: Context, serve: Callable[[], Awaitable[None]]) -> None:
        """Serve a stream until it ends, or has lasted for long enough: then it ends well, and may be opened again."""
        async with self._counted(context, seconds_max=self._stream_seconds_max, stream=True):
            await serve()

    async def read(self, context: Context) -> bytes | None:
        """Return the next request, None after the last. Raises RpcAbort where it does not come, or is large."""
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
    """Says whether calls are served, to who asks (`Check`) and who wants to be told (`Watch`)."""

    def __init__(self, services: Sequence[str], calls: SideCalls) -> None:
        """`services` besides the whole server, all of which serve at first."""
        self._calls = calls
        self._services = frozenset(("", *services))
        self._status = pb.HealthCheckResponse.SERVING
        self._changed = asyncio.Event()
        self._closed = False

    def set(self, *, serving: bool) -> None:
        """Say from now on whether calls are served; after `close` it stays as it is."""
        status = pb.HealthCheckResponse.SERVING if serving else pb.HealthCheckResponse.NOT_SERVING
        if not self._closed and status != self._status:
            self._status = status
            changed, self._changed = self._changed, asyncio.Event()
            changed.set()

    def close(self) -> None:
        """Say that no calls are served any more."""
        self.set(serving=False)
        self._closed = True

    def handler(self) -> grpc.GenericRpcHandler:
        """Return the handlers to add to a server.

        Both are streams to the library, which would wait for the request of another call before anybody could give up.
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
        """Answer whether a service is served."""

        def answer(request: bytes) -> pb.HealthCheckResponse:
            service = _service_of(request)
            if service not in self._services:
                raise RpcAbort(grpc.StatusCode.NOT_FOUND, "there is no such service")
            return pb.HealthCheckResponse(status=self._status)

        response: pb.HealthCheckResponse = await self._calls.answer_one(context, answer)
        return response

    async def watch(self, _requests: object, context: Context) -> None:
        """Tell whether a service is served, now and whenever that changes."""

        async def tell() -> None:
            known = _service_of(await self._calls.read(context) or b"") in self._services
            while True:
                changed = self._changed
                status = self._status if known else pb.HealthCheckResponse.SERVICE_UNKNOWN
                await context.write(pb.HealthCheckResponse(status=status))
                await changed.wait()

        await self._calls.serve_stream(context, tell)


@lru_cache(maxsize=1_024)
def _network_of_peer(peer: str) -> str:
    """Return what callers are told apart by, of `ipv4:192.0.2.1:50000`, `ipv6:%5B2001:db8::1%5D:50000` or `unix:`."""
    kind, _, address = unquote(peer).partition(":")
    if kind not in {"ipv4", "ipv6"}:
        return kind
    return network_of(address.rpartition(":")[0].strip("[]"))


def peer_of(context: Context) -> str:
    """Return the address that a call comes from, or its network."""
    peer: str = context.peer()
    return _network_of_peer(peer)


def _service_of(request: bytes) -> str:
    try:
        service: str = pb.HealthCheckRequest.FromString(request).service
    except DecodeError:
        raise RpcAbort(grpc.StatusCode.INVALID_ARGUMENT, "must be a HealthCheckRequest") from None
    return service
