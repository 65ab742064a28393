"""A message whose properties cannot be read is read without them, and says so."""

import struct

import pytest
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from shared.messaging.patches import UnreadableProperties, patch_unreadable_properties


def frame(table: bytes) -> bytes:
    """Return a content header of a message of two bytes whose headers are `table`."""
    return struct.pack(">HHQ", 60, 0, 2) + struct.pack(">H", 0x2000) + struct.pack(">I", len(table)) + table


def nested(levels: int) -> bytes:
    table = b""
    for _ in range(levels):
        table = b"\x01tF" + struct.pack(">I", len(table)) + table
    return table


@pytest.mark.parametrize(
    "table",
    [b"\x03k\xff\xfeS\x00\x00\x00\x01v", b"\x01k?", b"\x05k", nested(1_000), nested(15_000)],
    ids=["a name that is no text", "a type that is none", "cut off", "nested", "nested deeply"],
)
def test_headers_that_cannot_be_read_end_no_connection(table: bytes) -> None:
    patch_unreadable_properties()
    header = ContentHeader()

    header.unmarshal(frame(table))

    assert isinstance(header.properties, UnreadableProperties)
    assert header.body_size == 2


def test_headers_that_can_be_read_are_read() -> None:
    patch_unreadable_properties()
    header = ContentHeader()

    header.unmarshal(frame(b"\x01kS\x00\x00\x00\x01v"))

    assert type(header.properties) is Basic.Properties
    assert header.properties.headers == {"k": "v"}
