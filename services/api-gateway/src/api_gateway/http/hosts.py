"""Checks of the headers Host and Origin, for a gateway without API keys.

Any web page can make a browser on this machine, or in this network, send requests to the gateway. Across origins such a
request carries the header Origin. With a host name of its own that resolves to the gateway (DNS rebinding) the page
could read the responses too. So Host must be one of our names, and Origin one of our hosts.
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

# A name or an address with an optional port (RFC 9110, section 7.2), and nothing else.
_HOST: Final = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+\]|[^\[\]:@/?#\s,]+)(?::[0-9]*)?")
_CACHED: Final = 64
_DETAILS: Final = {
    MISDIRECTED: "The header Host names nobody here; the setting ETLPAY_HTTP_ALLOWED_HOSTS can allow it.",
    CROSS_ORIGIN: "A page of another origin sent this; the setting ETLPAY_HTTP_ALLOWED_HOSTS can allow its host.",
}


class Hosts:
    """The hosts by which a request may address the gateway: some names, and every IP address, which no page can own."""

    def __init__(self, own: Iterable[str], *, allowed: Iterable[str]) -> None:
        """`own` are names of this service; `allowed` are more names, of which pages may also come."""
        self._allowed = frozenset(name.lower() for name in allowed)
        self._names = self._allowed | {name.lower() for name in own if name}
        # Every request is checked, and clients nearly always send the same.
        self.problem_of = lru_cache(maxsize=_CACHED)(self._find_problem)

    @classmethod
    def from_settings(cls, settings: GatewaySettings, *, asks_for_keys: bool) -> Self | None:
        """Return the hosts to check, or None if nothing is checked: there are API keys, or the setting allows any."""
        allowed = [name.strip() for name in settings.http_allowed_hosts.split(",") if name.strip()]
        if asks_for_keys or ANY in allowed:
            return None
        return cls(("localhost", settings.http_host), allowed=allowed)

    def _find_problem(self, host: bytes | None, origin: bytes | None) -> ProblemType | None:
        """Return the problem of the headers `Host` and `Origin` of a request, or None."""
        return self._problem_in(host if host is None else text_of(host), origin if origin is None else text_of(origin))

    def _problem_in(self, host: str | None, origin: str | None) -> ProblemType | None:
        # A request without Host is no browser's: browsers always send it.
        if host is not None and not self._is_ours(_name_of(host)):
            return MISDIRECTED
        if origin is None:
            return None
        from_host = origin.partition("://")[2].lower()
        same = host is not None and from_host == host.strip().lower()
        return None if same or _name_of(from_host) in self._allowed else CROSS_ORIGIN

    def _is_ours(self, name: str) -> bool:
        return name in self._names or _is_address(name)


def host_refusal(problem_type: ProblemType) -> HttpProblem:
    """Return the refusal of a request with such a problem. It does not repeat what was sent."""
    return HttpProblem(problem_type, _DETAILS[problem_type])


def _name_of(host: str) -> str:
    """Return the name in `name:port`, in lower case; empty if there is none."""
    found = _HOST.fullmatch(host.strip())
    return found["name"].lower() if found else ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True
