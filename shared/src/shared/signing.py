"""Signed entries of the cache: an entry is valid only if one of our services wrote it, for this ledger, not long ago.

Who controls the cache can remove entries. It can neither forge nor change an entry, nor move it to another key, nor
bring back one that has expired or belongs to a former ledger.
"""

import hmac
from typing import Final

_TAG_BYTES: Final = 32
_MOMENT_BYTES: Final = 8


class Signer:
    """Signs and verifies entries of one ledger, with HMAC-SHA256."""

    def __init__(self, key: str, epoch: str) -> None:
        """`key` is the secret of the services that write; `epoch` identifies the ledger."""
        own_key = hmac.digest(key.encode(), epoch.encode(), "sha256")
        # Copied for each entry: hashing the key again takes as long as a record of a kilobyte.
        self._begun = hmac.new(own_key, digestmod="sha256")

    def sign(self, subject: str, value: bytes, *, expires_at: int) -> bytes:
        """Return the entry that says `value` of `subject` (without NUL) until `expires_at` (seconds since 1970)."""
        dated = expires_at.to_bytes(_MOMENT_BYTES, "big") + value
        return self._tag(subject, dated) + dated

    def verified(self, subject: str, entry: bytes, *, at: int) -> bytes | None:
        """Return what an entry says of `subject` at a moment; None where it is not ours, of something else or old."""
        tag, dated = entry[:_TAG_BYTES], entry[_TAG_BYTES:]
        if not hmac.compare_digest(tag, self._tag(subject, dated)):
            return None
        return dated[_MOMENT_BYTES:] if int.from_bytes(dated[:_MOMENT_BYTES], "big") > at else None

    def _tag(self, subject: str, dated: bytes) -> bytes:
        tag = self._begun.copy()
        # The subject ends at the first NUL, so no two pairs have the same bytes.
        tag.update(b"%b\0%b" % (subject.encode(), dated))
        return tag.digest()
