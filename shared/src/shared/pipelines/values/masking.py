"""Masks: what is kept of a value that must not be stored as it came. Pure."""

import hashlib
import hmac
from collections.abc import Callable, Mapping
from typing import Final

from shared.pipelines.model import Masking
from shared.pipelines.places import STAR

LAST_DIGITS: Final = 4
_CHARS_MIN_TO_SHOW_LAST: Final = 8
_INDEX_DIGITS_MAX: Final = 9
HIDDEN: Final = "****"
STRICTEST_FIRST: Final[tuple[Masking, ...]] = ("drop", "hmac", "last4", "domain")

Mask = Callable[[str], str | None]


def keyed_hash(text: str, key: bytes) -> str:
    """Return the HMAC (SHA-256) of a text, as 64 hexadecimal digits: equal texts stay equal."""
    return hmac.digest(key, text.encode(), hashlib.sha256).hex()


def last_four(text: str) -> str:
    """Return the last four characters; of a text of fewer than eight, `****`, since four would be most of it."""
    return text[-LAST_DIGITS:] if len(text) >= _CHARS_MIN_TO_SHOW_LAST else HIDDEN


def mail_domain(text: str) -> str | None:
    """Return what stands behind the last `@`, in lower case, or None where there is none."""
    _, sign, domain = text.rpartition("@")
    return domain.lower() if sign and domain else None


def mask_of(method: Masking, key: bytes) -> Mask:
    """Return the function of a method."""
    if method == "drop":
        return lambda _: None
    if method == "hmac":
        return lambda text: keyed_hash(text, key)
    return last_four if method == "last4" else mail_domain


def masked(value: object, masks: Mapping[tuple[str, ...], Mask]) -> object:
    """Return a JSON value with what stands at the given steps masked; `*` is every element. The value itself stays.

    Numbers and booleans are masked by their JSON text, and objects and arrays as a whole are dropped.
    """
    for steps, mask in masks.items():
        value = _masked_at(value, steps, mask)
    return value


def _masked_at(value: object, steps: tuple[str, ...], mask: Mask) -> object:
    if not steps:
        return _masked_whole(value, mask)
    step, rest = steps[0], steps[1:]
    if isinstance(value, dict):
        names = list(value) if step == STAR else [step] if step in value else []
        return {**value, **{name: _masked_at(value[name], rest, mask) for name in names}} if names else value
    if isinstance(value, list):
        chosen = range(len(value)) if step == STAR else [int(step)] if is_index(step, len(value)) else []
        return [_masked_at(each, rest, mask) if number in chosen else each for number, each in enumerate(value)]
    return value


def is_index(step: str, length: int) -> bool:
    """Tell whether a step of a pointer names an element of an array of that length (RFC 6901)."""
    return (
        step.isascii()
        and step.isdigit()
        and (step == "0" or step[0] != "0")
        and len(step) <= _INDEX_DIGITS_MAX
        and int(step) < length
    )


def _masked_whole(value: object, mask: Mask) -> object:
    if value is None or isinstance(value, dict | list):
        return None
    if isinstance(value, bool):
        return mask("true" if value else "false")
    return mask(str(value))
