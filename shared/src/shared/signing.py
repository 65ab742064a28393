"""Entries of the cache, signed: what was not written by one of us, there, for this ledger and not long ago, is nothing.

Whoever holds the cache can then leave entries out, and can neither invent one, nor change one, nor put one in the
place of another, nor bring back one that has expired or that tells of a ledger that is no more.
"""

import hashlib
import hmac
from typing import Final

_TAG_BYTES: Final = 16
_MOMENT_BYTES: Final = 8


class Signer:
    """Signs and verifies entries of one ledger."""

    def __init__(self, key: str, epoch: str) -> None:
        """`key` is the secret of those who may write; `epoch` tells the ledger from any other that has its address."""
        secret = hashlib.sha256(key.encode()).digest()
        self._key = hashlib.blake2b(epoch.encode(), key=secret, digest_size=32).digest()

    def sign(self, name: str, value: bytes, *, expires_at: int) -> bytes:
        """Return the entry under `name`, until `expires_at` (seconds since 1970)."""
        dated = expires_at.to_bytes(_MOMENT_BYTES, "big") + value
        return self._tag(name, dated) + dated

    def verified(self, name: str, entry: bytes, *, at: int) -> bytes | None:
        """Return the value of an entry that was found under `name` at a moment; None where it is not ours, or old."""
        tag, dated = entry[:_TAG_BYTES], entry[_TAG_BYTES:]
        if not hmac.compare_digest(tag, self._tag(name, dated)):
            return None
        return dated[_MOMENT_BYTES:] if int.from_bytes(dated[:_MOMENT_BYTES], "big") > at else None

    def _tag(self, name: str, dated: bytes) -> bytes:
        # A name holds no NUL: where it ends is clear. BLAKE2 with a key needs no HMAC around it (RFC 7693).
        return hashlib.blake2b(b"%b\0%b" % (name.encode(), dated), key=self._key, digest_size=_TAG_BYTES).digest()
