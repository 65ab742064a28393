"""The operator's HTTP door of a service: /livez, /readyz, /metrics."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

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


def ops_routes(readiness: Readiness) -> list[Route]:
    """Return the routes; /livez asks nobody, /readyz?verbose names each dependency."""

    async def livez(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(request: Request) -> Response:
        status = 200 if readiness.ready else 503
        headers = {} if readiness.ready else {"Retry-After": "1"}
        body = {"status": "ready" if readiness.ready else "not ready"}
        if "verbose" in request.query_params:
            return JSONResponse(body | {"dependencies": readiness.report()}, status, headers)
        return JSONResponse(body, status, headers)

    async def metrics(_: Request) -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    return [Route("/livez", livez), Route("/readyz", readyz), Route("/metrics", metrics)]


class EmbeddedServer(uvicorn.Server):
    """A uvicorn server inside a service: the service owns the signals."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signal handlers as they are."""
        yield


async def serve_http(config: uvicorn.Config, stopping: asyncio.Event) -> None:
    """Serve until `stopping`, then let requests in flight finish. Raises FatalError where the port is taken."""
    server = EmbeddedServer(config)

    async def watch() -> None:
        await stopping.wait()
        server.should_exit = True

    async with asyncio.TaskGroup() as group:
        watching = group.create_task(watch())
        try:
            await server.serve()
        except SystemExit as error:
            # uvicorn has logged why.
            raise FatalError(f"the HTTP server could not start on port {config.port}: is it taken?") from error
        watching.cancel()


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
