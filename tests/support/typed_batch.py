"""A process that writes one batch with typed rows, and is killed at a failpoint: `python -m support.typed_batch`."""

import asyncio
import os
from pathlib import Path

from processor.ledger.database import Connections
from processor.ledger.store import Store
from processor.programs.active import ActiveSet
from processor.settings import ProcessorSettings
from shared.contracts.event import now
from shared.failpoints import arm
from support.typed import BANK, SHOP, account, active_pipeline, payment, transformed

EVENTS = [event for number in range(5) for event in (payment(number, 1, parts=["x"]), account(number, 1))]


async def main() -> None:
    """Write the batch."""
    given = os.environ  # noqa: TID251 - a program of the tests' own
    settings = ProcessorSettings(postgres_url=given["URL"], postgres_password=given["PASSWORD"])
    connections = await Connections.open(settings, name="killed")
    store = Store(connections, copy_events_min=int(given["COPY_EVENTS_MIN"]))
    pipelines = ActiveSet([active_pipeline(SHOP), active_pipeline(BANK, number=2)])
    arm(given["POINT"], Path(given["LOG"]))
    await store.write([transformed(event, pipelines) for event in EVENTS], processed_at=now())


if __name__ == "__main__":
    asyncio.run(main())
