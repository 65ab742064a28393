"""`etlpay demo`: sends one event through each channel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from etlpay_cli import console
from etlpay_cli.commands.invocation import refuse, require_stack, run
from etlpay_cli.demo import DEMO_SOURCES, Demo, connect
from etlpay_cli.errors import ERROR

if TYPE_CHECKING:
    from etlpay_cli.addresses import Addresses


def demo() -> None:
    """Send one event through each channel, show each answer and record, and fail when one is missing."""
    _, settings, stack = require_stack()
    if missing := run(_demonstrate(stack.addresses(), settings.demo_key.get_secret_value())):
        refuse(f"missing: {', '.join(missing)}", ERROR)
    console.stderr.print("All four channels work.")


async def _demonstrate(addresses: Addresses, api_key: str) -> list[str]:
    """Run the demo and return the sources whose event is missing."""
    missing = []
    async with connect(addresses, api_key) as http:
        demonstration = Demo(addresses, http, api_key)
        with console.progress("sending one event through each channel"):
            async for event in demonstration.events():
                console.show_demo_event(event)
                if event.record is None:
                    missing.append(event.source)
        sources = await demonstration.sources()
    console.show_sources(sources)
    listed = {source["name"] for source in sources}
    return missing + [f"{name} in GET /api/sources" for name in DEMO_SOURCES.values() if name not in listed]
