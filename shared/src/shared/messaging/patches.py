"""Reads messages whose properties cannot be read.

A header's name or a property that is not UTF-8 (RabbitMQ takes both) makes the client library end the connection, and
the broker deliver the message again, for ever: one such message would stop a queue, and in the end set its innocent
neighbours aside with it. So where the properties cannot be read the message is read without them. Its body is whole,
and `UnreadableProperties` say that they are missing.
"""

import struct
from functools import wraps

import structlog
from pamqp.commands import Basic
from pamqp.exceptions import PAMQPException
from pamqp.header import ContentHeader

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_MARK = "reads_without_properties"
# Tables within tables, a thousand deep, fit into one frame.
_UNREADABLE = (RecursionError, ValueError, OverflowError, LookupError, TypeError, OSError, struct.error, PAMQPException)


class UnreadableProperties(Basic.Properties):
    """What a message has in place of properties that cannot be read: none."""


def patch_unreadable_properties() -> None:
    """Let the client library, in this process, read such messages without their properties. Idempotent."""
    read = ContentHeader.unmarshal
    if hasattr(read, _MARK):
        return

    @wraps(read)
    def read_what_can_be_read(self: ContentHeader, data: bytes) -> None:
        try:
            read(self, data)
        except _UNREADABLE as error:
            # The size stands before the properties; without it the frames that follow could not be told apart.
            self.class_id, self.weight, self.body_size = struct.unpack(">HHQ", data[:12])
            self.properties = UnreadableProperties()
            log.warning("message read without its properties: they are not readable", error=type(error).__name__)

    setattr(read_what_can_be_read, _MARK, True)
    ContentHeader.unmarshal = read_what_can_be_read  # type: ignore[method-assign] # the library has no door for this
