"""The operator's HTTP port of a service: /livez, /readyz, /metrics."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from shared.contracts.errors import FatalError
from shared.runtime.readiness import Readiness
from shared.runtime.waiting import wait_any

_TICK_SECONDS: Final = 1.0
_SHUTDOWN_SECONDS_MAX: Final = 1


def health_routes(readiness: Readiness, *, verbose: bool = False) -> list[Route]:
    """Return the routes that a load balancer asks; /livez checks nothing.

    With `verbose`, /readyz?verbose names each dependency: that is for the operator's port.
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
    """Return the routes of the operator's port."""

    async def metrics(_: Request) -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    return [*health_routes(readiness, verbose=True), Route("/metrics", metrics)]


class HttpServer:
    """A uvicorn server as a part of a service, which handles the signals and says when to stop."""

    def __init__(self, config: uvicorn.Config, sockets: list[socket.socket] | None = None) -> None:
        """`sockets` listen already; without them one is opened."""
        self._config = config
        self._sockets = sockets
        self._server = _EmbeddedServer(config)

    @property
    def port(self) -> int | None:
        """The port that the server listens on, or None while it does not."""
        return self._server.servers[0].sockets[0].getsockname()[1] if self._server.started else None

    async def run(self) -> None:
        """Serve until `close`, then let requests in flight finish.

        Raises:
            FatalError: the TLS files cannot be used, or the port is taken.
        """
        try:
            self._config.load()
        except OSError as error:
            raise FatalError(f"the TLS files cannot be used ({type(error).__name__})") from error
        try:
            await self._server.serve(self._sockets)
        # uvicorn exits where it cannot listen, and has logged why.
        except (OSError, SystemExit) as error:
            raise FatalError(f"the HTTP server could not start on port {self._config.port}: is it taken?") from error

    def close(self) -> None:
        """Accept no more connections."""
        self._server.closing.set()


class _EmbeddedServer(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.closing = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signal handlers as they are."""
        yield

    async def main_loop(self) -> None:
        """Keep the header `Date` current, where there is one.

        uvicorn's own loop ticks ten times a second: half of what idling cost.
        """
        while self.config.date_header and not self.closing.is_set():
            await self.on_tick(0)
            await wait_any(self.closing, seconds_max=_TICK_SECONDS)
        await self.closing.wait()


class OpsServer(HttpServer):
    """The operator's port as a part of a service. It comes first, so that the whole drain can be watched."""

    def __init__(self, readiness: Readiness, *, host: str, port: int) -> None:
        """With port 0 nothing listens."""
        app = Starlette(routes=ops_routes(readiness))
        super().__init__(
            uvicorn.Config(
                app,
                host=host,
                port=port,
                http="httptools",
                lifespan="off",
                log_config=None,
                access_log=False,
                # Nobody needs the time of an answer here, and keeping it costs a wake-up each second.
                date_header=False,
                # A client that does not read must not hold up the end of the drain.
                timeout_graceful_shutdown=_SHUTDOWN_SECONDS_MAX,
            )
        )

    async def run(self) -> None:
        """Serve until `close`. Raises FatalError where the port is taken."""
        if self._config.port:
            await super().run()
        else:
            await self._server.closing.wait()
