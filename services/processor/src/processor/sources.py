"""The ids of sources: looked up once, remembered for those that were used last."""

from collections.abc import Iterable
from collections.abc import Set as AbstractSet

from processor.database import Connections
from processor.sqlstates import Fault, OutdatedError
from processor.statements import ADD_SOURCES, FIND_SOURCES


class SourceIds:
    """Knows the row of each source that writes, and makes one for a new one."""

    def __init__(self, connections: Connections, *, names_max: int) -> None:
        """Remember `names_max` sources at most: a producer may name any number of them."""
        self._connections = connections
        self._names_max = names_max
        # The one that was used last is at the end.
        self._ids: dict[str, int] = {}
        self.learned = 0
        """How often a source was looked up, so that it grows with each new one."""

    async def of(self, names: AbstractSet[str]) -> dict[str, int]:
        """Return the id of each of the names; each has a row then, committed. Sources never block one another.

        Raises:
            OutdatedError: a source was erased at this very moment. Else as `Connections.taken`.
        """
        ids: dict[str, int] = {}
        unknown: list[str] = []
        for name in names:
            known = self._ids.pop(name, None)
            if known is None:
                unknown.append(name)
            else:
                ids[name] = self._ids[name] = known
        if unknown:
            ids |= await self._learn(sorted(unknown))
        return ids

    def forget(self, names: Iterable[str]) -> None:
        """Look these up anew when they are needed next."""
        for name in set(names):
            self._ids.pop(name, None)

    async def _learn(self, names: list[str]) -> dict[str, int]:
        async with self._connections.taken() as connection:
            await connection.execute(ADD_SOURCES, names)
            found = {row["name"]: row["id"] for row in await connection.fetch(FIND_SOURCES, names)}
        if len(found) < len(names):
            raise OutdatedError(Fault.SOURCES)
        self._ids |= found
        self.learned += len(found)
        while len(self._ids) > self._names_max:
            del self._ids[next(iter(self._ids))]
        return found
