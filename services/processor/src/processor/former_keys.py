"""Keys of before derived keys had a name space of their own: what was stored under one then is the same event now.

Only a ledger that held events at that upgrade is asked, and only for events whose key is derived: those of a file that
is dropped again, of a message that is delivered again, of a file that is read in place.
"""

import re
from collections.abc import Sequence
from typing import Final
from uuid import UUID

from msgspec.structs import replace

from processor.database import Connections
from processor.rows import Entry
from processor.statements import FIND_FORMER, HAD_EVENTS
from shared.contracts.event import Envelope, identify

_REVISION: Final = "0003"
# The same text then, or the same behind what was put before it since: the kind of an item's key, the name of a file.
_SAME: Final = re.compile(r"(?:file|mid|sha256):.*", re.DOTALL)
_ITEM: Final = re.compile(r"item:(?P<key>.*)", re.DOTALL)
_ROW: Final = re.compile(r"row:[0-9a-f]{16}:(?P<key>[0-9a-f]{32}:\d+)")


class FormerKeys:
    """Finds events under the keys that they were stored with."""

    def __init__(self, connections: Connections) -> None:
        """Whether there can be any is asked once."""
        self._connections = connections
        self._any: bool | None = None

    async def apply(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        """Return the entries; those that were stored under a former key have it. Raises as `Connections.taken`."""
        if self._any is None:
            async with self._connections.taken() as connection:
                self._any = bool(await connection.fetchval(HAD_EVENTS, _REVISION))
        if not self._any:
            return entries
        former = {place: before for place, entry in enumerate(entries) if (before := _as_before(entry.event))}
        if not former:
            return entries
        ids = [event.event_id for event in former.values()]
        async with self._connections.taken() as connection:
            stored = {(row["event_id"], row["channel"]) for row in await connection.fetch(FIND_FORMER, ids)}
        known = {place: event for place, event in former.items() if (event.event_id, event.channel) in stored}
        return [replace(entry, event=known[place]) if place in known else entry for place, entry in enumerate(entries)]


def former_key(key: str) -> str | None:
    """Return what a derived key was before, or None where there was none like it."""
    if _SAME.fullmatch(key):
        return key
    if item := _ITEM.fullmatch(key):
        return item["key"]
    row = _ROW.fullmatch(key)
    return f"row:{row['key']}" if row else None


def _as_before(event: Envelope) -> Envelope | None:
    key = former_key(event.idempotency_key) if event.derived else None
    if key is None:
        return None
    event_id: UUID = identify(event.source, key)
    return replace(event, event_id=event_id, idempotency_key=key, derived=False)
