"""The keys of a message's events: the id that its producer gave, or a key that is derived of the message.

Derived keys begin with what they were derived of (`mid`, `item`, `source`, `sha256`), so no two of a kind meet, and
they have a name space of their own, so no id that a producer gives meets one of them. See `shared.contracts.event`.
"""

import hashlib
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from queue_consumer.message import CLOUD_EVENTS, Message, has_any, texts
from shared.contracts.event import id_problem

_ID_HEADERS: Final = (*(f"{prefix}id" for prefix in CLOUD_EVENTS), "id")
_ID_NAMES: Final = frozenset(_ID_HEADERS)
# The longest id within a derived key, so that the key has at most 255 characters.
_PART_CHARS_MAX: Final = 220
_BODY_HASH_CHARS: Final = 16


# An idempotency key, empty where nothing names the event, and whether it was derived.
Key: TypeAlias = tuple[str, bool]


def own_id(headers: Mapping[str, Any]) -> str:
    """Return the id that the producer gave in a header; empty: none."""
    return next(texts(headers, _ID_HEADERS), "") if has_any(headers, _ID_NAMES) else ""


def whole_key(own: str, message: Message) -> Key:
    """Return the key of a message that is one event: `own` as it is, else one that a redelivery has again.

    A `message_id` alone is not enough: publishers reuse it for other content.
    """
    if own:
        return (own, False) if id_problem(own) is None else (f"sha256:{_hash(own)}", True)
    return (_message_key(message), True) if message.message_id else ("", False)


def item_stem(own: str, message: Message) -> str:
    """Return what stands before `#<index>` in the keys of a message's items; empty where nothing names them.

    The id of a message is that of the whole, so the key of an item is always derived.
    """
    if own:
        return _tagged("item", own)
    return _message_key(message) if message.message_id else ""


def invalid_source_key(given: str, key: str, *, derived: bool) -> Key:
    """Return the key of a message whose source, `given`, is not valid: a different one for each such source."""
    if not key:
        return "", False
    return f"source:{_hash(given)}:{_hash(f'{derived:d}:{key}')}", True


def _message_key(message: Message) -> str:
    body_hash = hashlib.sha256(message.body).hexdigest()[:_BODY_HASH_CHARS]
    return f"{_tagged('mid', message.message_id)}:{body_hash}"


def _tagged(tag: str, text: str) -> str:
    """Return the text after its tag; one that is too long, or not printable, by its hash and under another tag."""
    if len(text) <= _PART_CHARS_MAX and id_problem(text) is None:
        return f"{tag}:{text}"
    return f"{tag}-sha256:{_hash(text)}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
