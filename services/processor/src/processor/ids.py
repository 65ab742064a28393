"""Ids for the ledger, taken in blocks: no round trip per batch, and events keep the order in which they were given."""

import asyncio
from collections import deque
from typing import Final

from processor.database import Connections
from processor.statements import NEXT_ID_BLOCKS, SKIP_ID_BLOCKS

BLOCK_IDS: Final = 1_000


class LedgerIds:
    """Gives out ids that no other processor gives out. What a process has not used when it ends stays unused."""

    def __init__(self, connections: Connections) -> None:
        """Nothing is taken before it is needed."""
        self._connections = connections
        self._blocks: deque[range] = deque()
        self._left = 0
        self._lock = asyncio.Lock()

    async def take(self, count: int) -> list[int]:
        """Return `count` new ids, ascending. Raises as `Connections.taken`."""
        async with self._lock:
            if self._left < count:
                await self._fetch(count - self._left)
            ids: list[int] = []
            while len(ids) < count:
                block = self._blocks.popleft()
                wanted = count - len(ids)
                ids += block[:wanted]
                if block[wanted:]:
                    self._blocks.appendleft(block[wanted:])
            self._left -= count
            return ids

    async def skip_used(self) -> None:
        """Give out no id that the ledger holds already: a fail-over may take back what a sequence had given.

        Raises as `Connections.taken`.
        """
        async with self._lock:
            self._blocks.clear()
            self._left = 0
            async with self._connections.taken() as connection:
                await connection.execute(SKIP_ID_BLOCKS, BLOCK_IDS)

    async def _fetch(self, count: int) -> None:
        blocks = -(-count // BLOCK_IDS)
        async with self._connections.taken() as connection:
            numbers = sorted(row[0] for row in await connection.fetch(NEXT_ID_BLOCKS, blocks))
        self._blocks += [range((number - 1) * BLOCK_IDS + 1, number * BLOCK_IDS + 1) for number in numbers]
        self._left += blocks * BLOCK_IDS
