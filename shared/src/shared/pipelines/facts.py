"""What decides a result beside the files of a version, so that it is part of the version. Pure."""

import hashlib
from importlib.metadata import version as release_of
from typing import Final

from shared.pipelines.model import Moment, Pipeline
from shared.pipelines.values.money import currencies

CURRENCIES: Final = "currencies"
"""The date of the table of currencies."""
ZONES: Final = "zones"
"""The release of IANA's time zones."""
MASK_KEY: Final = "mask_key"
"""The id of the key of keyed hashes."""

_KEY_DIGITS: Final = 12


def facts_of(pipeline: Pipeline, mask_key: bytes = b"") -> dict[str, str]:
    """Return the facts that a pipeline depends on, by name; the mask key's id is left out where there is no key."""
    columns = [column for table in pipeline.table for column in table.columns.values()]
    occurred_at = pipeline.event.occurred_at
    facts: dict[str, str] = {}
    if any(column.type in {"money", "currency"} for column in columns):
        facts[CURRENCIES] = currencies().dated
    if any(column.zone for column in columns) or (isinstance(occurred_at, Moment) and occurred_at.zone):
        facts[ZONES] = release_of("tzdata")
    if needs_mask_key(pipeline) and mask_key:
        facts[MASK_KEY] = key_id(mask_key)
    return facts


def needs_mask_key(pipeline: Pipeline) -> bool:
    """Tell whether rows or events hold keyed hashes."""
    return "hmac" in pipeline.mask.values() or pipeline.personal is not None


def key_id(mask_key: bytes) -> str:
    """Return the id of a key, by which it is told from others and cannot be found."""
    return hashlib.sha256(mask_key).hexdigest()[:_KEY_DIGITS]
