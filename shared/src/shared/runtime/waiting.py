"""Waiting for events."""

import asyncio


async def wait_any(*events: asyncio.Event, seconds_max: float | None = None) -> None:
    """Return when any of the events is set, or after `seconds_max`."""
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, timeout=seconds_max, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
