"""`python -m processor`: run the service until SIGTERM."""

import sys
from functools import partial

from processor.service import serve
from processor.settings import ProcessorSettings
from shared.runtime.lifecycle import run
from shared.runtime.startup import load_settings


def main() -> int:
    """Return the exit code: 0 after a drain, 1 if the processor cannot work here."""
    settings = load_settings(ProcessorSettings, service="processor")
    return run(partial(serve, settings), drain_seconds_max=settings.drain_seconds_max)


if __name__ == "__main__":
    sys.exit(main())
