"""The callers and their API keys. The file of keys is read again when it changes; while it cannot be, keys go stale."""

import ipaddress
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final, Literal, get_args

import prometheus_client
import structlog

from shared.auth.files import AccessFileError, ReloadedFile
from shared.auth.keys import KEYS_FILE, RIGHTS, ApiKey, Right, digest_of
from shared.auth.rate import Bucket, Clock
from shared.auth.scopes import EVERY_SOURCE, OutOfScopeError, RightMissingError, Scope
from shared.contracts.errors import EtlPayError, FatalError, UnavailableError
from shared.contracts.event import now
from shared.settings import AccessSettings

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

KEYS: Final = "api_keys"
"""The dependency that a service with API keys has: a file of them that can be read."""

Reason = Literal["missing", "unknown", "expired", "right", "source", "stale", "host", "origin"]

_LOOK_SECONDS: Final = 1.0
_LOG_SECONDS: Final = 10.0
_REFUSED_NAMES_MAX: Final = 10
_ADDRESSES_MAX: Final = 10_000
_STALE: Final = prometheus_client.Gauge(
    "etlpay_api_keys_stale_seconds", "How long ago the API keys in use could be read, where they cannot be now; else 0."
)
_REFUSED: Final = prometheus_client.Counter(
    "etlpay_access_refused", "Requests, calls and events of batches refused for who sent them, by reason.", ["reason"]
)
_REFUSED_OF: Final = {reason: _REFUSED.labels(reason) for reason in get_args(Reason)}


class UnauthenticatedError(EtlPayError):
    """There is no valid API key. Callers do not learn whether it is missing, unknown, revoked or expired."""


class Refusals:
    """Counts refusals, and logs those of ten seconds in one line. No line and no label holds a key."""

    def __init__(self, clock: Clock) -> None:
        """Begin with none."""
        self._clock = clock
        self._unlogged: Counter[Reason] = Counter()
        self._names: set[str] = set()
        self._log_again_at = clock()

    def count(self, reason: Reason, name: str = "") -> None:
        """Count one; `name` is that of the key, where it is known whose it is."""
        _REFUSED_OF[reason].inc()
        self._unlogged[reason] += 1
        if name and len(self._names) < _REFUSED_NAMES_MAX:
            self._names.add(name)
        self.log()

    def log(self) -> None:
        """Log what was not logged yet, unless a line was written a moment ago."""
        now = self._clock()
        if not self._unlogged or now < self._log_again_at:
            return
        log.warning("refused for who sent it", reasons=dict(self._unlogged), key_names=sorted(self._names))
        self._log_again_at = now + _LOG_SECONDS
        self._unlogged.clear()
        self._names.clear()


class Caller:
    """The owner of a key: its name, its rights, its sources and its rate."""

    def __init__(  # noqa: PLR0913 - the members of a key
        self,
        name: str,
        *,
        scope: Scope,
        refusals: Refusals,
        rights: Sequence[Right] = RIGHTS,
        expires: datetime | None = None,
        bucket: Bucket | None = None,
    ) -> None:
        """Without `expires` it is for ever, without a bucket there is no rate."""
        self.name = name
        self.scope = scope
        self.expires = expires
        self._names, self._beginnings = scope.names, scope.beginnings
        self._rights = frozenset(rights)
        # Asked of every request that sends; `check_right` says no.
        self.may_send = "send" in self._rights
        self._refusals = refusals
        self._bucket = bucket

    def check_right(self, right: Right) -> None:
        """Raise RightMissingError where the key was not made for this."""
        if right not in self._rights:
            self._refusals.count("right", self.name)
            raise RightMissingError(right)

    def check_source(self, source: str, pointer: str = "/source_name") -> None:
        """Raise OutOfScopeError, which names the `pointer`, where the source is outside the key's scope."""
        # As `Scope.covers` does, without the call: this is asked for every event.
        if source not in self._names and not source.startswith(self._beginnings):
            self._refusals.count("source", self.name)
            raise OutOfScopeError(pointer)

    def spend(self, events: int) -> None:
        """Charge the rate for events. Raises RateExceededError, and charges nothing, where it is used up."""
        if self._bucket is not None:
            self._bucket.spend(events)

    def check_rate(self) -> None:
        """Raise RateExceededError where the rate is used up. Nothing is charged: the request has not been read."""
        self.spend(0)

    def overdraw(self, events: int) -> None:
        """Charge the rate for events of a request that was accepted before their number was known."""
        if self._bucket is not None:
            self._bucket.overdraw(events)


class Access:
    """Knows the callers. A change of the file of keys counts within a second.

    While the file cannot be used the last good keys are valid for `stale_seconds` more, and then no request is: a key
    must not stay valid because the edit that revokes it broke the file, or because the file was deleted.
    """

    def __init__(
        self,
        keys_file: Path | None,
        *,
        rate: float = 0,
        stale_seconds: float = 60.0,
        clock: Clock = time.monotonic,
        wall_clock: Callable[[], datetime] = now,
    ) -> None:
        """Without `keys_file` every caller is let in, without a name, and rates are per address.

        Raises AccessFileError.
        """
        self.refusals = Refusals(clock)
        self._rate = rate
        self._stale_seconds = stale_seconds
        self._clock = clock
        self._wall_clock = wall_clock
        self._buckets: dict[str, Bucket] = {}
        self._callers: dict[bytes, Caller] = {}
        self._unnamed: OrderedDict[str, Caller] = OrderedDict()
        self._usable = True
        self._good_at = clock()
        self._look_again_at = self._good_at + _LOOK_SECONDS
        self._anyone: Caller | None = None
        self._file: ReloadedFile[ApiKey] | None = None
        if keys_file is None:
            self._anyone = Caller("", scope=EVERY_SOURCE, refusals=self.refusals)
        else:
            self._file = ReloadedFile(keys_file, KEYS_FILE, reloaded=self._reload, failed=self._log_failure)
            self._use(self._file.read())

    @property
    def asks_for_keys(self) -> bool:
        """Whether callers need an API key."""
        return self._anyone is None

    def admit(self, credentials: str | None, peer: str = "") -> Caller:
        """Return the caller of a request with these `credentials`: the value of `Authorization`, scheme Bearer.

        Where no keys are needed, callers differ by `peer`: an address or its network.

        Raises:
            UnauthenticatedError: there is no valid key.
            UnavailableError: the file of keys cannot be used, and the last good keys are stale.
        """
        if self._anyone is not None:
            return self._at(peer) if self._rate else self._anyone
        if not self.look():
            self.refusals.count("stale")
            raise UnavailableError("the file of API keys cannot be used")
        if not credentials:
            self.refusals.count("missing")
            raise UnauthenticatedError("a valid API key is needed")
        # A dict need not compare in constant time here: what the time of a look-up might tell of the SHA-256 of 256
        # random bits says nothing about the bits.
        digest = digest_of(credentials)
        caller = None if digest is None else self._callers.get(digest)
        if caller is None:
            self.refusals.count("unknown")
            raise UnauthenticatedError("a valid API key is needed")
        if caller.expires is not None and caller.expires <= self._wall_clock():
            self.refusals.count("expired", caller.name)
            raise UnauthenticatedError("a valid API key is needed")
        return caller

    def look(self) -> bool:
        """Return whether keys are valid; once a second read a changed file again, and log what was refused."""
        moment = self._clock()
        if moment >= self._look_again_at:
            self._look_again_at = moment + _LOOK_SECONDS
            self.refusals.log()
            if self._file is not None:
                self._read_again(self._file)
        return self._usable

    def _read_again(self, file: ReloadedFile[ApiKey]) -> None:
        if file.look():
            self._usable = True
            self._good_at = self._clock()
            _STALE.set(0)
            return
        stale_seconds = self._clock() - self._good_at
        _STALE.set(stale_seconds)
        if self._usable and stale_seconds >= self._stale_seconds:
            self._usable = False
            log.error("API keys are too old to count; nobody is let in", reason=file.problem)

    def _log_failure(self, reason: str) -> None:
        log.error(
            "API keys not read again; those before still count for a while",
            reason=reason,
            seconds=max(0.0, self._stale_seconds - (self._clock() - self._good_at)),
        )

    def _reload(self, keys: Sequence[ApiKey]) -> None:
        self._use(keys)
        log.info("API keys read again", keys=len(keys))

    def _use(self, keys: Sequence[ApiKey]) -> None:
        self._callers = {bytes.fromhex(key.sha256): self._caller(key) for key in keys}

    def _caller(self, key: ApiKey) -> Caller:
        return Caller(
            key.name,
            scope=Scope(key.sources),
            refusals=self.refusals,
            rights=key.may,
            expires=key.expires,
            bucket=self._bucket(key.name),
        )

    def _at(self, peer: str) -> Caller:
        """Return the caller at an address. Beyond the limit the address that called longest ago is forgotten."""
        caller = self._unnamed.get(peer)
        if caller is None:
            bucket = Bucket(self._rate, self._clock)
            caller = self._unnamed[peer] = Caller("", scope=EVERY_SOURCE, refusals=self.refusals, bucket=bucket)
            if len(self._unnamed) > _ADDRESSES_MAX:
                self._unnamed.popitem(last=False)
        else:
            self._unnamed.move_to_end(peer)
        return caller

    def _bucket(self, name: str) -> Bucket | None:
        """Return the rate of a name. Its keys share it, and reading the file again does not refill it."""
        if not self._rate:
            return None
        return self._buckets.setdefault(name, Bucket(self._rate, self._clock))


def open_access(settings: AccessSettings, *, host: str, host_setting: str, clock: Clock = time.monotonic) -> Access:
    """Return who may use a service that listens on `host`.

    Raises:
        FatalError: the file of keys cannot be used, or the network could call without a key and no setting allows that.
    """
    if not settings.api_keys_file and not settings.allow_anonymous and not is_loopback(host):
        raise FatalError(
            f"{host_setting} listens beyond this machine and no API keys are asked for: set ETLPAY_API_KEYS_FILE, "
            "or ETLPAY_ALLOW_ANONYMOUS=true where something else decides who can reach it"
        )
    try:
        return Access(
            Path(settings.api_keys_file) if settings.api_keys_file else None,
            rate=settings.rate_per_key,
            stale_seconds=settings.api_keys_stale_seconds,
            clock=clock,
        )
    except AccessFileError as error:
        raise FatalError(str(error)) from error


def is_loopback(host: str) -> bool:
    """Tell whether only this machine reaches a listener on `host`. A name other than `localhost` counts as not."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
