"""Finds events that were stored before derived keys had a name space of their own.

Only a ledger that held events at that upgrade is asked, and only for events whose key is derived: rows of a file that
is dropped again or read in place, and messages that are delivered again.
"""

import re
from collections.abc import Sequence
from typing import Final
from uuid import UUID

from msgspec.structs import replace

from processor.ledger.database import Connections
from processor.ledger.rows import Processed
from processor.ledger.statements import FIND_FORMER, HAD_EVENTS
from shared.contracts.event import Envelope, identify

_REVISION: Final = "0003"
# The former key is the same text, or the text without the prefix that it has now.
_SAME: Final = re.compile(r"(?:file|mid|sha256):.*", re.DOTALL)
_ITEM: Final = re.compile(r"item:(?P<key>.*)", re.DOTALL)
_ROW: Final = re.compile(r"row:[0-9a-f]{16}:(?P<key>[0-9a-f]{32}:\d+)")


class FormerKeys:
    """Replaces keys by the former keys under which events are stored."""

    def __init__(self, connections: Connections) -> None:
        """Ask the ledger once whether it can hold any."""
        self._connections = connections
        self._asked = False
        self.possible = True

    async def apply(self, batch: Sequence[Processed]) -> Sequence[Processed]:
        """Return the batch; events that are stored under a former key have that key. Raises as `Connections.taken`."""
        if not self._asked:
            async with self._connections.taken() as connection:
                self.possible = bool(await connection.fetchval(HAD_EVENTS, _REVISION))
            self._asked = True
        if not self.possible:
            return batch
        former = {position: before for position, each in enumerate(batch) if (before := _former(each.event))}
        if not former:
            return batch
        ids = [event.event_id for event in former.values()]
        async with self._connections.taken() as connection:
            stored = {(row["event_id"], row["channel"]) for row in await connection.fetch(FIND_FORMER, ids)}
        known = {position: event for position, event in former.items() if (event.event_id, event.channel) in stored}
        return [
            replace(each, event=known[position]) if position in known else each for position, each in enumerate(batch)
        ]


def former_key(key: str) -> str | None:
    """Return the former text of a derived key, or None where such keys had none."""
    if _SAME.fullmatch(key):
        return key
    if item := _ITEM.fullmatch(key):
        return item["key"]
    row = _ROW.fullmatch(key)
    return f"row:{row['key']}" if row else None


def _former(event: Envelope) -> Envelope | None:
    key = former_key(event.idempotency_key) if event.derived else None
    if key is None:
        return None
    event_id: UUID = identify(event.source, key)
    return replace(event, event_id=event_id, idempotency_key=key, derived=False)
