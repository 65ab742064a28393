"""A foreign message, and how its headers are read."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

# CloudEvents' attributes go by three prefixes on AMQP 0-9-1.
CLOUD_EVENTS: Final = ("ce-", "cloudEvents_", "cloudEvents:")


class Message(msgspec.Struct, frozen=True):
    """What a foreign publisher sent. `headers` hold values of any AMQP type; a text that it did not give is empty.

    `user_id` is the publisher's user, which the broker has checked. `is_readable` is False where the headers and
    properties could not be read, so that none of them is here.
    """

    body: bytes
    headers: Mapping[str, Any]
    content_type: str = ""
    message_id: str = ""
    content_encoding: str = ""
    type: str = ""
    timestamp: datetime | None = None
    correlation_id: str = ""
    app_id: str = ""
    user_id: str = ""
    is_readable: bool = True


def text_of(value: Any) -> str | None:  # noqa: ANN401 - of any AMQP type
    """Return the value of a header as text; None where it is empty, or of a type that is no text or number."""
    match value:
        case bool():
            return None
        case bytes() | bytearray() as raw if raw:
            # Bytes that are not UTF-8 stay distinct: each becomes a lone surrogate.
            return bytes(raw).decode("utf-8", "surrogateescape")
        case str() as text if text:
            return text
        case int() as number:
            return str(number)
    return None


def has_any(headers: Mapping[str, Any], names: frozenset[str]) -> bool:
    """Return True where one of the names is among the headers. Most messages need no further search then."""
    return not names.isdisjoint(headers)


def texts(headers: Mapping[str, Any], names: Sequence[str]) -> Iterator[str]:
    """Yield the texts of the named headers, in the order of the names."""
    for name in names:
        if name in headers and (text := text_of(headers[name])) is not None:
            yield text
