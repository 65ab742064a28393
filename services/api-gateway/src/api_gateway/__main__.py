"""`python -m api_gateway`."""

import sys
from functools import partial

from api_gateway.http.workers import serve_with_workers
from api_gateway.settings import GatewaySettings
from shared.runtime.lifecycle import run
from shared.runtime.startup import load_settings


def main() -> int:
    """Serve until SIGTERM; return the exit code."""
    settings = load_settings(GatewaySettings, service="api-gateway")
    serve = serve_with_workers
    if settings.http_workers == 1 or settings.http_socket is not None:
        from api_gateway.service import serve  # noqa: PLC0415 - saves 55 MiB in the process that only supervises workers
    return run(partial(serve, settings), drain_seconds_max=settings.drain_seconds_max)


if __name__ == "__main__":
    sys.exit(main())
