"""API keys, and the TOML file that holds their hashes.

A key is 256 random bits, so its plain SHA-256 is kept: such a key cannot be guessed from its hash, and a slow hash as
for passwords would only make each request, and a flood of wrong keys, expensive.
"""

import hashlib
import secrets
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Final, Literal, get_args

import msgspec

from shared.auth.files import FileFormat
from shared.contracts.event import source_problem

Right = Literal["send", "read", "audit"]

RIGHTS: Final[tuple[Right, ...]] = get_args(Right)
KEY_PREFIX: Final = "etlp_"
KEYS_PER_NAME_MAX: Final = 2
_KEYS_MAX: Final = 1_000
_KEY_BYTES: Final = 32
_CREDENTIALS_CHARS_MAX: Final = 256
_SCHEME: Final = "bearer "


class ApiKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is kept of one key. `sources` are exact names, or beginnings that end with `*`.

    Its rights hold for these sources only. A key without `may` has every right: older releases wrote no rights. One
    that `expires` is refused from that moment on.
    """

    name: Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}\Z")]
    sha256: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
    sources: Annotated[tuple[str, ...], msgspec.Meta(min_length=1, max_length=1_000)]
    created: datetime
    may: Annotated[tuple[Right, ...], msgspec.Meta(min_length=1, max_length=len(RIGHTS))] = RIGHTS
    expires: Annotated[datetime, msgspec.Meta(tz=True)] | None = None


class _KeyList(msgspec.Struct, forbid_unknown_fields=True):
    keys: list[ApiKey] = []


def generate_key() -> str:
    """Return a new key."""
    return KEY_PREFIX + secrets.token_urlsafe(_KEY_BYTES)


def hash_key(key: str) -> str:
    """Return the hash of a key, as the file holds it."""
    return hashlib.sha256(key.encode()).hexdigest()


def digest_of(credentials: str) -> bytes | None:
    """Return the hash of the key in `Bearer etlp_...`, or None where there is no key."""
    key = credentials[len(_SCHEME) :].strip(" ")
    if len(credentials) > _CREDENTIALS_CHARS_MAX or credentials[: len(_SCHEME)].lower() != _SCHEME:
        return None
    return hashlib.sha256(key.encode(errors="replace")).digest() if key.startswith(KEY_PREFIX) else None


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


KEYS_FILE: Final = FileFormat(
    "API keys", lambda content: msgspec.toml.decode(content, type=_KeyList).keys, keys_problem
)
"""The file that `etlpay keys` writes and that services read again."""
