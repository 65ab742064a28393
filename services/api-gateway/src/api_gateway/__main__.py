"""`python -m api_gateway`."""

import sys
from functools import partial

from api_gateway.bootstrap import serve
from api_gateway.settings import GatewaySettings
from shared.runtime.lifecycle import run
from shared.runtime.startup import load_settings


def main() -> int:
    """Serve until SIGTERM; return the exit code."""
    settings = load_settings(GatewaySettings, service="api-gateway")
    return run(partial(serve, settings), drain_seconds_max=settings.drain_seconds_max)


if __name__ == "__main__":
    sys.exit(main())
