"""By which names a request may ask for us where no key tells who sends it.

A page of anybody can let a browser on this machine, or in this network, send requests to us. Across origins it can send
only what needs no permission, which says where it comes from; and by a name of its own that it lets point to us (DNS
rebinding) it could read the answers, too. So the name must be ours, and the page must be from here.
"""

import ipaddress
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final, Self

from api_gateway.http.headers import text_of
from api_gateway.http.problems import CROSS_ORIGIN, MISDIRECTED, HttpProblem, ProblemType
from api_gateway.settings import GatewaySettings

ANY: Final = "*"

# A name or an address, and perhaps a port (RFC 9110, section 7.2), without anything that would make it another one.
_HOST: Final = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+\]|[^\[\]:@/?#\s,]+)(?::[0-9]*)?")
_CACHED: Final = 64
_DETAILS: Final = {
    MISDIRECTED: "The header Host names nobody here; the setting ETLPAY_HTTP_ALLOWED_HOSTS can allow it.",
    CROSS_ORIGIN: "A page of another origin sent this; the setting ETLPAY_HTTP_ALLOWED_HOSTS can allow its host.",
}


class Hosts:
    """Our names: those that are given, and every address, because no page can make one its own."""

    def __init__(self, own: Iterable[str], *, allowed: Iterable[str]) -> None:
        """`own` are names that this service has anyhow; those `allowed` may also be where a page comes from."""
        self._allowed = frozenset(name.lower() for name in allowed)
        self._names = self._allowed | {name.lower() for name in own if name}
        # What clients send is nearly always the same; finding out takes microseconds, and is done for every request.
        self.problem_of = lru_cache(maxsize=_CACHED)(self._find_problem)

    @classmethod
    def from_settings(cls, settings: GatewaySettings, *, asks_for_keys: bool) -> Self | None:
        """Return the names to check; None: any will do, because a key is asked for, or because the operator says so."""
        allowed = [name.strip() for name in settings.http_allowed_hosts.split(",") if name.strip()]
        if asks_for_keys or ANY in allowed:
            return None
        return cls(("localhost", settings.http_host), allowed=allowed)

    def _find_problem(self, host: bytes | None, origin: bytes | None) -> ProblemType | None:
        """Return what is wrong with the headers `Host` and `Origin` of a request, or None."""
        return self._problem_in(host if host is None else text_of(host), origin if origin is None else text_of(origin))

    def _problem_in(self, host: str | None, origin: str | None) -> ProblemType | None:
        # A request without Host is no browser's: it cannot be made to leave it out.
        if host is not None and not self._is_ours(_name_of(host)):
            return MISDIRECTED
        if origin is None:
            return None
        from_host = origin.partition("://")[2].lower()
        same = host is not None and from_host == host.strip().lower()
        return None if same or _name_of(from_host) in self._allowed else CROSS_ORIGIN

    def _is_ours(self, name: str) -> bool:
        return name in self._names or _is_address(name)


def refusal_of(kind: ProblemType) -> HttpProblem:
    """Return the refusal of a request with such a problem. It does not repeat what was sent."""
    return HttpProblem(kind, _DETAILS[kind])


def _name_of(host: str) -> str:
    """Return the name in `name:port`, in lower case; empty where it is none."""
    found = _HOST.fullmatch(host.strip())
    return found["name"].lower() if found else ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True
