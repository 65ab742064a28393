"""`python -m grpc_ingest`: serve until SIGTERM."""

import sys
from functools import partial

from grpc_ingest.bootstrap import serve
from grpc_ingest.settings import Settings
from shared.runtime.lifecycle import run
from shared.telemetry import configure_logs


def main() -> int:
    """Return the exit code."""
    settings = Settings.load()
    configure_logs(service="grpc-ingest", level=settings.log_level)
    return run(partial(serve, settings), drain_seconds_max=settings.drain_seconds_max)


if __name__ == "__main__":
    sys.exit(main())
