"""The turn of a query: its part of the limits, from before it is asked until its answer is read."""

from contextvars import ContextVar
from types import TracebackType
from typing import Final, Self

from shared.runtime.limits import CapacityLimit, Holding

CURRENT: Final[ContextVar["Turn"]] = ContextVar("etlpay.turn")
"""The turn of the query that is being served. What reads the ledger is far from what knows when an answer is read."""


class Turns:
    """How many queries there are at once. Of those whose record is larger than a page may be there is only one."""

    def __init__(self, number_max: int, *, share: float, seconds_max: float) -> None:
        """A query waits `seconds_max` at most; of all turns one caller may have `share`."""
        self.queries: Final = CapacityLimit(number_max, share=share)
        self.large: Final = CapacityLimit(1, share=1)
        self.seconds_max: Final = seconds_max


class Turn:
    """A context that begins when it is the query's turn, and ends when its answer is read. Raises OverloadedError."""

    def __init__(self, turns: Turns, counted_as: str) -> None:
        """`counted_as` is the caller."""
        self._turns = turns
        self._query = Holding(turns.queries, counted_as)
        self._large = Holding(turns.large, counted_as)
        self._grown = False

    async def __aenter__(self) -> Self:
        """Wait for the turn."""
        await self._query.wait(1, seconds_max=self._turns.seconds_max)
        CURRENT.set(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let the next one go on."""
        self._large.release()
        self._query.release()

    async def grow(self) -> None:
        """Wait until a large record may be in memory. Raises OverloadedError."""
        if not self._grown:
            await self._large.wait(1, seconds_max=self._turns.seconds_max)
            self._grown = True
