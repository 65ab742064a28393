"""The keys of `hmac` masks and of the subjects of personal data. Pure."""

from typing import Final

from shared.contracts.errors import FatalError

MASK_KEY_FACT: Final = "mask_key"
"""What a version's bundle calls the id of the key that it was made for."""

_CHARS_MIN: Final = 32


def read_mask_keys(text: str) -> dict[str, bytes]:
    """Return the keys by their ids; `text` has one a line, as `ID:KEY`.

    Raises FatalError: a line is none, a key is shorter than 32 characters, or an id has two.
    """
    keys: dict[str, bytes] = {}
    for number, line in enumerate(filter(None, map(str.strip, text.splitlines())), 1):
        key_id, colon, key = (part.strip() for part in line.partition(":"))
        if not (key_id and colon) or len(key) < _CHARS_MIN:
            raise FatalError(f"mask key {number} must be ID:KEY, with a key of at least {_CHARS_MIN} characters")
        if key_id in keys:
            raise FatalError(f"mask key {number} has the id of another; a key is added, never replaced")
        keys[key_id] = key.encode()
    return keys
