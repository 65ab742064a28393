"""Reads messages whose properties cannot be read.

RabbitMQ accepts header names and properties that are not UTF-8. The client library ends the connection on such a
message, and the broker delivers it again without end: it would stop the queue, and the messages delivered beside it
would reach their delivery limit. With this patch the message is read without its properties. Its body is complete, and
`UnreadableProperties` say that the properties are missing.
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
    """The properties of a message whose properties cannot be read: none."""


def patch_unreadable_properties() -> None:
    """Make the client library read such messages without their properties, in this process. Idempotent."""
    read = ContentHeader.unmarshal
    if hasattr(read, _MARK):
        return

    @wraps(read)
    def read_or_skip_properties(self: ContentHeader, data: bytes) -> None:
        try:
            read(self, data)
        except _UNREADABLE as error:
            # The size comes before the properties. Without it the frames that follow could not be parsed.
            self.class_id, self.weight, self.body_size = struct.unpack(">HHQ", data[:12])
            self.properties = UnreadableProperties()
            log.warning("message read without its properties: they are not readable", error=type(error).__name__)

    setattr(read_or_skip_properties, _MARK, True)
    ContentHeader.unmarshal = read_or_skip_properties  # type: ignore[method-assign] # the library has no setting for this
