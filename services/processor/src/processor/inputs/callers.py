"""Which services may call the processor: each presents its token and sends events of its own channel."""

import hashlib
import hmac
import time
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

import structlog

from processor.metrics import REFUSED_CALLS
from processor.settings import CallerSettings
from shared.auth.authenticator import is_loopback
from shared.contracts.errors import FatalError
from shared.contracts.event import Channel

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_SCHEME: Final = "Bearer "
_REPORT_SECONDS: Final = 60.0


class Caller(NamedTuple):
    """A known service. It sends events of one channel; None: of any."""

    name: str
    channel: Channel | None


_ANYBODY: Final = Caller("", None)


class Callers:
    """Finds callers by their tokens."""

    def __init__(self, tokens: Iterable[tuple[Caller, str]], clock: Callable[[], float] = time.monotonic) -> None:
        """A caller whose token is empty is left out. Without any token every call is accepted, for any channel."""
        self._known = [(_digest(token), caller) for caller, token in tokens if token]
        self._clock = clock
        self._reported_at = -_REPORT_SECONDS
        self._unreported = 0

    @property
    def asks_for_tokens(self) -> bool:
        """Return True where a call needs a token."""
        return bool(self._known)

    def identify(self, metadata: Iterable[tuple[str, str | bytes]]) -> Caller | None:
        """Return the caller whose token is in the metadata of a call (`authorization: Bearer …`); None: unknown."""
        if not self._known:
            return _ANYBODY
        presented = _digest(next((_token(value) for name, value in metadata if name == "authorization"), ""))
        found: Caller | None = None
        # All tokens are compared, each in constant time, so that the duration says nothing about any of them.
        for digest, caller in self._known:
            if hmac.compare_digest(digest, presented):
                found = caller
        return found

    def note_refusal(self, reason: str, *, peer: str) -> None:
        """Count a refused call, and log once a minute at most."""
        REFUSED_CALLS.labels(reason).inc()
        self._unreported += 1
        if self._clock() - self._reported_at < _REPORT_SECONDS:
            return
        log.warning("calls refused; none of their events was taken", reason=reason, peer=peer, calls=self._unreported)
        self._reported_at, self._unreported = self._clock(), 0


def open_callers(settings: CallerSettings, *, host: str) -> Callers:
    """Return the callers of a processor that listens on `host`.

    Raises:
        FatalError: `host` is reachable from the network and no token is set.
    """
    callers = Callers(
        [
            (Caller("api-gateway", Channel.HTTP), settings.api_gateway_token.get_secret_value()),
            (Caller("grpc-ingest", Channel.GRPC), settings.grpc_ingest_token.get_secret_value()),
            (Caller("operator", None), settings.operator_token.get_secret_value()),
        ]
    )
    if not callers.asks_for_tokens and not is_loopback(host):
        raise FatalError(
            "ETLPAY_PROCESSING_HOST listens beyond this machine and no token is required: "
            "set ETLPAY_API_GATEWAY_TOKEN_FILE and ETLPAY_GRPC_INGEST_TOKEN_FILE"
        )
    return callers


def _token(credentials: str | bytes) -> str:
    if isinstance(credentials, bytes) or not credentials.startswith(_SCHEME):
        return ""
    return credentials.removeprefix(_SCHEME)


def _digest(token: str) -> bytes:
    """Return the digest that is compared: of one length, whatever was presented."""
    return hashlib.sha256(token.encode(errors="replace")).digest()
