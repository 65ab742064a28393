"""`python -m api_gateway.trials`: one trial, from the body of a request on stdin to its answer on stdout."""

import resource
import signal
import sys
from typing import Final

from api_gateway.trials.answering import answer_trial
from api_gateway.trials.answers import TOO_LARGE

CPU_SECONDS_MAX: Final = 1.0
MEMORY_BYTES_MAX: Final = 256 * 1024 * 1024
"""Of address space, of which 45 MiB are in use when a trial begins."""


def main() -> int:
    """Answer one trial; return the exit code."""
    request = sys.stdin.buffer.read()
    _limit()
    try:
        answer = answer_trial(request)
    except (MemoryError, RecursionError):
        return TOO_LARGE
    sys.stdout.buffer.write(answer)
    return 0


def _limit() -> None:
    """Let the kernel end this process when it takes more than a trial may; it writes no file, and leaves no core."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))
    for limit in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE):
        resource.setrlimit(limit, (0, 0))
    # Counts from now on, in which RLIMIT_CPU cannot: it counts whole seconds, and the start of Python.
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS_MAX)


if __name__ == "__main__":
    sys.exit(main())
