"""The operator's HTTP port of a service: /livez, /readyz, /metrics."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

import structlog
import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from shared.contracts.errors import FatalError
from shared.runtime.readiness import Readiness

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_TICK_SECONDS: Final = 1.0


def health_routes(readiness: Readiness, *, verbose: bool = False) -> list[Route]:
    """Return the routes that a load balancer asks; /livez asks nobody.

    Where `verbose` is allowed /readyz?verbose names each dependency: that is for the operator's port.
    """

    async def livez(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(request: Request) -> Response:
        status = 200 if readiness.ready else 503
        headers = {} if readiness.ready else {"Retry-After": "1"}
        body = {"status": "ready" if readiness.ready else "not ready"}
        if verbose and "verbose" in request.query_params:
            return JSONResponse(body | {"dependencies": readiness.report()}, status, headers)
        return JSONResponse(body, status, headers)

    return [Route("/livez", livez), Route("/readyz", readyz)]


def ops_routes(readiness: Readiness) -> list[Route]:
    """Return the routes of the operator's port, which tell of the inside."""

    async def metrics(_: Request) -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    return [*health_routes(readiness, verbose=True), Route("/metrics", metrics)]


class EmbeddedServer(uvicorn.Server):
    """A uvicorn server inside a service: the service owns the signals, and says when to stop."""

    def __init__(self, config: uvicorn.Config, stopping: asyncio.Event) -> None:
        """Once `stopping` is set, requests in flight finish and `serve` returns."""
        super().__init__(config)
        self._stopping = stopping

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signal handlers as they are."""
        yield

    async def main_loop(self) -> None:
        """Keep the header `Date` true. Ten looks a second, as it has them, were half of what idling cost."""
        while not self._stopping.is_set():
            await self.on_tick(0)
            with suppress(TimeoutError):
                async with asyncio.timeout(_TICK_SECONDS):
                    await self._stopping.wait()


async def serve_http(
    config: uvicorn.Config, stopping: asyncio.Event, sockets: list[socket.socket] | None = None
) -> None:
    """Serve until `stopping`, then let requests in flight finish; `sockets` listen already, else one is opened.

    Raises:
        FatalError: the port is taken.
    """
    try:
        await EmbeddedServer(config, stopping).serve(sockets)
    except SystemExit as error:
        # uvicorn has logged why.
        raise FatalError(f"the HTTP server could not start on port {config.port}: is it taken?") from error


async def serve_ops(readiness: Readiness, *, host: str, port: int, stopping: asyncio.Event) -> None:
    """Serve the operator's door until `stopping`; port 0: only wait."""
    if port == 0:
        await stopping.wait()
        return
    app = Starlette(routes=ops_routes(readiness))
    await serve_http(
        uvicorn.Config(app, host=host, port=port, http="httptools", lifespan="off", log_config=None, access_log=False),
        stopping,
    )
