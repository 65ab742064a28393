"""The public view of a stored event and its record, as the gateway answers and the cache keeps it."""

from datetime import datetime
from typing import Literal
from uuid import UUID

import msgspec

from shared.contracts.errors import Problem
from shared.contracts.event import ChannelName

StatusName = Literal["SUCCESS", "FAILED", "HELD"]


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """A processed record with the attributes of its event.

    `result_payload` is JSON as it is stored, or as the body is read; null for a record that is FAILED or HELD. `errors`
    say why a FAILED one failed, and what was odd about another. `file_at` is the moment of the file that it came in.
    """

    id: int
    raw_event_id: int
    event_id: UUID
    source: str
    channel: ChannelName
    status: StatusName
    attempt: int
    result_payload: msgspec.Raw
    errors: tuple[Problem, ...]
    idempotency_key: str | None
    type: str | None
    occurred_at: datetime | None
    received_at: datetime
    file_at: datetime | None = None
    processed_at: datetime


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """A producer of events, and when its first event came."""

    id: int
    name: str
    created_at: datetime
