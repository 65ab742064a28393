"""A limit that callers share fairly: none of them can use all of it."""

import asyncio
import ipaddress
from functools import lru_cache
from typing import Final

import msgspec

from shared.contracts.errors import OverloadedError

_IPV6_NETWORK_BITS: Final = 64


class CapacityLimit:
    """Limits requests, bytes or streams of all callers together, and the share of each.

    A caller may hold at most a fixed multiple of what is free (the dynamic threshold of shared switch buffers,
    Choudhury and Hahne 1998). So one caller alone can hold `share` of the whole, several greedy callers hold equal
    parts, and some capacity stays free for the next one. A caller that holds nothing takes no memory.

    >>> streams = CapacityLimit(4, share=0.75)
    >>> for _ in range(3):
    ...     streams.acquire("greedy")
    >>> streams.acquire("other")
    """

    def __init__(self, size: int, *, share: float) -> None:
        """`share` is more than 0. With 1 a caller may hold everything."""
        self._free = size
        self._per_free = share / (1 - share) if share < 1 else float("inf")
        self._held: dict[str, int] = {}
        self._waiting: list[_Waiter] = []

    @property
    def free(self) -> int:
        """How much is left."""
        return self._free

    def held(self, caller: str) -> int:
        """Return how much a caller holds."""
        return self._held.get(caller, 0)

    def acquire(self, caller: str, amount: int = 1) -> None:
        """Take `amount`; give it back with `release`. While nobody holds anything, any amount is granted.

        Raises:
            OverloadedError: too little is free, or the caller holds its share.
        """
        free = self._free
        held = self._held.get(caller, 0)
        left = free - amount
        if (left < 0 or (held and held + amount > self._per_free * left)) and self._held:
            raise OverloadedError("the limit is reached")
        self._free = left
        self._held[caller] = held + amount

    def try_acquire(self, caller: str, amount: int = 1) -> bool:
        """Take `amount` if that needs no waiting; return whether it was taken."""
        if self._waiting:
            return False
        try:
            self.acquire(caller, amount)
        except OverloadedError:
            return False
        return True

    def overdraw(self, caller: str, amount: int) -> None:
        """Take `amount` even beyond the limit: it is in use already. Give it back with `release`."""
        self._free -= amount
        self._held[caller] = self._held.get(caller, 0) + amount

    def release(self, caller: str, amount: int = 1) -> None:
        """Give back what was taken."""
        self._free += amount
        left = self._held[caller] - amount
        if left:
            self._held[caller] = left
        else:
            del self._held[caller]
        if self._waiting:
            self._serve_waiting()

    async def wait(self, caller: str, amount: int = 1, *, seconds_max: float | None = None) -> None:
        """Take `amount` as soon as enough is free, callers that hold least first; give it back with `release`.

        The user of this class limits the number of waiters. Raises OverloadedError after `seconds_max`.
        """
        if self.try_acquire(caller, amount):
            return
        waiter = _Waiter(caller, amount, asyncio.get_running_loop().create_future())
        self._waiting.append(waiter)
        self._serve_waiting()
        if waiter.served.done():
            return
        try:
            async with asyncio.timeout(seconds_max):
                await waiter.served
        except BaseException as error:
            self._forget(waiter)
            if isinstance(error, TimeoutError):
                raise OverloadedError("the limit is reached") from error
            raise

    def _forget(self, waiter: "_Waiter") -> None:
        """Remove a waiter; release what was granted to it meanwhile."""
        if waiter in self._waiting:
            self._waiting.remove(waiter)
            self._serve_waiting()
        elif waiter.served.done() and not waiter.served.cancelled():
            self.release(waiter.caller, waiter.amount)

    def _serve_waiting(self) -> None:
        """Grant what waiters ask for, until one asks for more than is free: nobody overtakes it."""
        for waiter in sorted(self._waiting, key=lambda waiter: self._held.get(waiter.caller, 0)):
            if waiter.served.cancelled():
                # Its task is about to remove it.
                continue
            try:
                self.acquire(waiter.caller, waiter.amount)
            except OverloadedError:
                if waiter.amount > self._free:
                    return
                continue
            self._waiting.remove(waiter)
            waiter.served.set_result(None)


class Holding:
    """The part of a limit that one user holds, until `release`."""

    __slots__ = ("_amount", "_caller", "_capacity")

    def __init__(self, capacity: CapacityLimit, caller: str) -> None:
        """Nothing is held yet."""
        self._capacity = capacity
        self._caller = caller
        self._amount = 0

    def acquire(self, amount: int) -> None:
        """Take more. Raises OverloadedError."""
        self._capacity.acquire(self._caller, amount)
        self._amount += amount

    async def wait(self, amount: int, *, seconds_max: float | None = None) -> None:
        """Take more as soon as enough is free. Raises OverloadedError after `seconds_max`."""
        if not self._capacity.try_acquire(self._caller, amount):
            await self._capacity.wait(self._caller, amount, seconds_max=seconds_max)
        self._amount += amount

    def correct(self, more: int) -> None:
        """Take `more` even beyond the limit, or give back if it is negative: the estimate before was wrong."""
        if more > 0:
            self._capacity.overdraw(self._caller, more)
        elif more < 0:
            self._capacity.release(self._caller, -more)
        self._amount += more

    def release(self) -> None:
        """Give everything back."""
        if self._amount:
            self._capacity.release(self._caller, self._amount)
            self._amount = 0


class _Waiter(msgspec.Struct, eq=False):
    caller: str
    amount: int
    served: asyncio.Future[None]


@lru_cache(maxsize=4_096)
def network_of(address: str) -> str:
    """Return what counts as one caller: an IPv4 address, or the /64 network of an IPv6 address.

    An IPv6 host may use any address of its /64. Text that is no address is returned as it is.
    """
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((found, _IPV6_NETWORK_BITS), strict=False))
