"""Parking: a foreign message that cannot become an event is kept with its bytes, headers and properties.

Headers and properties become tables within our own headers. As headers of the new message they would have an effect:
`CC` would send a copy to any queue that it names, with our permission to write there.
"""

import uuid
from collections.abc import Mapping
from typing import Any, Final, Protocol

from aio_pika import DeliveryMode, Message
from pamqp import encode
from pamqp.commands import Basic

# All headers of a message fit into one frame of 128 KiB, with the properties and our own headers.
_HEADERS_BYTES_MAX: Final = 120 * 1024
_NAME_BYTES_MAX: Final = 128
_LEFT_OUT: Final = "left out: too large"


class Parkable(Protocol):
    """A message that came from a foreign queue, such as `shared.messaging.consumer.Delivery`."""

    body: bytes
    properties: Basic.Properties


def parked_message(parkable: Parkable, *, reason: str, queue: str) -> Message:
    """Return the message to park for one that came from `queue`."""
    properties: dict[str, Any] = {name: value for name, value in parkable.properties if value not in (None, "")}
    headers = properties.pop("headers", {})
    return Message(
        parkable.body,
        headers={
            "etlpay-reason": reason,
            "etlpay-queue": queue,
            "etlpay-properties": properties,
            "etlpay-headers": _kept(headers),
        },
        delivery_mode=DeliveryMode.PERSISTENT,
        # New for every attempt: the client library matches returned messages by it.
        message_id=uuid.uuid4().hex,
    )


def _kept(headers: Mapping[str, Any]) -> dict[str, Any] | str:
    try:
        table = _encodable(dict(headers))
        return table if len(encode.field_table(table)) <= _HEADERS_BYTES_MAX else _LEFT_OUT
    except (RecursionError, ValueError):
        return _LEFT_OUT


def _encodable(value: Any) -> Any:  # noqa: ANN401 - of any AMQP type
    """Return a value that the library can encode. Raises ValueError for a name that it would truncate."""
    match value:
        case dict():
            if any(len(name.encode()) > _NAME_BYTES_MAX for name in value):
                raise ValueError("a name is too long")
            return {name: _encodable(inner) for name, inner in value.items()}
        case list():
            return [_encodable(inner) for inner in value]
        case bytes():
            return bytearray(value)
    return value
