"""The keys of keyed hashes, by the ids that versions of pipelines name. Pure."""

from shared.pipelines.facts import key_id


def keys_by_id(current: str, former: str) -> dict[str, bytes]:
    """Return the keys by their ids: `current`, and those of `former`, one a line. Empty ones are none."""
    keys = [text.encode() for text in (current, *map(str.strip, former.splitlines())) if text]
    return {key_id(key): key for key in keys}
