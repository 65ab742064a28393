"""Places: where a value of an event is found. Text to `Location`, and back. Pure."""

import re
from enum import Enum
from typing import Final

import msgspec

ATTRIBUTES: Final = (
    *("@source", "@id", "@type", "@channel", "@row", "@file", "@file_at", "@occurred_at", "@received_at"),
    *("@index", "@key", "@value"),
)
"""`@index`, `@key` and `@value` are those of the current element; the others are those of the event."""

_POSITION: Final = re.compile(r"#(?P<number>[1-9][0-9]{0,4})", re.ASCII)
_BAD_ESCAPE: Final = re.compile(r"~(?![01])")
_DOTTED: Final = re.compile(r"\$?\.?[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+|\$\.\w+")
STAR: Final = "*"


class Origin(Enum):
    """What a place starts from."""

    ROOT = "the payload"
    ELEMENT = "the current element"
    POSITION = "the columns of a CSV row, by number"
    ATTRIBUTE = "what is known of the event"


class Location(msgspec.Struct, frozen=True):
    """A place that was read. `steps`: names of members, in order; `*` is every element (never a member of that name).

    `number`: of a column, from 1. `attribute`: with its `@`.
    """

    origin: Origin
    steps: tuple[str, ...] = ()
    number: int = 0
    attribute: str = ""


class PlaceError(ValueError):
    """The text is no place; the message says what was meant where that can be told."""


def read_place(text: str) -> Location:
    """Return the location that a text names. Raises PlaceError."""
    if not text:
        raise PlaceError("is empty; name a place, such as /data/object/id")
    if text.startswith("@"):
        return _attribute(text)
    if found := _POSITION.fullmatch(text):
        return Location(Origin.POSITION, number=int(found["number"]))
    if text.startswith("/"):
        return Location(Origin.ROOT, _steps(text))
    if text.startswith("./"):
        return Location(Origin.ELEMENT, _steps(text[1:]))
    if _DOTTED.fullmatch(text):
        pointer = "/" + text.lstrip("$.").replace(".", "/")
        raise PlaceError(f"is no place; did you mean {pointer}? (./{text} is a member with a dot in its name)")
    return Location(Origin.ELEMENT, (text,))


def pointer_of(*steps: str | int) -> str:
    """Return a JSON Pointer (RFC 6901) of names of members and numbers of elements."""
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in steps)


def _attribute(text: str) -> Location:
    if text not in ATTRIBUTES:
        raise PlaceError(f"is no attribute; there are {', '.join(ATTRIBUTES)}")
    return Location(Origin.ATTRIBUTE, attribute=text)


def _steps(pointer: str) -> tuple[str, ...]:
    if _BAD_ESCAPE.search(pointer):
        raise PlaceError("has a ~ that is neither ~0 (for ~) nor ~1 (for /)")
    return tuple(step.replace("~1", "/").replace("~0", "~") for step in pointer[1:].split("/"))
