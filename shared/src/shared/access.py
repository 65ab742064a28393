"""Who may send what, and how fast: API keys, the sources of each, a rate. Both doors that callers reach use it.

A key is 256 random bits, so what is kept is its plain SHA-256: nobody guesses such a key from its hash, and a slow hash
as for passwords would only make each request, and a flood of wrong keys, expensive.
"""

import hashlib
import hmac
import ipaddress
import math
import secrets
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Final

import msgspec
import structlog

from shared.contracts.errors import EtlPayError, FatalError, RefusedError
from shared.contracts.event import source_problem
from shared.contracts.outcome import Problem
from shared.settings import AccessSettings

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

KEY_PREFIX: Final = "etlp_"
KEYS_PER_NAME_MAX: Final = 2
_KEYS_MAX: Final = 1_000
_KEY_BYTES: Final = 32
_CREDENTIALS_CHARS_MAX: Final = 256
_SCHEME: Final = "bearer "
_FILE_BYTES_MAX: Final = 4 * 1024 * 1024
_LOOK_SECONDS: Final = 1.0

Clock = Callable[[], float]


class UnauthenticatedError(EtlPayError):
    """There is no valid API key. Which of missing, unknown and revoked it is, is not told."""


class OutOfScopeError(RefusedError):
    """The source is not one of the API key's. Which others exist is not told."""

    def __init__(self) -> None:
        """Name the place."""
        super().__init__([Problem("/source_name", "is not among the sources of this API key")])


class RateExceededError(EtlPayError):
    """The caller has sent more than its rate allows. Nothing was taken."""

    def __init__(self, rate: float, retry_after_seconds: int) -> None:
        """`rate` in events a second; the caller may send again after `retry_after_seconds`."""
        super().__init__("too many events")
        self.rate = rate
        self.retry_after_seconds = retry_after_seconds


class KeysFileError(EtlPayError):
    """The file of API keys cannot be used."""


class ApiKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One active key, without the key. `sources` are exact names, or beginnings that end with `*`."""

    name: Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}\Z")]
    sha256: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
    sources: Annotated[tuple[str, ...], msgspec.Meta(min_length=1, max_length=1_000)]
    created: datetime


class _KeyList(msgspec.Struct, forbid_unknown_fields=True):
    keys: list[ApiKey] = []


class Bucket:
    """A rate: `rate` events a second, and as many at once after a pause.

    It may be overdrawn by one request, which later ones wait for, so a batch larger than a second's worth is taken and
    the average holds all the same. Limiters in libraries take a request of N whole or never.
    """

    def __init__(self, rate: float, clock: Clock) -> None:
        """Begin full."""
        self.rate = rate
        self._clock = clock
        self._level = self._size = max(rate, 1.0)
        self._filled_at = clock()

    def spend(self, events: int) -> None:
        """Take `events`, unless it is overdrawn. Raises RateExceededError."""
        now = self._clock()
        self._level = min(self._size, self._level + (now - self._filled_at) * self.rate)
        self._filled_at = now
        if self._level <= 0:
            raise RateExceededError(self.rate, max(1, math.ceil(-self._level / self.rate)))
        self._level -= events

    def overdraw(self, events: int) -> None:
        """Take `events` that are in hand already."""
        self._level -= events


class Caller:
    """Whom a key stands for."""

    def __init__(self, name: str, sources: Sequence[str], bucket: Bucket | None = None) -> None:
        """Without a bucket there is no rate."""
        self.name = name
        self._exact = frozenset(sources)
        self._beginnings = tuple(source.removesuffix("*") for source in sources if source.endswith("*"))
        self._bucket = bucket

    def check_source(self, source: str) -> None:
        """Raise OutOfScopeError where events of this source are outside the key's scope."""
        if source not in self._exact and not source.startswith(self._beginnings):
            raise OutOfScopeError

    def spend(self, events: int) -> None:
        """Count events before they are taken. Raises RateExceededError."""
        if self._bucket is not None:
            self._bucket.spend(events)

    def overdraw(self, events: int) -> None:
        """Count events of a request that was let in before it was known how many they are."""
        if self._bucket is not None:
            self._bucket.overdraw(events)


class Access:
    """Knows the callers. The file of keys is read again within a second of its change."""

    def __init__(self, keys_file: Path | None, *, rate: float = 0, clock: Clock = time.monotonic) -> None:
        """Without `keys_file` everybody is let in, as one caller. Raises KeysFileError."""
        self._file = keys_file
        self._rate = rate
        self._clock = clock
        self._buckets: dict[str, Bucket] = {}
        self._callers: list[tuple[bytes, Caller]] = []
        self._seen: tuple[int, ...] | None = None
        self._complaint: tuple[tuple[int, ...] | None, str] | None = None
        self._look_again_at = clock() + _LOOK_SECONDS
        self._anyone = None if keys_file else Caller("", ("*",), self._bucket(""))
        if keys_file is not None:
            self._seen = _fingerprint(keys_file)
            self._use(read_keys(keys_file))

    @property
    def asks_for_keys(self) -> bool:
        """Tell whether there are API keys at all."""
        return self._anyone is None

    def admit(self, credentials: str | None) -> Caller:
        """Return the caller that `credentials`, an `Authorization` of the scheme Bearer, stand for.

        Raises:
            UnauthenticatedError: they are missing or stand for nobody.
        """
        if self._anyone is not None:
            return self._anyone
        self._look()
        presented = _digest(credentials or "")
        found: Caller | None = None
        # All are compared, each in constant time: how long it takes says nothing about any of them.
        for digest, caller in self._callers:
            if hmac.compare_digest(digest, presented):
                found = caller
        if found is None:
            raise UnauthenticatedError("a valid API key is needed")
        return found

    def _look(self) -> None:
        """Read the file again where it changed. One that cannot be used changes nothing: the keys before it count."""
        now = self._clock()
        if self._file is None or now < self._look_again_at:
            return
        self._look_again_at = now + _LOOK_SECONDS
        seen = None
        try:
            # Asking for its state, and reading a small file that changed, take less than handing that to a thread.
            seen = _fingerprint(self._file)
            if seen == self._seen:
                return
            self._use(read_keys(self._file))
        except KeysFileError as error:
            # Tried again every second, because what was wrong need not change the file; told once.
            if self._complaint != (seen, str(error)):
                self._complaint = (seen, str(error))
                log.error("API keys not read again; those before still count", reason=str(error))  # noqa: TRY400 - the reason says it all
        else:
            self._seen, self._complaint = seen, None
            log.info("API keys read again", keys=len(self._callers))

    def _use(self, keys: Sequence[ApiKey]) -> None:
        self._callers = [
            (bytes.fromhex(key.sha256), Caller(key.name, key.sources, self._bucket(key.name))) for key in keys
        ]

    def _bucket(self, name: str) -> Bucket | None:
        """Return the rate of a name: both of its keys share it, and reading them again does not refill it."""
        if not self._rate:
            return None
        return self._buckets.setdefault(name, Bucket(self._rate, self._clock))


def open_access(settings: AccessSettings, *, host: str, host_setting: str) -> Access:
    """Return who may come in through a door that listens on `host`.

    Raises:
        FatalError: the file of keys cannot be used, or anybody on the network could come in and nobody said so.
    """
    if not settings.api_keys_file and not settings.allow_anonymous and not is_loopback(host):
        raise FatalError(
            f"{host_setting} listens beyond this machine and no API keys are asked for: set ETLPAY_API_KEYS_FILE, "
            "or ETLPAY_ALLOW_ANONYMOUS=true where something else decides who can reach it"
        )
    try:
        return Access(Path(settings.api_keys_file) if settings.api_keys_file else None, rate=settings.rate_per_key)
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


def generate_key() -> str:
    """Return a new key."""
    return KEY_PREFIX + secrets.token_urlsafe(_KEY_BYTES)


def hash_key(key: str) -> str:
    """Return what is kept of a key."""
    return hashlib.sha256(key.encode()).hexdigest()


def read_keys(path: Path) -> list[ApiKey]:
    """Return the keys of a file. Raises KeysFileError, which does not repeat what the file holds."""
    try:
        with path.open("rb") as file:
            content = file.read(_FILE_BYTES_MAX + 1)
        keys = msgspec.toml.decode(content, type=_KeyList).keys
    except OSError as error:
        raise KeysFileError(f"the file of API keys cannot be read ({type(error).__name__})") from error
    except msgspec.ValidationError as error:
        raise KeysFileError(f"the file of API keys is not valid: {error}") from error
    except (msgspec.DecodeError, ValueError) as error:
        raise KeysFileError("the file of API keys is not TOML") from error
    if problem := keys_problem(keys):
        raise KeysFileError(f"the file of API keys is not valid: {problem}")
    return keys


def keys_problem(keys: Sequence[ApiKey]) -> str | None:
    """Return what is wrong with a list of keys as a whole, or None."""
    if len(keys) > _KEYS_MAX:
        return f"more than {_KEYS_MAX} keys"
    if len({key.sha256 for key in keys}) < len(keys):
        return "one hash stands in it twice"
    if max(Counter(key.name for key in keys).values(), default=0) > KEYS_PER_NAME_MAX:
        return f"more than {KEYS_PER_NAME_MAX} keys of one name"
    if any(scope_problem(source) for key in keys for source in key.sources):
        return "a source is neither a name nor the beginning of one with `*` at its end"
    return None


def scope_problem(source: str) -> str | None:
    """Return what is wrong with a source of a key: an exact name, or a beginning with `*` at its end, or None."""
    beginning = source.removesuffix("*")
    if "*" in beginning:
        return "may have a wildcard at its end only"
    return None if source == "*" else source_problem(beginning)


def _digest(credentials: str) -> bytes:
    """Return the hash of the key in `Bearer etlp_...`. Raises UnauthenticatedError where there is none."""
    key = credentials[len(_SCHEME) :].strip(" ")
    if len(credentials) > _CREDENTIALS_CHARS_MAX or credentials[: len(_SCHEME)].lower() != _SCHEME:
        raise UnauthenticatedError("a valid API key is needed")
    if not key.startswith(KEY_PREFIX):
        raise UnauthenticatedError("a valid API key is needed")
    return hashlib.sha256(key.encode(errors="replace")).digest()


def _fingerprint(path: Path) -> tuple[int, ...]:
    """Return what changes with the file's content, however it was replaced."""
    try:
        found = path.stat()
    except OSError as error:
        raise KeysFileError(f"the file of API keys cannot be read ({type(error).__name__})") from error
    return (found.st_ino, found.st_size, found.st_mtime_ns)
