"""Whom a key stands for. The file of keys is read again when it changes; keys that cannot be read again go stale."""

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

import prometheus_client
import structlog

from shared.auth.keys import RIGHTS, ApiKey, KeysFileError, Right, digest_of, read_keys
from shared.auth.rate import Bucket, Clock
from shared.auth.refusals import Refusals
from shared.auth.scopes import EVERY_SOURCE, OutOfScopeError, RightMissingError, Scope
from shared.contracts.errors import EtlPayError, FatalError, UnavailableError
from shared.contracts.event import now
from shared.settings import AccessSettings

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

KEYS: Final = "api_keys"
"""The dependency that a service with API keys has: a file of them that can be read."""

_LOOK_SECONDS: Final = 1.0
_ADDRESSES_MAX: Final = 10_000
_STALE: Final = prometheus_client.Gauge(
    "etlpay_api_keys_stale_seconds", "How long ago the API keys in use could be read, where they cannot be now; else 0."
)


class UnauthenticatedError(EtlPayError):
    """There is no valid API key. Which of missing, unknown, revoked and expired it is, is not told."""


class Caller:
    """Whom a key stands for: its name, what it may do, for which sources, how fast."""

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
        """Count events before they are taken. Raises RateExceededError."""
        if self._bucket is not None:
            self._bucket.spend(events)

    def check_rate(self) -> None:
        """Raise RateExceededError where the rate is used up; what does not know yet how much it takes asks so."""
        self.spend(0)

    def overdraw(self, events: int) -> None:
        """Count events of a request that was let in before it was known how many they are."""
        if self._bucket is not None:
            self._bucket.overdraw(events)


class Access:
    """Knows the callers. A change of the file of keys counts within a second.

    While the file cannot be used the last good keys count for `stale_seconds` more, and then nobody is let in: a key
    that was revoked with a slip of the pen, or by deleting the file, is not valid without end.
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
        """Without `keys_file` everybody is let in, without a name; rates are per address then. Raises KeysFileError."""
        self.refusals = Refusals(clock)
        self._file = keys_file
        self._rate = rate
        self._stale_seconds = stale_seconds
        self._clock = clock
        self._wall_clock = wall_clock
        self._buckets: dict[str, Bucket] = {}
        self._callers: dict[bytes, Caller] = {}
        self._unnamed: OrderedDict[str, Caller] = OrderedDict()
        self._seen: tuple[int, ...] | None = None
        self._complaint: tuple[tuple[int, ...] | None, str] | None = None
        self._usable = True
        self._good_at = clock()
        self._look_again_at = self._good_at + _LOOK_SECONDS
        self._anyone: Caller | None = None
        if keys_file is None:
            self._anyone = Caller("", scope=EVERY_SOURCE, refusals=self.refusals)
        else:
            self._seen = _fingerprint(keys_file)
            self._use(read_keys(keys_file))

    @property
    def asks_for_keys(self) -> bool:
        """Tell whether there are API keys at all."""
        return self._anyone is None

    def admit(self, credentials: str | None, peer: str = "") -> Caller:
        """Return the caller that `credentials`, an `Authorization` of the scheme Bearer, stand for.

        Where no keys are asked for it is whoever calls from `peer`, an address or its network.

        Raises:
            UnauthenticatedError: they are missing or stand for nobody (any more).
            UnavailableError: nobody can be let in, because the file of keys cannot be used.
        """
        if self._anyone is not None:
            return self._at(peer) if self._rate else self._anyone
        if not self.look():
            self.refusals.count("stale")
            raise UnavailableError("the file of API keys cannot be used")
        if not credentials:
            self.refusals.count("missing")
            raise UnauthenticatedError("a valid API key is needed")
        # One look-up, which may take longer for one digest than for another: whoever could use that would have to find
        # 256 random bits whose SHA-256 begins like one that is kept, and learns nothing of a key from it.
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
        """Return whether keys count; once a second see whether the file has changed, and tell what was refused."""
        moment = self._clock()
        if moment >= self._look_again_at:
            self._look_again_at = moment + _LOOK_SECONDS
            self.refusals.tell()
            if self._file is not None:
                self._read_again(self._file)
        return self._usable

    def _read_again(self, file: Path) -> None:
        seen = None
        try:
            # Asking for its state, and reading a small file that changed, take less than handing that to a thread.
            seen = _fingerprint(file)
            if seen != self._seen:
                self._use(read_keys(file))
        except KeysFileError as error:
            self._complain(seen, str(error))
            return
        if seen != self._seen or self._complaint is not None:
            log.info("API keys read again", keys=len(self._callers))
        self._seen, self._complaint, self._usable = seen, None, True
        self._good_at = self._clock()
        _STALE.set(0)

    def _complain(self, seen: tuple[int, ...] | None, reason: str) -> None:
        """Tell what is wrong, once, and once more when the keys have become too old."""
        stale_seconds = self._clock() - self._good_at
        _STALE.set(stale_seconds)
        # Tried again every second, because what was wrong need not change the file.
        if self._complaint != (seen, reason):
            self._complaint = (seen, reason)
            log.error(
                "API keys not read again; those before still count for a while",
                reason=reason,
                seconds=max(0.0, self._stale_seconds - stale_seconds),
            )
        if self._usable and stale_seconds >= self._stale_seconds:
            self._usable = False
            log.error("API keys are too old to count; nobody is let in", reason=reason)

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
        """Return who calls from an address. Where many do, those that have not called for longest begin anew."""
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
        """Return the rate of a name: both of its keys share it, and reading them again does not refill it."""
        if not self._rate:
            return None
        return self._buckets.setdefault(name, Bucket(self._rate, self._clock))


def open_access(settings: AccessSettings, *, host: str, host_setting: str, clock: Clock = time.monotonic) -> Access:
    """Return who may use a service that listens on `host`.

    Raises:
        FatalError: the file of keys cannot be used, or anybody on the network could come in and nobody said so.
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
    except KeysFileError as error:
        raise FatalError(str(error)) from error


def is_loopback(host: str) -> bool:
    """Tell whether only this machine reaches a listener on `host`. A name other than `localhost` counts as not."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _fingerprint(path: Path) -> tuple[int, ...]:
    """Return what changes with the file's content and with who may read it, however it was replaced."""
    try:
        found = path.stat()
    except OSError as error:
        raise KeysFileError(f"the file of API keys cannot be read ({type(error).__name__})") from error
    return (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
