"""How long a service takes to answer, and which answers come too late."""

import contextlib
import time
from collections.abc import Iterator
from typing import Final

from faults.harness.journal import Journal
from faults.harness.world import Place

# Three seconds for the processor, five for the confirmation of the broker, and what a busy machine takes besides.
ANSWER_SECONDS_MAX: Final = 12.0
# A batch of HTTP waits ten seconds before that where the backlog is full.
BATCH_SECONDS_MAX: Final = ANSWER_SECONDS_MAX + 10.0
# Ten seconds for all that a question may wait for, and two in which a dead connection is given up.
READING_SECONDS_MAX: Final = 15.0
# So long that what is later is known to be, and not sent again unseen.
CLIENT_SECONDS_MAX: Final = BATCH_SECONDS_MAX + 3.0
_SERVICES: Final = {"http": "api-gateway", "reading": "api-gateway", "grpc": "grpc-ingest"}


@contextlib.contextmanager
def timed(
    world: Place, journal: Journal, channel: str, *, seconds_max: float | None = ANSWER_SECONDS_MAX
) -> Iterator[None]:
    """Time a call; note one that took longer than `seconds_max` though the service itself was not disturbed.

    Whatever is frozen or cut off behind a service, its caller is answered in time. Without
    `seconds_max` the call is only timed.
    """
    begun = time.monotonic()
    try:
        yield
    finally:
        seconds = time.monotonic() - begun
        journal.longest_seconds[channel] = max(seconds, journal.longest_seconds.get(channel, 0.0))
        if seconds_max is not None and seconds > seconds_max and not world.disturbed_since(_SERVICES[channel], begun):
            journal.calls[
                f"unexpected wait for an answer of {_SERVICES[channel]}: longer than {seconds_max:.0f} s"
            ] += 1
