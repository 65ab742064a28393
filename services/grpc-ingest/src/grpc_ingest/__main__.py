"""`python -m grpc_ingest`: serve until SIGTERM."""

import sys
from functools import partial

from grpc_ingest.service import serve
from grpc_ingest.settings import Settings
from shared.runtime.lifecycle import run
from shared.runtime.startup import load_settings


def main() -> int:
    """Return the exit code."""
    settings = load_settings(Settings, service="grpc-ingest")
    return run(partial(serve, settings), drain_seconds_max=settings.drain_seconds_max)


if __name__ == "__main__":
    sys.exit(main())
